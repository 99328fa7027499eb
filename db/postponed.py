"""Callbacks that could not be verified when they came: rows until they can, so that nothing behind them waits.

While one is here, or was given up, the silence of its ESP means nothing for what was sent before it was stored.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from db.connection import Cursor, bytes_array, fetch, number_array, text_array, time_array
from db.queries import sql

SOONEST_S, LATEST_S = 5.0, 300.0
KEEP_DAYS = 14
# Of one topic: beyond it, the rest stays in Kafka.
ROWS_MOST, BYTES_MOST = 10_000, 256 << 20
_LATEST_S = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


class Postponed(NamedTuple):
    """A callback and the record that it was. `number` is its row's (None = it is none yet), `received_at_s` in Unix seconds; `is_last`:
    if it cannot be verified now, it is given up."""

    topic: str
    partition: int
    offset: int
    value: bytes
    received_at_s: float | None
    number: int | None = None
    is_last: bool = False


def put(cursor: Cursor, callbacks: Sequence[Postponed]) -> None:
    """Keep these for later; those that are here wait longer than before."""
    callbacks = list({c[:3]: c for c in callbacks}.values())  # read anew after a crash, beside its own row
    if callbacks:
        values = {
            "topics": text_array([c.topic for c in callbacks]),
            "partitions": number_array([c.partition for c in callbacks]),
            "offsets": number_array([c.offset for c in callbacks]),
            "values": bytes_array([c.value for c in callbacks]),
            "received": time_array([_moment(c.received_at_s) for c in callbacks]),
            "soonest_s": SOONEST_S,
            "latest_s": LATEST_S,
        }
        cursor.execute(sql("put_postponed"), values)


def lease(cursor: Cursor, topics: Sequence[str], limit: int, bytes_most: int, lease_s: float) -> list[Postponed]:
    """Take up to `limit` of these topics whose time has come, and about so many bytes; whoever dies over them leaves them to others
    after `lease_s` seconds."""
    values = {"topics": text_array(topics), "limit": limit, "bytes": bytes_most, "lease_s": lease_s, "days": KEEP_DAYS}
    rows = fetch(cursor, sql("lease_postponed"), values)
    return [Postponed(row[0], row[1], row[2], bytes(row[3]), *row[4:]) for row in rows]


def delete(cursor: Cursor, numbers: Sequence[int]) -> None:
    """These were read."""
    if numbers:
        cursor.execute(sql("delete_postponed"), {"numbers": number_array(numbers)})


def give_up(cursor: Cursor, numbers: Sequence[int]) -> None:
    """These are not tried any more; that they were never read is remembered."""
    if numbers:
        cursor.execute(sql("empty_postponed"), {"numbers": number_array(numbers)})


def find_crowded(cursor: Cursor) -> set[str]:
    """Topics of which no more may be taken."""
    return {row[0] for row in fetch(cursor, sql("find_crowded"), {"rows": ROWS_MOST, "bytes": BYTES_MOST})}


def find_unread(cursor: Cursor) -> dict[str, datetime]:
    """For each topic with unread callbacks, until when they came."""
    return dict(fetch(cursor, sql("find_unread"), {}))


def forget_old(cursor: Cursor, doubts_days: int) -> int:
    """Forget those that are older than any doubt; returns how many."""
    cursor.execute(sql("forget_postponed"), {"days": doubts_days + KEEP_DAYS})
    return int(cursor.rowcount)


def _moment(seconds: float | None) -> datetime | None:
    # a record that a stranger made may name any time
    return None if seconds is None else datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST_S), UTC)
