"""Uncertain attempts: what is in doubt, how a decision about it is written down, once, and which doubts came true twice."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from db import cohorts
from db.cohorts import CohortCount
from db.connection import Cursor, fetch, number_array, text_array, time_array, uuid_array
from db.queries import sql
from mail.ids import new_id, time_of

_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
Owner = tuple[str, int]  # provider, account's tenant

DECIDERS_PLACE = "decisions"  # their own rows of the counters


class Uncertain(NamedTuple):
    """One attempt of which nobody knows whether its ESP took it, as an operator sees it.

    `waits_for` is what the last look of a keeper found in the way; `awaited` is up to when the account's events must be applied, and
    `newest_at` up to when they are (None = none ever came).
    """

    attempt_id: str
    row_id: str
    job_id: str
    tenant: int
    provider: str
    account_tenant: int
    reason: str
    since: datetime
    type: str
    template: str
    number: int
    waits_for: str
    awaited: datetime | None
    newest_at: datetime | None


class Choice(NamedTuple):
    """Which doubts; None = any."""

    ids: Sequence[str] | None = None
    provider: str | None = None
    account_tenant: int | None = None
    template: str | None = None
    older_s: float = 0.0


class Doubted(NamedTuple):
    """A doubt as a keeper weighs it. `is_resent`: a policy has sent the job again before; `is_unwanted`: a cancel came."""

    attempt_id: str
    row_id: str
    provider: str
    account_tenant: int
    since: datetime
    passed_at: datetime | None
    job_id: str
    tenant: int
    recipient: str
    campaign_id: str | None
    cohort_id: str | None
    mailbox_provider: str
    is_marketing: bool
    is_resent: bool
    is_unwanted: bool
    has_payload: bool


class Waiting(NamedTuple):
    """A doubt about which nothing was decided: what it waits for, and in how many seconds somebody looks again."""

    attempt_id: str
    waits_for: str
    awaited: datetime | None
    passed_at: datetime | None
    again_s: float


def find(cursor: Cursor, choice: Choice, limit: int = 500, after: Uncertain | None = None) -> list[Uncertain]:
    """The oldest attempts in doubt that fit, page by page."""
    values = choice._asdict() | {
        "ids": uuid_array(choice.ids) if choice.ids else None,
        "after": after.since if after else None,
        "after_id": after.attempt_id if after else None,
        "limit": limit,
    }
    return [Uncertain(*row) for row in fetch(cursor, sql("list_uncertain"), values)]


def clock(cursor: Cursor) -> datetime:
    """The database's time."""
    moment: datetime = fetch(cursor, "SELECT now()", {})[0][0]
    return moment


def lease(
    cursor: Cursor, owners: Sequence[Owner], is_among: bool, limit: int, now: datetime, grace_s: float, lease_s: float
) -> dict[str, str]:
    """Take up to `limit` doubts, for a look, of these accounts (or of all others); returns their jobs' row ids by attempt id."""
    values = {
        "providers": text_array([provider for provider, _ in owners]),
        "account_tenants": number_array([tenant for _, tenant in owners]),
        "is_among": is_among,
        "limit": limit,
        "now": now,
        "grace_s": grace_s,
        "lease_s": lease_s,
    }
    return dict(fetch(cursor, sql("lease_doubts"), values)) if limit > 0 else {}


def read(cursor: Cursor, leased: Mapping[str, str]) -> list[Doubted]:
    """These attempts (attempt id: row id), as far as they are still in doubt."""
    if not leased:
        return []
    rows = list(leased.values())
    bounds = {"low": min(rows), "high": max(rows), "first": min(leased), "last": max(leased)}
    return [Doubted(*row) for row in fetch(cursor, sql("read_doubts"), bounds | {"attempt_ids": uuid_array(leased)})]


def lock(cursor: Cursor, leased: Mapping[str, str]) -> None:
    """Lock the jobs of these attempts: whoever decides about them now, decides alone."""
    if leased:
        fetch(cursor, sql("lock_jobs"), _bounded(list(leased.values())))


