"""A letter: one email on its way through the delivery loop, with all that the loop has learnt about it so far.

A batch is a list of letters. A letter whose fate is known goes no further; the record step writes its fate down.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from db.tenants import SenderDefaults
from mail.account import Account
from mail.errors import InvalidJob
from mail.ids import fresh_ids, job_key, new_id
from mail.job import Cancel, Job, lane_of
from mail.message import Message
from mail.outcome import Outcome
from mail.record import Record, Standing


class Fate(NamedTuple):
    """What becomes of a letter. `status` is the job's new one ("" = its row, if any, stays as it is).

    `reason` is a dead letter's reason, else a word for metrics and events. `delay_s` is when the row is due again (None = never).
    `event` is what is published ("" = nothing). `keeps_payload` where the row must be able to send it later.
    `goes_elsewhere`: the attempt is over, and the next one, through another ESP, follows in this round.
    `is_our_fault`: neither the producer nor an ESP is to blame, and every neighbour may fail the same way.
    """

    status: str
    reason: str = ""
    error: str = ""
    delay_s: float | None = None
    event: str = ""
    keeps_payload: bool = False
    is_dead_letter: bool = False
    retry_count: int = 0
    goes_elsewhere: bool = False
    is_our_fault: bool = False


SENT = Fate("sent", event="sent")
REPEAT = Fate("", reason="repeat")  # it was handled before, or another worker has it and its bytes are safe
DROPPED = Fate("", reason="dropped")  # its partition went to another worker before anything was done
STORED = Fate("", reason="stored", keeps_payload=True)  # somebody else has it under way: keep its bytes with the row
AGAIN = Fate("retrying", reason="again", delay_s=0.0, keeps_payload=True)  # due at once, as a row
EXPIRED = Fate("expired", event="expired", reason="expired")
CANCELLED = Fate("cancelled", event="cancelled", reason="cancelled", error="cancelled by its producer")


def dead(reason: str, error: str) -> Fate:
    """A dead letter with a row of its own."""
    return Fate("dead", reason, error, event="dead", is_dead_letter=True)


def refused(reason: str, error: str) -> Fate:
    """A dead letter that must not touch the row of its id, because that belongs to another email."""
    return Fate("", reason, error, event="dead", is_dead_letter=True)


@dataclass(slots=True)
class Letter:
    """`row_id` and `attempt_id` are made on arrival; a known job brings its row's id and its standing."""

    record: Record
    job: Job
    key: str
    row_id: str
    attempt_id: str
    lane: str
    standing: Standing | None = None
    message: Message | None = None
    account: Account | None = None
    mailbox_provider: str = "other"
    cohort_id: str = ""
    is_marketing: bool = False
    defaults: SenderDefaults | None = None
    outcome: Outcome | None = None
    fate: Fate | None = None
    tried: frozenset[str] = frozenset()

    def for_another_attempt(self) -> "Letter":
        """The same words under a new attempt id: `tried` says which ESPs refused it in this round."""
        assert self.message and self.account
        attempt_id = new_id()
        standing = Standing(
            row_id=self.row_id,
            status="pending",
            attempt_id=self.attempt_id,
            attempts=self.attempt_number,
            retry_count=max(self.retry_count, self.fate.retry_count if self.fate else 0),
            generation=self.standing.generation if self.standing else 0,
            content_hash=self.job.content_hash,
            has_payload=self.standing.has_payload if self.standing else False,
            last_provider=self.account.provider,
            waiting_since_s=self.waiting_s,
            only_provider=self.standing.only_provider if self.standing else "",
            waits=self.waits,
        )
        return replace(
            self,
            attempt_id=attempt_id,
            message=msgspec.structs.replace(self.message, attempt_id=attempt_id),
            standing=standing,
            tried=self.tried | {self.account.provider},
            account=None,
            outcome=None,
            fate=None,
        )

    @property
    def attempt_number(self) -> int:
        return (self.standing.attempts if self.standing else 0) + 1

    @property
    def retry_count(self) -> int:
        return self.standing.retry_count if self.standing else self.job.retry_count

    @property
    def waiting_s(self) -> float:
        return self.standing.waiting_since_s if self.standing else 0.0

    @property
    def bound_to(self) -> str:
        """The only ESP that may carry it: the one at which an earlier attempt is in doubt ("" = any)."""
        return self.standing.only_provider if self.standing else ""

    @property
    def waits(self) -> int:
        """How often it was put off."""
        return self.standing.waits if self.standing else 0

    @property
    def last_provider(self) -> str:
        return self.standing.last_provider if self.standing else ""


class Misfit(NamedTuple):
    """A record, or one email of it, that is no job."""

    record: Record
    reason: str
    error: str
    job_id: str | None = None
    tenant: int = 0
    record_index: int | None = None


@dataclass(slots=True)
class Batch:
    """Everything that one poll brought, sorted by what it is. `rendered` are versions of templates that rendered for the first time,
    `ids` those of letters to come."""

    records: list[Record]
    letters: list[Letter] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    rendered: dict[str, str] = field(default_factory=dict)
    ids: Iterator[str] = field(default_factory=fresh_ids, repr=False)

    def going(self) -> list[Letter]:
        """The letters whose fate is still open."""
        return [letter for letter in self.letters if letter.fate is None]

    def refused(self) -> "Batch":
        """The letters that go elsewhere in this round, each under a new attempt."""
        again = [letter.for_another_attempt() for letter in self.letters if letter.fate and letter.fate.goes_elsewhere]
        return Batch(self.records, again)

    def add(self, record: Record, item: Job | Cancel | InvalidJob) -> None:
        """Sort in one email of a record. The lane of a record is its topic's; the lane of its row is its priority's."""
        if isinstance(item, Job):
            row_id = record.standing.row_id if record.standing else next(self.ids)
            lane = record.lane if record.standing else lane_of(item.priority, item.campaign_id)
            key = job_key(item.tenant, item.job_id)
            self.letters.append(Letter(record, item, key, row_id, next(self.ids), lane=lane, standing=record.standing))
        elif isinstance(item, Cancel):
            self.cancels.append(item)
        else:
            self.misfits.append(Misfit(record, item.reason, item.error, item.job_id, item.tenant, item.index))
