"""What ESPs report, on record: tracking rows, the attempts and jobs that they speak of, cohort counters.

Every function takes a cursor and does its part of a transaction. What an event means is decided in workers/feedback/event_rules.py;
nothing here may decide anything but whose event it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from db.connection import Cursor, fetch, flag_array, number_array, text_array, time_array, uuid_array
from db.queries import sql
from mail.ids import new_id, time_of

SENDS_MOST = 5
# Without our attempt id, an event is looked up among the jobs of so many days before it: each day is a partition to look into.
LOOK_BACK_S = 30 * 86_400.0
_LOOK_AHEAD_S = 86_400.0
_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Tracking(NamedTuple):
    """A row of email_tracking; `attempt_id` is what the event names ("" = nothing), `data` JSON text."""

    id: str
    occurred_at: datetime
    attempt_id: str
    provider: str
    account_tenant: int
    recipient: str
    message_id: str
    event_type: str
    data: str
    ip: str
    user_agent: str
    is_machine: bool


class Question(NamedTuple):
    """An event without an attempt id: to whom, through which account, with which message id ("" = it brings none)."""

    provider: str
    account_tenant: int
    recipient: str
    message_id: str


class Send(NamedTuple):
    """A send that may be what an event without an attempt id speaks of."""

    attempt_id: str
    message_id: str


class JobRow(NamedTuple):
    """A job as its lock found it; `job_id` is the producer's, `attempt_id` the newest attempt."""

    row_id: str
    job_id: str
    tenant: int
    recipient: str
    campaign_id: str | None
    status: str
    attempt_id: str | None
    attempts: int
    message_id: str | None
    delivered_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None


class AttemptRow(NamedTuple):
    """An attempt and what its events have said so far: each time is the earliest of its kind, `reported` the highest status.
    `has_taken`: the ESP's own answer was yes, and brought the message id."""

    attempt_id: str
    row_id: str
    provider: str
    account_tenant: int
    mailbox_provider: str
    cohort_id: str | None
    state: str
    has_taken: bool
    message_id: str | None
    reported: str | None
    bounce_class: str | None
    delivered_at: datetime | None
    opened_at: datetime | None
    machine_opened_at: datetime | None
    clicked_at: datetime | None
    bounced_at: datetime | None
    complained_at: datetime | None


class JobChange(NamedTuple):
    """Where a job stands now; a settled one leaves every queue. `sent_at` is taken only where none is known."""

    row_id: str
    status: str
    message_id: str | None
    delivered_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None
    sent_at: datetime | None
    is_settled: bool


class Look(NamedTuple):
    """An open or click on record."""

    event_type: str
    at: datetime
    has_signs: bool
    recipient: str


class Counts(NamedTuple):
    """What an attempt adds to its cohort, or by how much that changed."""

    sent: int = 0
    delivered: int = 0
    opened: int = 0
    opened_machine: int = 0
    clicked: int = 0
    bounced: int = 0
    bounced_hard: int = 0
    complained: int = 0


Cell = tuple[str, str, str]  # cohort, ESP, mailbox provider


def insert_tracking(cursor: Cursor, rows: Sequence[Tracking]) -> dict[tuple[datetime, str], str | None]:
    """Keep events once; returns those that were not there yet, by time and id, each with the email_jobs.id that it belongs to
    (None = no match)."""
    if not rows:
        return {}
    columns = _columns(rows)
    named = [a for a in columns.attempt_id if a] or [new_id()]
    values = {
        "ids": uuid_array(columns.id),
        "moments": time_array(columns.occurred_at),
        "attempt_ids": uuid_array(columns.attempt_id),
        "providers": text_array(columns.provider),
        "account_tenants": number_array(columns.account_tenant),
        "recipients": text_array(columns.recipient),
        "message_ids": text_array(columns.message_id),
        "types": text_array(columns.event_type),
        "data": f"[{','.join(columns.data)}]",  # one document: an array of texts would escape every quote of theirs, twice
        "ips": text_array(columns.ip),
        "agents": text_array(columns.user_agent),
        "machines": flag_array(columns.is_machine),
        "low": min(named),
        "high": max(named),
    }
    return {(at, id_): row_id for at, id_, row_id in fetch(cursor, sql("insert_tracking"), values)}


def find_sends(cursor: Cursor, questions: Sequence[Question], first: datetime, last: datetime) -> dict[int, list[Send]]:
    """For each question, by its place: the newest sends that it may mean, those with its message id first.

    `first` and `last` bound the events' times.
    """
    if not questions:
        return {}
    columns = _columns(questions)
    values = {
        "numbers": number_array(range(len(questions))),
        "providers": text_array(columns.provider),
        "account_tenants": number_array(columns.account_tenant),
        "recipients": text_array(columns.recipient),
        "message_ids": text_array(columns.message_id),
        "low": _id_at(first.timestamp() - LOOK_BACK_S),
        "high": _id_at(last.timestamp() + _LOOK_AHEAD_S),
        "limit": SENDS_MOST,
    }
    found: dict[int, list[Send]] = {}
    for number, attempt_id, message_id in fetch(cursor, sql("find_sends"), values):
        found.setdefault(number, []).append(Send(attempt_id, message_id or ""))
    return found


