"""Uncertain attempts: what is in doubt, and how a decision about it is written down, once."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from db import cohorts
from db.cohorts import CohortCount
from db.connection import Cursor, fetch, uuid_array
from db.queries import sql

DECIDERS_PLACE = "decisions"  # their own rows of the counters


class Uncertain(NamedTuple):
    """One attempt of which nobody knows whether its ESP took it."""

    attempt_id: str
    row_id: str
    job_id: str
    tenant: int
    provider: str
    reason: str
    since: datetime
    type: str
    number: int


def find(
    cursor: Cursor, ids: Sequence[str] | None = None, provider: str | None = None, older_s: float = 0.0, limit: int = 500
) -> list[Uncertain]:
    """The oldest attempts in doubt that fit."""
    values = {"ids": uuid_array(ids) if ids else None, "provider": provider, "older_s": older_s, "limit": limit}
    return [Uncertain(*row) for row in fetch(cursor, sql("list_uncertain"), values)]


def decide(cursor: Cursor, doubted: Sequence[Uncertain], state: str, status: str, why: str) -> set[str]:
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


def _bounded(ids: Sequence[str]) -> dict[str, str]:
    return {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)}
