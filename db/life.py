"""All that is on record of one email: its row, attempts, reports, dead letters, decisions, and what it waits for.

Only reads. `read` is one short transaction; every statement goes by an id, an index or a bounded time. What is not kept anywhere (where
a record came from once its email is over, verdicts beyond an attempt's state, repeats of an id) is not made up here.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from db import doubt, lanes, suppressions
from db.connection import Cursor, fetch, text_array
from db.doubt import Uncertain
from db.lanes import Pause
from db.queries import sql
from db.suppressions import Listed
from mail.ids import new_id, time_of

REPORTS_MOST = 500
_SUPPRESSIONS_MOST = 100
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Row(NamedTuple):
    """An email_jobs row with what hangs on it; `source` is where its stored bytes came from (None = no bytes are stored),
    `doubled_at` when two of its attempts were found to be taken, `plan` its batch's pinned weights."""

    row_id: str
    job_id: str
    tenant: int
    type: str
    template: str
    recipient: str
    name: str
    subject: str
    priority: str
    lane: str
    status: str
    scheduled_at: datetime | None
    expires_at: datetime | None
    sent_at: datetime | None
    created_at: datetime
    updated_at: datetime
    retry_count: int
    max_retries: int
    error: str | None
    provider: str | None
    campaign_id: str | None
    batch_id: int
    attempt_id: str | None
    generation: int
    next_attempt_at: datetime | None
    leased_by: str | None
    revived_at: datetime | None
    waits: int
    cancel_asked_at: datetime | None
    resent_at: datetime | None
    only_provider: str | None
    has_payload: bool
    source: dict[str, Any] | None
    doubled_at: datetime | None
    plan: Any

    @property
    def came_at(self) -> datetime:
        """When it came into a worker's hand: its id tells it."""
        return datetime.fromtimestamp(time_of(self.row_id), UTC)


class Try(NamedTuple):
    """An attempt. `stream` is marketing or transactional; `weights` are those computed last before it was opened, by ESP in permille
    (None = none for it), of the snapshot `weights_id` (None = none was ever computed)."""

    attempt_id: str
    number: int
    provider: str
    account_tenant: int
    mailbox_provider: str
    stream: str | None
    state: str
    message_id: str | None
    owner: str
    opened_at: datetime
    answered_at: datetime | None
    reported: str | None
    bounce_class: str | None
    error: str | None
    weights_id: int | None
    weights: dict[str, int] | None


class Report(NamedTuple):
    """An event as it is kept: `data` are the ESP's own fields, `is_machine` what they and the address tell."""

    at: datetime
    type: str
    provider: str
    attempt_id: str | None
    recipient: str | None
    is_machine: bool
    data: dict[str, Any]


class Letter(NamedTuple):
    """A dead letter; `row_id` None = no email's own: nothing could be made of it, or it came under an id that was taken."""

    id: str
    reason: str
    error: str
    job_id: str | None
    tenant: int
    row_id: str | None
    source: dict[str, Any]
    attempts: int
    created_at: datetime
    settled_at: datetime | None
    has_value: bool


class Entry(NamedTuple):
    """A line of the audit log."""

    at: datetime
    actor: str
    action: str


class Owner(NamedTuple):
    """The slot that opened an attempt as it is now: its newest incarnation, and its host's lease (None = it gave that up)."""

    incarnation: int
    lease_until: datetime | None


class Life(NamedTuple):
    """One email. `unpublished` names its events that wait for Kafka; `stops` are entries of the suppression list for its address
    that concern its tenant."""

    now: datetime
    row: Row
    tries: list[Try]
    reports: list[Report]
    letters: list[Letter]
    entries: list[Entry]
    doubts: list[Uncertain]
    stops: list[Listed]
    pause: Pause | None
    unpublished: list[str]
    owner: Owner | None