def find_unsettled(cursor: Cursor, attempt_ids: Sequence[str]) -> set[str]:
    """Those of these attempts that are not on record as taken."""
    return {row[0] for row in fetch(cursor, sql("find_unsettled"), _bounded(attempt_ids))} if attempt_ids else set()


def lock_jobs(cursor: Cursor, row_ids: Sequence[str]) -> list[JobRow]:
    """Lock jobs in order; from here on nobody else applies events to them."""
    return [JobRow(*row) for row in fetch(cursor, sql("lock_reported_jobs"), _bounded(row_ids))] if row_ids else []


def read_attempts(cursor: Cursor, attempt_ids: Sequence[str], jobs_with_several: Sequence[str]) -> list[AttemptRow]:
    """These attempts, and all attempts of these jobs."""
    rows = fetch(cursor, sql("read_attempts"), _bounded(attempt_ids)) if attempt_ids else []
    if jobs_with_several:  # no attempt is older than its job's row, give or take the random end of an id
        low = _id_at(time_of(min(jobs_with_several)) - 1)
        rows += fetch(cursor, sql("read_siblings"), {"ids": uuid_array(jobs_with_several), "low": low, "high": _LAST_ID})
    return [AttemptRow(*row) for row in rows]


def read_looks(cursor: Cursor, attempts: Sequence[AttemptRow], types: Sequence[str], since: datetime) -> dict[str, list[Look]]:
    """All opens and clicks of these attempts, by attempt id."""
    values = {
        "ids": uuid_array([a.row_id for a in attempts]),
        "attempt_ids": uuid_array([a.attempt_id for a in attempts]),
        "types": text_array(types),
        "since": since,
    }
    looks: dict[str, list[Look]] = {}
    for attempt_id, event_type, at, has_signs, recipient in fetch(cursor, sql("read_looks"), values):
        looks.setdefault(attempt_id, []).append(Look(event_type, at, has_signs, recipient or ""))
    return looks


def update_attempts(cursor: Cursor, attempts: Sequence[AttemptRow]) -> None:
    """Write down what the events of these attempts say."""
    if not attempts:
        return
    columns = _columns(sorted(attempts))
    values = _bounded(columns.attempt_id) | {
        "states": text_array(columns.state),
        "message_ids": text_array(columns.message_id),
        "reported": text_array(columns.reported),
        "bounce_classes": text_array(columns.bounce_class),
        "delivered": time_array(columns.delivered_at),
        "opened": time_array(columns.opened_at),
        "machine_opened": time_array(columns.machine_opened_at),
        "clicked": time_array(columns.clicked_at),
        "bounced": time_array(columns.bounced_at),
        "complained": time_array(columns.complained_at),
    }
    cursor.execute(sql("update_reported_attempts"), values)


def update_jobs(cursor: Cursor, changes: Sequence[JobChange]) -> list[str]:
    """Write down where jobs stand; returns the row ids of those that are settled, whose doubts are gone."""
    if not changes:
        return []
    columns = _columns(changes)
    values = _bounded(columns.row_id) | {
        "statuses": text_array(columns.status),
        "message_ids": text_array(columns.message_id),
        "delivered": time_array(columns.delivered_at),
        "opened": time_array(columns.opened_at),
        "clicked": time_array(columns.clicked_at),
        "sent": time_array(columns.sent_at),
        "settled": flag_array(columns.is_settled),
    }
    cursor.execute(sql("update_reported_jobs"), values)
    if settled := [c.row_id for c in changes if c.is_settled]:
        cursor.execute(sql("forget_doubts"), {"ids": uuid_array(settled)})
    return settled


def add_to_cohorts(cursor: Cursor, counts: Mapping[Cell, Counts], place: str) -> None:
    """Add to the counters of these cells, in rows of this writer alone."""
    cells = sorted(cell for cell, count in counts.items() if any(count))
    if not cells:
        return
    cohorts, providers, mailbox_providers = zip(*cells, strict=True)
    values: dict[str, Any] = {name: number_array(column) for name, column in _columns([counts[c] for c in cells])._asdict().items()}
    values |= {
        "cohorts": uuid_array(cohorts),
        "providers": text_array(providers),
        "mailbox_providers": text_array(mailbox_providers),
        "slots": text_array([place] * len(cells)),
    }
    cursor.execute(sql("add_reports_to_cohorts"), values)


def _id_at(moment_s: float) -> str:
    """An id of that moment, as a bound."""
    return new_id(max(0, int(moment_s * 1000)))


def _bounded(ids: Iterable[str]) -> dict[str, Any]:
    ids = list(ids)
    # the bounds let the planner skip the other days' partitions
    return {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)}


def _columns(rows: Sequence[tuple[Any, ...]]) -> Any:
    """The same named tuple, but of columns."""
    kind: Any = type(rows[0])
    return kind(*zip(*rows, strict=True))
