"""Cohorts, what was sent together, and how many of each were taken: counted by the transaction that writes it down."""

from collections.abc import Sequence
from typing import NamedTuple

from db.connection import Cursor, number_array, text_array, uuid_array
from db.queries import sql


class CohortCount(NamedTuple):
    cohort_id: str
    provider: str
    mailbox_provider: str
    sent: int


def add_sent(cursor: Cursor, counts: Sequence[CohortCount], place: str) -> None:
    """Count what was accepted, per cohort, ESP and mailbox provider, in rows of this writer alone."""
    if not counts:
        return
    counts = sorted(counts)
    values = {
        "cohorts": uuid_array([c.cohort_id for c in counts]),
        "providers": text_array([c.provider for c in counts]),
        "mailbox_providers": text_array([c.mailbox_provider for c in counts]),
        "slots": text_array([place] * len(counts)),
        "counts": number_array([c.sent for c in counts]),
    }
    cursor.execute(sql("add_sent_to_cohorts"), values)


def forget_old(cursor: Cursor, days: int) -> int:
    """Forget cohorts that began so long ago, and their counters; returns how many rows went."""
    cursor.execute(sql("forget_old_cohorts"), {"days": days})
    cohorts = int(cursor.rowcount)
    cursor.execute(sql("forget_lost_counters"))
    return cohorts + int(cursor.rowcount)


def insert(cursor: Cursor, cohorts: Sequence[tuple[str, int, str, int]]) -> None:
    """Make the cohorts (id, tenant, stream, batch id) that are not there yet."""
    if not cohorts:
        return
    columns = list(zip(*sorted(cohorts), strict=True))
    values = {
        "ids": uuid_array(columns[0]),
        "tenants": number_array(columns[1]),
        "streams": text_array(columns[2]),
        "batches": number_array(columns[3]),
    }
    cursor.execute(sql("insert_cohorts"), values)
