"""The ledger: who won which job, what was attempted, what came of it. One function per step of the delivery loop.

Every function takes a cursor and does its part of a transaction; the caller decides where transactions begin and end.
Lists are columns of the same batch; Postgres gets them as arrays, never row by row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from db.connection import Cursor, bytes_array, fetch, number_array, text_array, uuid_array
from db.queries import sql
from mail.errors import Fenced
from mail.record import Standing


class Slot(NamedTuple):
    """One incarnation of a delivery slot; `owner` is how attempts name it."""

    host: str
    number: int
    incarnation: int

    @property
    def place(self) -> str:
        return f"{self.host}/{self.number}"

    @property
    def owner(self) -> str:
        return f"{self.place}/{self.incarnation}"


class NewJob(NamedTuple):
    """A row to be made for a job that was not known: `status` "sending" with its attempt, or a decided or waiting one without.

    Times are ISO 8601 text; a scheduled row is due at its time, another one after `delay_s` seconds (None = in nobody's queue).
    `content` and `data` are kept only where the settings say so.
    """

    row_id: str
    key: str
    content_hash: bytes
    tenant: int
    job_id: str
    type: str
    template: str
    email: str
    name: str
    subject: str
    priority: str
    lane: str
    status: str
    max_retries: int
    retry_count: int = 0
    scheduled_at: str | None = None
    expires_at: str | None = None
    delay_s: float | None = None
    error: str | None = None
    campaign_id: str | None = None
    batch_id: int = 0
    attempt_id: str | None = None
    provider: str | None = None
    content: str | None = None
    data: str | None = None


class Taking(NamedTuple):
    """A known job that is to be attempted again; `expected` is the attempt that it must still stand at ("" = none)."""

    row_id: str
    attempt_id: str
    expected: str
    provider: str
    subject: str


class NewAttempt(NamedTuple):
    attempt_id: str
    row_id: str
    tenant: int
    account_tenant: int
    provider: str
    mailbox_provider: str
    cohort_id: str
    number: int


class Result(NamedTuple):
    """What an attempt came to. `state` is the attempt's, `status` the job's; `delay_s` None = in nobody's queue."""

    attempt_id: str
    row_id: str
    state: str
    status: str
    message_id: str
    error: str
    retry_count: int
    delay_s: float | None


class Decision(NamedTuple):
    """A known job that ends or waits without an attempt."""

    row_id: str
    expected: str
    status: str
    error: str
    delay_s: float | None = None


class Doubt(NamedTuple):
    attempt_id: str
    row_id: str
    tenant: int
    provider: str
    account_tenant: int
    reason: str


def find_keys(cursor: Cursor, keys: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """The row id and the content hash behind each key that is known."""
    return {key: (row_id, bytes(content)) for key, row_id, content in fetch(cursor, sql("find_keys"), {"keys": uuid_array(keys)})}


def find_standings(cursor: Cursor, row_ids: Sequence[str]) -> dict[str, Standing]:
    """Where known jobs stand, by row id (without the content hash, which the key holds)."""
    if not row_ids:
        return {}
    rows = fetch(cursor, sql("find_standings"), bounded(row_ids))
    return {row[0]: standing_of(row) for row in rows}


def standing_of(row: Sequence[Any]) -> Standing:
    """The standing that a row of find_standings speaks of (columns in its order)."""
    row_id, status, attempt_id, attempts, retry_count, generation, provider, has_payload, age_s, only_provider, waits, is_cancelled = row
    return Standing(
        row_id=row_id,
        status=status,
        attempt_id=attempt_id or "",
        attempts=attempts,
        retry_count=retry_count,
        generation=generation,
        content_hash=b"",
        has_payload=has_payload,
        last_provider=provider or "",
        waiting_since_s=age_s,
        only_provider=only_provider or "",
        waits=waits,
        is_cancelled=is_cancelled,
    )


def hold_slot(cursor: Cursor, slot: Slot, attempt_ids: Sequence[str]) -> None:
    """Be sure that this slot is still ours for this transaction; raises Fenced where a newer incarnation has it."""
    values = {"first": min(attempt_ids), "last": max(attempt_ids), "host": slot.host, "slot": slot.number, "incarnation": slot.incarnation}
    if not fetch(cursor, sql("hold_slot"), values):
        raise Fenced(f"slot {slot.number} has a newer incarnation than {slot.incarnation}")


def insert_jobs(cursor: Cursor, jobs: Sequence[NewJob]) -> set[str]:
    """Claim the keys of new jobs; returns the row ids of those that won, whose rows are made."""
    if not jobs:
        return set()
    columns = _columns(jobs)
    values = {
        "ids": uuid_array(columns.row_id),
        "keys": uuid_array(columns.key),
        "hashes": bytes_array(columns.content_hash),
        "tenants": number_array(columns.tenant),
        "job_ids": text_array(columns.job_id),
        "types": text_array(columns.type),
        "templates": text_array(columns.template),
        "emails": text_array(columns.email),
        "names": text_array(columns.name),
        "subjects": text_array(columns.subject),
        "contents": text_array(columns.content),
        "data": text_array(columns.data),
        "priorities": text_array(columns.priority),
        "lanes": text_array(columns.lane),
        "statuses": text_array(columns.status),
        "scheduled": text_array(columns.scheduled_at),
        "expires": text_array(columns.expires_at),
        "delays": number_array(columns.delay_s),
        "retry_counts": number_array(columns.retry_count),
        "max_retries": number_array(columns.max_retries),
        "errors": text_array(columns.error),
        "campaigns": text_array(columns.campaign_id),
        "batches": number_array(columns.batch_id),
        "attempt_ids": uuid_array(columns.attempt_id),
        "providers": text_array(columns.provider),
    }
    return {row[0] for row in fetch(cursor, sql("insert_jobs"), values)}


def take_jobs(cursor: Cursor, takings: Sequence[Taking]) -> set[str]:
    """Make known jobs ours by compare and set; returns the row ids of those that still stood where we saw them."""
    if not takings:
        return set()
    columns = _columns(takings)
    values = bounded(columns.row_id) | {
        "attempt_ids": uuid_array(columns.attempt_id),
        "expected": uuid_array([t.expected or None for t in takings]),
        "providers": text_array(columns.provider),
        "subjects": text_array(columns.subject),
    }
    return {row[0] for row in fetch(cursor, sql("take_jobs"), values)}


def insert_attempts(cursor: Cursor, attempts: Sequence[NewAttempt], owner: str) -> None:
    """Open attempts; their requests may leave once this is committed."""
    if not attempts:
        return
    columns = _columns(attempts)
    values = {
        "ids": uuid_array(columns.attempt_id),
        "job_ids": uuid_array(columns.row_id),
        "tenants": number_array(columns.tenant),
        "account_tenants": number_array(columns.account_tenant),
        "providers": text_array(columns.provider),
        "mailbox_providers": text_array(columns.mailbox_provider),
        "cohorts": uuid_array(columns.cohort_id),
        "numbers": number_array(columns.number),
        "owner": owner,
    }
    cursor.execute(sql("insert_attempts"), values)


def find_attempts(cursor: Cursor, attempt_ids: Sequence[str]) -> set[str]:
    """Which of these attempts exist: the way to learn what an interrupted commit came to."""
    return {row[0] for row in fetch(cursor, sql("find_attempts"), bounded(attempt_ids))}


def record_results(cursor: Cursor, results: Sequence[Result]) -> set[str]:
    """Close attempts and move their jobs; returns the attempt ids that were still open (a repeat returns none, nor does an attempt
    of which an event has proved already that it was taken)."""
    if not results:
        return set()
    columns = _columns(results)
    attempts = bounded(columns.attempt_id) | {
        "states": text_array(columns.state),
        "message_ids": text_array(columns.message_id),
        "errors": text_array(columns.error),
    }
    jobs = bounded(columns.row_id) | {
        "attempt_ids": uuid_array(columns.attempt_id),
        "statuses": text_array(columns.status),
        "message_ids": text_array(columns.message_id),
        "errors": text_array(columns.error),
        "retry_counts": number_array(columns.retry_count),
        "delays": number_array(columns.delay_s),
    }
    # jobs before attempts, here and in the settlement: one order of locks everywhere
    before = dict(fetch(cursor, sql("lock_jobs"), bounded(columns.row_id)))
    closed = {row[0] for row in fetch(cursor, sql("record_attempts"), attempts)}
    if len(closed) < len(results):  # events were faster than the answer
        cursor.execute(sql("note_late_answers"), attempts)
    cursor.execute(sql("record_jobs"), jobs)
    _end_by_late_yes(cursor, [r for r in results if r.status == "sent" and r.attempt_id in closed and before.get(r.row_id) != "sending"])
    if settled := [r.attempt_id for r in results if r.state != "uncertain"]:
        cursor.execute(sql("delete_uncertain"), {"ids": uuid_array(settled)})
    return closed


def _end_by_late_yes(cursor: Cursor, results: Sequence[Result]) -> None:
    """These were taken, as their ESP says after others doubted it or decided otherwise: nothing is left to send or to decide."""
    if results:
        ids = bounded([r.row_id for r in results])
        cursor.execute(sql("end_by_late_yes"), ids | {"message_ids": text_array([r.message_id for r in results])})
        cursor.execute(sql("forget_doubts"), {"ids": ids["ids"]})


def decide_jobs(cursor: Cursor, decisions: Sequence[Decision]) -> set[str]:
    """End known jobs, or let them wait, without an attempt; returns the row ids that still stood where we saw them."""
    if not decisions:
        return set()
    columns = _columns(decisions)
    values = bounded(columns.row_id) | {
        "expected": uuid_array([d.expected or None for d in decisions]),
        "statuses": text_array(columns.status),
        "errors": text_array(columns.error),
        "delays": number_array(columns.delay_s),
    }
    fetch(cursor, sql("lock_jobs"), bounded(columns.row_id))
    return {row[0] for row in fetch(cursor, sql("decide_jobs"), values)}


def insert_doubts(cursor: Cursor, doubts: Sequence[Doubt]) -> None:
    """Note attempts that may have been taken."""
    if not doubts:
        return
    columns = _columns(doubts)
    values = {
        "ids": uuid_array(columns.attempt_id),
        "job_ids": uuid_array(columns.row_id),
        "tenants": number_array(columns.tenant),
        "providers": text_array(columns.provider),
        "account_tenants": number_array(columns.account_tenant),
        "reasons": text_array(columns.reason),
    }
    cursor.execute(sql("insert_uncertain"), values)


def _columns(rows: Sequence[tuple[Any, ...]]) -> Any:
    """The same named tuple, but of columns: cheaper than a comprehension for each of them."""
    kind: Any = type(rows[0])
    return kind(*zip(*rows, strict=True))


def bounded(ids: Sequence[str]) -> dict[str, str]:
    """The parameters of a statement over these ids, none of which may be missing."""
    # the bounds let the planner skip the other days' partitions: 0.2 instead of 2 ms at 90 of them
    return {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)}