def read(cursor: Cursor, row_id: str, days: float, subject_of: Callable[[str], str]) -> Life | None:
    """The life of one row; None where there is none (any more). Dead letters under its id are looked for from `days` before it came;
    `subject_of` spells an address as the audit log does."""
    cursor.execute(_SNAPSHOT)
    rows = fetch(cursor, sql("read_life"), {"id": row_id})
    if not rows:
        return None
    row = Row(*rows[0])
    since = row.came_at - timedelta(days=1)  # clocks differ
    low = new_id(max(0, int(since.timestamp() * 1000)))
    tries = [Try(*x) for x in fetch(cursor, sql("read_tries"), {"id": row_id, "low": low})]
    letters = read_letters(cursor, row.job_id, row.tenant, days, row_id)
    stops = suppressions.find(cursor, row.recipient.lower(), None, _SUPPRESSIONS_MOST) if row.recipient else []
    return Life(
        now=doubt.clock(cursor),
        row=row,
        tries=tries,
        reports=_reports(cursor, row_id, since),
        letters=letters,
        entries=_entries(cursor, row, tries, letters, subject_of),
        doubts=doubt.find(cursor, doubt.Choice([t.attempt_id for t in tries])) if tries else [],
        stops=[stop for stop in stops if stop.is_global or stop.tenant == row.tenant],
        pause=next((pause for pause in lanes.find(cursor) if pause.lane == row.lane), None),
        unpublished=_unpublished(cursor, row, low, letters),
        owner=_owner(cursor, tries[-1].owner) if tries else None,
    )


def read_letters(
    cursor: Cursor, job_id: str | None, tenant: int, days: float | None, row_id: str | None = None, letter_id: str | None = None
) -> list[Letter]:
    """Dead letters of this row, those under this job id, and the one of this id (None = none). They are looked for from `days` before
    the row came, or before now."""
    came_at = datetime.fromtimestamp(time_of(row_id), UTC) if row_id else None
    values = {"row_id": row_id, "job_id": job_id, "tenant": tenant, "came_at": came_at, "days": days, "letter_id": letter_id}
    return sorted((Letter(*x) for x in fetch(cursor, sql("read_letters"), values)), key=lambda letter: letter.created_at)


def _reports(cursor: Cursor, row_id: str, since: datetime) -> list[Report]:
    return [Report(*x) for x in fetch(cursor, sql("read_reports"), {"id": row_id, "since": since, "limit": REPORTS_MOST})]


def _entries(cursor: Cursor, row: Row, tries: Sequence[Try], letters: Sequence[Letter], subject_of: Callable[[str], str]) -> list[Entry]:
    """Decisions about this email, about its recipient, and about its lane while it was on its way."""
    values = {
        "since": min([row.came_at, *(letter.created_at for letter in letters)]),
        "attempt_ids": text_array([t.attempt_id for t in tries]),
        "letter_ids": text_array([letter.id for letter in letters]),
        "tenant": row.tenant,
        "job_id": row.job_id,
        "subjects": text_array([row.lane, *([subject_of(row.recipient.lower())] if row.recipient else [])]),
    }
    found = [Entry(*x) for x in fetch(cursor, sql("read_audit"), values)]
    return [e for e in found if not e.action.startswith("lanes") or row.sent_at is None or e.at <= row.sent_at]


def _unpublished(cursor: Cursor, row: Row, low: str, letters: Sequence[Letter]) -> list[str]:
    """Keys name jobs, not tenants: an event says whose it is, a dead letter only which one it is."""
    told = [msgspec.json.decode(x[0]) for x in fetch(cursor, sql("read_unpublished"), {"job_id": row.job_id, "low": low})]
    ours = {letter.id for letter in letters}
    return [str(news.get("event", "dead letter")) for news in told if news.get("tenant") == row.tenant or news.get("id") in ours]


def _owner(cursor: Cursor, owner: str) -> Owner | None:
    host, slot, _ = owner.rsplit("/", 2) if owner.count("/") >= 2 else (owner, "", "")
    rows = fetch(cursor, sql("read_owner"), {"host": host, "slot": int(slot)}) if slot.isdigit() else []
    return Owner(*rows[0]) if rows else None
