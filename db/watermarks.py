"""Up to when the events of each account are applied: the proof that silence about an email means something.

A watermark counts only where everything that was in its topic when it passed is applied as well; without that the newest event says
nothing about the older ones that are still behind it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from db import postponed
from db.connection import Cursor, fetch, number_array, text_array, time_array
from db.queries import sql

GONE_DAYS = 7
Owner = tuple[str, int]  # provider, account's tenant


def advance(cursor: Cursor, newest: Mapping[Owner, datetime]) -> None:
    """Events of these accounts are applied up to these moments; a watermark never goes back."""
    if newest:
        owners = sorted(newest)
        values = {
            "providers": text_array([provider for provider, _ in owners]),
            "account_tenants": number_array([tenant for _, tenant in owners]),
            "moments": time_array([newest[owner] for owner in owners]),
        }
        cursor.execute(sql("raise_watermarks"), values)


def note_progress(cursor: Cursor, applied: Mapping[tuple[str, int], datetime | None]) -> datetime:
    """Up to when what was in each partition (topic, number) of this worker is applied, None = nothing new; returns the database's time."""
    if applied:
        places = sorted(applied)
        values = {
            "topics": text_array([topic for topic, _ in places]),
            "partitions": number_array([partition for _, partition in places]),
            "moments": time_array([applied[place] for place in places]),
        }
        cursor.execute(sql("note_progress"), values)
    moment: datetime = fetch(cursor, "SELECT now()", {})[0][0]
    return moment


def sweep_progress(cursor: Cursor) -> int:
    """Forget partitions that are no more, for which every doubt would wait; returns how many."""
    cursor.execute(sql("sweep_progress"), {"days": GONE_DAYS})
    return int(cursor.rowcount)


class Mark(NamedTuple):
    """How far an account's events are applied. `applied_until`: all that was in the topic of its ESP at that moment is, too (None = of
    one of its partitions nobody has said so yet), but for callbacks that came until `unread_until` and could not be verified."""

    at: datetime
    applied_until: datetime | None
    unread_until: datetime | None = None


def marks(cursor: Cursor, topics: Mapping[str, str]) -> dict[Owner, Mark]:
    """How far the events of each account are applied, and whether that can be relied on. `topics` names each ESP's topic."""
    applied = dict(fetch(cursor, sql("find_applied"), {}))
    unread = postponed.find_unread(cursor)
    rows = [(provider, tenant, at, topics.get(provider, "")) for provider, tenant, at in fetch(cursor, sql("read_watermarks"), {})]
    return {(provider, tenant): Mark(at, applied.get(topic), unread.get(topic)) for provider, tenant, at, topic in rows}
