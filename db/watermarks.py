"""Up to when the events of each account are applied: the proof that silence about an email means something.

A watermark counts only while no callback of its topic waits in Kafka; without that the newest event says nothing about the
older ones that are still behind it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from db.connection import Cursor, fetch, number_array, text_array, time_array
from db.queries import sql

FRESH_S = 60.0
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


def note_progress(cursor: Cursor, lag: Mapping[tuple[str, int], int]) -> None:
    """How many callbacks wait in each partition (topic, number) that this worker owns."""
    if lag:
        places = sorted(lag)
        values = {
            "topics": text_array([topic for topic, _ in places]),
            "partitions": number_array([partition for _, partition in places]),
            "lags": number_array([lag[place] for place in places]),
        }
        cursor.execute(sql("note_progress"), values)


class Mark(NamedTuple):
    """How far an account's events are applied. `quiet_since`: all its partitions have said, then or later, that nothing waits
    (None = something does, or one was not heard of lately)."""

    at: datetime
    quiet_since: datetime | None


def marks(cursor: Cursor, topics: Mapping[str, str]) -> dict[Owner, Mark]:
    """How far the events of each account are applied, and whether that can be relied on. `topics` names each ESP's topic."""
    quiet = dict(fetch(cursor, sql("find_quiet_topics"), {"fresh_s": FRESH_S}))
    rows = fetch(cursor, sql("read_watermarks"), {})
    return {(provider, tenant): Mark(at, quiet.get(topics.get(provider))) for provider, tenant, at in rows}


def read(cursor: Cursor, topics: Mapping[str, str]) -> dict[Owner, datetime]:
    """Watermarks that can be relied on. One whose topic lags, or that nobody has read lately, is none."""
    return {owner: mark.at for owner, mark in marks(cursor, topics).items() if mark.quiet_since is not None}