def note(cursor: Cursor, waiting: Sequence[Waiting], now: datetime) -> None:
    """Nothing was decided about these."""
    if waiting:
        waiting = sorted(waiting)
        values = {
            "ids": uuid_array([x.attempt_id for x in waiting]),
            "reasons": text_array([x.waits_for for x in waiting]),
            "awaited": time_array([x.awaited for x in waiting]),
            "passed": time_array([x.passed_at for x in waiting]),
            "again": number_array([x.again_s for x in waiting]),
            "now": now,
        }
        cursor.execute(sql("note_waiting"), values)


def decide(cursor: Cursor, doubted: Sequence[Uncertain | Doubted], state: str, status: str, why: str) -> set[str]:
    """Settle these attempts as `state` and their jobs as `status` ("pending" = send again); returns the row ids that moved.

    Somebody else's decision or an answer that came meanwhile wins: then nothing moves. Nor does what is to be sent again and has
    no bytes here yet: it stays in doubt.
    """
    if not doubted:
        return set()
    fetch(cursor, sql("lock_jobs"), _bounded([u.row_id for u in doubted]))
    values = {"ids": uuid_array([u.attempt_id for u in doubted]), "status": status}
    taken = {row[0] for row in fetch(cursor, sql("take_uncertain"), values)}
    mine = [u for u in doubted if u.attempt_id in taken]
    if not mine:
        return set()
    rows, attempts = [u.row_id for u in mine], [u.attempt_id for u in mine]
    cells = fetch(cursor, sql("decide_attempts"), _bounded(attempts) | {"state": state, "error": why})
    if state == "accepted":
        counts = Counter((cohort, provider, mailbox_provider) for cohort, provider, mailbox_provider in cells if cohort)
        cohorts.add_sent(cursor, [CohortCount(*cell, sent=sent) for cell, sent in counts.items()], DECIDERS_PLACE)
    jobs = _bounded(rows) | {"attempt_ids": uuid_array(attempts), "status": status, "error": None if status == "sent" else why}
    return {row[0] for row in fetch(cursor, sql("decide_uncertain_jobs"), jobs)}


def drop(cursor: Cursor, attempt_ids: Collection[str]) -> None:
    """Forget doubts on which nothing hangs: their jobs, which are locked, have come to an end by another attempt."""
    if attempt_ids:
        fetch(cursor, sql("take_uncertain"), {"ids": uuid_array(attempt_ids), "status": ""})


def resend(cursor: Cursor, doubted: Sequence[Doubted], why: str, now: datetime) -> set[str]:
    """Have these jobs sent again through the same ESP while their attempts stay uncertain; returns the row ids that moved."""
    moved = decide(cursor, doubted, "uncertain", "pending", why)
    if moved:
        cursor.execute(sql("bind_resends"), _bounded(sorted(moved)) | {"now": now})
    return moved


def confirm_duplicates(cursor: Cursor, row_ids: Sequence[str]) -> Counter[str]:
    """Count the jobs among these of which more than one attempt was taken; returns those that nobody counted before, by the ESP of
    the first such attempt. The jobs must be locked."""
    if not row_ids:
        return Counter()
    # no attempt is older than its job's row, give or take the random end of an id
    low = new_id(max(0, int((time_of(min(row_ids)) - 1) * 1000)))
    values = {"ids": uuid_array(row_ids), "low": low, "high": _LAST_ID}
    counts = Counter(row[0] for row in fetch(cursor, sql("confirm_duplicates"), values))
    if counts:
        cursor.execute(sql("add_duplicates"), {"providers": text_array(list(counts)), "counts": number_array(list(counts.values()))})
    return counts


def forget_old(cursor: Cursor, days: int) -> int:
    """Forget doubts whose jobs are gone, and which jobs were counted as duplicates so long ago; returns how many rows went."""
    cursor.execute(sql("forget_old_doubts"), {"days": days})
    doubts = int(cursor.rowcount)
    cursor.execute(sql("forget_old_duplicates"), {"days": days})
    return doubts + int(cursor.rowcount)


def _bounded(ids: Sequence[str]) -> dict[str, str | None]:
    return {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)}
