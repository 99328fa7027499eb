"""From records of webhook topics to events that may be believed: the verbs unwrap, verify and parse of the webhook loop.

Whatever a stranger posts costs itself only: it is refused with a reason, and its bytes are kept. Nothing of a callback is looked
at before it is verified, and its events speak for the account that it was verified with, for no other.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import telemetry.log
from esp.base import Listener
from mail.account import Account
from mail.callback import Callback
from mail.envelope import read_envelope
from mail.errors import BadCallback
from mail.event import Event
from mail.ids import tracking_id
from mail.record import Record
from workers.failpoints import Failpoints
from workers.feedback import event_rules
from workers.feedback.event_rules import Arrival
from workers.flight.flight_log import FlightLog
from workers.steps.quarantine import WHY_CONDEMNED, Quarantine

log = telemetry.log.get("workers.feedback.callbacks")


class Refusal(NamedTuple):
    """A callback that is not believed, or that is not read any more since workers died over it."""

    record: Record
    error: str
    tenant: int = 0
    reason: str = "bad-callback"


@dataclass(slots=True)
class Mailbag:
    """What one batch of records holds. `newest` is, for each account (provider, tenant), up to when it has reported; `postponed`
    are records that cannot be verified just now, for this `problem`, `empty` counts callbacks by provider in which there was no event.
    Of those that were postponed before, by the numbers of their rows: `read` are settled now, `given_up` are not tried any more."""

    arrivals: list[Arrival] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    newest: dict[tuple[str, int], datetime] = field(default_factory=dict)
    postponed: list[Record] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    problem: str = ""
    empty: Counter[str] = field(default_factory=Counter)


class Sorter:
    """`providers` says whose callbacks a topic holds, `accounts` are all that we have; `listener_of` makes the one who reads them."""

    def __init__(
        self,
        providers: Mapping[str, str],
        accounts: Sequence[Account],
        listener_of: Callable[[Account], Listener],
        quarantine: Quarantine,
        flight_log: FlightLog,
        failpoints: Failpoints,
    ):
        self._providers = providers
        self._accounts = {(account.provider, account.tenant): account for account in accounts}
        self._listener_of = listener_of
        self._quarantine = quarantine
        self._flight_log = flight_log
        self._failpoints = failpoints

    def sort(self, records: Sequence[Record]) -> Mailbag:
        """The events of these records, and those records that are refused. The record under hand is named first: it may kill us."""
        bag = Mailbag()
        for record in records:
            if record.value is None:
                continue
            if self._quarantine.is_condemned(record):
                bag.refusals.append(Refusal(record, WHY_CONDEMNED, reason="crashes-worker"))
                continue
            self._flight_log.take_in_hand(record.name)
            self._failpoints.touch(record.value)
            self._read(bag, record, record.value)
        self._flight_log.let_go()
        bag.read += sorted({record.offset for record in records if is_retried(record)} - {record.offset for record in bag.postponed})
        if bag.postponed:
            log.warning("callbacks cannot be verified now, later again", records=len(bag.postponed), problem=bag.problem)
        return bag

    def _read(self, bag: Mailbag, record: Record, value: bytes) -> None:
        """One callback; whatever is wrong with it costs itself only."""
        try:
            self._open(bag, record, value)
        except BadCallback as problem:
            bag.refusals.append(Refusal(record, str(problem)))
        except ConnectionError as problem:  # a certificate that has to be fetched
            bag.postponed.append(record)
            bag.problem = str(problem)
        except Exception as problem:  # a bug of ours, met by one callback: it must not stop all others
            log.exception("a callback could not be read", record=record.name)
            bag.refusals.append(Refusal(record, f"reading it failed with {type(problem).__name__}"))

    def _open(self, bag: Mailbag, record: Record, value: bytes) -> None:
        callback = read_envelope(value, record.received_at_s)
        account = self._account(self._providers[record.topic], callback)
        listener = self._listener_of(account)
        listener.verify(callback)
        arrivals = [_arrival(event, account, record.received_at_s) for event in listener.parse_events(callback.document)]
        bag.arrivals += arrivals
        if arrivals:
            _note_newest(bag, account, arrivals, record.received_at_s)
        else:
            bag.empty[account.provider] += 1

    def _account(self, provider: str, callback: Callback) -> Account:
        """The tenant's own account, else the service's."""
        account = self._accounts.get((provider, callback.tenant)) or self._accounts.get((provider, 0))
        if account is None:
            raise BadCallback(f"there is no account at {provider} that it could be meant for")
        return account


def is_retried(record: Record) -> bool:
    """Was it postponed before? Then its offset is the number of its row."""
    return record.stored_source is not None


def _arrival(event: Event, account: Account, received_at_s: float | None) -> Arrival:
    at, recipient = event_rules.moment_of(event, received_at_s), event.recipient.lower()
    id_ = tracking_id(account.provider, account.tenant, event.event_id)
    return Arrival(id_, event, account.tenant, at, recipient, event_rules.has_signs(event), event.attempt_id)


def _note_newest(bag: Mailbag, account: Account, arrivals: Sequence[Arrival], received_at_s: float | None) -> None:
    """An event from the future says no more than the record that brought it."""
    newest = event_rules.not_after(max([arrival.at for arrival in arrivals]), received_at_s)
    owner = (account.provider, account.tenant)
    bag.newest[owner] = max(newest, bag.newest.get(owner, newest))
