"""The keeper's round over uncertain emails whose grace is over: lease, ask the ESPs, decide by evidence or policy, tell.

It must never hold a transaction while it asks, never take a search that failed for an answer, and never send anything itself: a
resend is a row that becomes due. Keepers of several hosts share the doubts by leases, and a decision is one transaction under the
lock of its job that takes the doubt away: whatever dies, and whenever, nothing is decided twice.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import telemetry.log
from db import doubt, outbox, payloads, replay, watermarks
from db.connection import Cursor, Database
from db.doubt import Doubted, Owner
from esp.base import Esp, Finder, Listener, Search, Sought
from esp.exchange import Exchange
from mail.account import Account
from mail.published import Published
from workers.failpoints import Failpoints
from workers.keeping import doubt_rules
from workers.keeping.doubt_rules import Evidence, Policies, Rulings
from workers.news.status_board import Shown, StatusBoard

log = telemetry.log.get("workers.keeping.doubt_keeper")

LEASE_S = 120.0
ASKED_MOST = 50  # emails about which ESPs are asked in one round
ASKED_AT_ONCE = 4
PAGE = 500
ASKING_S = 8.0  # no search leaves later in a round; together with its own time-out far below the host's lease
SEARCH_TIMEOUT_S = 10.0
FOUND = "found by the ESP's own search"
RESENT = "no evidence came: sent again by policy, still in doubt"


class Terms(NamedTuple):
    """What the settings say: policies, grace, each ESP's webhook topic, where events are published, and the staging guard's address."""

    policies: Policies
    grace_s: float
    webhook_topics: Mapping[str, str]
    events_topic: str
    redirect: str = ""


class Settled(NamedTuple):
    """What a round came to: emails that were taken, emails that are sent again, and by ESP the jobs that were taken twice."""

    taken: list[Doubted]
    resent: list[Doubted]
    duplicates: Counter[str]


class DoubtKeeper:
    """`load` makes an account's adapter; `place` names this keeper in the counters and on the audit log."""

    def __init__(
        self,
        terms: Terms,
        accounts: Iterable[Account],
        load: Callable[[Account], Esp],
        exchange: Exchange,
        database: Database,
        place: str,
        failpoints: Failpoints,
        board: StatusBoard,
        clock: Callable[[Cursor], datetime] = doubt.clock,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self._terms = terms
        self._esps = {(account.provider, account.tenant): load(account) for account in accounts}
        self._searchable = sorted(owner for owner, esp in self._esps.items() if isinstance(esp, Finder))
        self._exchange = exchange
        self._database = database
        self._place = place
        self._failpoints = failpoints
        self._board = board
        self._clock = clock
        self._monotonic = monotonic

    def round(self) -> Settled:
        """Look at what is due to be looked at. Raises StoreUnavailable; then its leases run out and another round looks."""
        leased, doubts = self._database.run(self._lease)
        self._failpoints.hit("doubt-leased")
        found = self._ask(doubts)
        self._failpoints.hit("doubt-asked")
        settled = self._database.run(lambda cursor: self._decide(cursor, leased, found))
        self._failpoints.hit("doubt-recorded")
        self._tell(settled)
        return settled

    def _lease(self, cursor: Cursor) -> tuple[dict[str, str], list[Doubted]]:
        now, grace_s = self._clock(cursor), self._terms.grace_s
        leased = doubt.lease(cursor, self._searchable, True, ASKED_MOST, now, grace_s, LEASE_S)
        leased |= doubt.lease(cursor, self._searchable, False, PAGE, now, grace_s, LEASE_S)
        return leased, doubt.read(cursor, leased)

    # -- asking --------------------------------------------------------------------------------------------------------

    def _ask(self, doubts: Iterable[Doubted]) -> dict[str, bool]:
        """What the ESPs' own searches say, by attempt id; whoever does not answer in time says nothing."""
        deadline_s = self._monotonic() + ASKING_S
        searches = self._searches(doubts)
        found: dict[str, bool] = {}
        # few at a time: where even the look-up of a name hangs, those behind would hang one after the other
        while self._monotonic() < deadline_s and (few := list(islice(searches, ASKED_AT_ONCE))):
            by_request = {id(search.request): (finder, search) for finder, search in few}
            for request, reply in self._exchange.send_all([search.request for _, search in few], lambda _: self._monotonic() < deadline_s):
                finder, search = by_request[id(request)]
                found |= finder.read_found(search, reply)
        return found

    def _searches(self, doubts: Iterable[Doubted]) -> Iterator[tuple[Finder, Search]]:
        by_account: dict[Owner, list[Sought]] = defaultdict(list)
        for doubted in doubts:
            recipient = self._terms.redirect or doubted.recipient
            by_account[doubted.provider, doubted.account_tenant].append(Sought(doubted.attempt_id, recipient))
        for owner, sought in by_account.items():
            finder = self._esps.get(owner)
            if isinstance(finder, Finder):
                yield from ((finder, search) for search in finder.find(sought))

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _decide(self, cursor: Cursor, leased: Mapping[str, str], found: Mapping[str, bool]) -> Settled:
        """One transaction. What was evidence before the asking is looked at again, under the locks."""
        doubt.lock(cursor, leased)
        now = self._clock(cursor)
        doubts = doubt.read(cursor, leased)
        doubt.drop(cursor, leased.keys() - {d.attempt_id for d in doubts})
        rulings = self._rule(cursor, doubts, found, now)
        taken, duplicates = self._accept(cursor, rulings.taken)
        resent = self._resend(cursor, rulings.resends, now)
        doubt.note(cursor, rulings.waiting, now)
        self._failpoints.hit("doubt-decided")
        return Settled(taken, resent, duplicates)

    def _rule(self, cursor: Cursor, doubts: Sequence[Doubted], found: Mapping[str, bool], now: datetime) -> Rulings:
        marks = watermarks.marks(cursor, self._terms.webhook_topics)
        evidence = {d: self._evidence(d, marks.get((d.provider, d.account_tenant)), found.get(d.attempt_id)) for d in doubts}
        return doubt_rules.rule(evidence, self._terms.policies, now)

    def _evidence(self, doubted: Doubted, mark: watermarks.Mark | None, found: bool | None) -> Evidence:
        esp = self._esps.get((doubted.provider, doubted.account_tenant))
        if esp is None:
            return Evidence()
        margin = timedelta(seconds=esp.limits.evidence_margin_s)
        return Evidence(True, isinstance(esp, Listener), isinstance(esp, Finder), margin, mark, found)

    def _accept(self, cursor: Cursor, taken: Sequence[Doubted]) -> tuple[list[Doubted], Counter[str]]:
        """The ESP has them: they count as sent, and are told so. Returns them, and the jobs that were taken twice."""
        moved = doubt.decide(cursor, taken, "accepted", "sent", FOUND)
        sent = [d for d in taken if d.row_id in moved]
        payloads.delete(cursor, sorted(moved))
        outbox.insert(cursor, outbox.of_events(self._terms.events_topic, [_sent_event(d) for d in sent]))
        return sent, doubt.confirm_duplicates(cursor, sorted(moved))

    def _resend(self, cursor: Cursor, resends: Sequence[Doubted], now: datetime) -> list[Doubted]:
        """The policy's word where no evidence came; on the audit log, with the attempts that it was about."""
        moved = doubt.resend(cursor, resends, RESENT, now)
        resent = [d for d in resends if d.row_id in moved]
        if resent:
            details = {"attempts": [d.attempt_id for d in resent], "jobs": [d.job_id for d in resent]}
            replay.audit(cursor, self._place, "uncertain resend by policy", f"{len(resent)} emails", details)
        return resent

    def _tell(self, settled: Settled) -> None:
        """What is on record now is shown to producers and written to the log."""
        self._board.show([Shown(d.tenant, d.job_id, "sent") for d in settled.taken])
        for provider, emails in Counter(d.provider for d in settled.taken).items():
            log.info("an ESP's search has found uncertain emails: they were taken", provider=provider, emails=emails)
        for provider, emails in Counter(d.provider for d in settled.resent).items():
            log.warning("no evidence came for uncertain emails: sent again by policy", provider=provider, emails=emails)
        for provider, jobs in settled.duplicates.items():
            log.error("evidence confirms two attempts of the same job", provider=provider, jobs=jobs)


def _sent_event(doubted: Doubted) -> Published:
    return Published(
        event_id=f"{doubted.attempt_id}:sent",
        event="sent",
        job_id=doubted.job_id,
        message_id="",
        provider=doubted.provider,
        recipient=doubted.recipient,
        tenant=doubted.tenant,
        campaign_id=doubted.campaign_id or "",
        at=datetime.now(UTC).isoformat(),
    )
