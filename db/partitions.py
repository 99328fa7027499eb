"""Day partitions of email_jobs, email_attempts (by UUIDv7) and email_tracking (by time): made ahead, dropped by retention.

A partition whose rows already went to the default one cannot be made afterwards, so they are made days ahead.
"""

from datetime import UTC, date, datetime, timedelta

from db.connection import Cursor
from mail.ids import bounds_of_day

_BY_ID = ("email_jobs", "email_attempts")
# Each row is written twice within milliseconds (open, record): room for the second version keeps the update HOT.
_FILLFACTOR = {"email_jobs": 45, "email_attempts": 40}
_SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"
_SWEEP_MOST = 10_000
_AHEAD_DAYS = 402  # events of ours are clamped to 400 days after their attempt

# What retention must leave alone: an email that still waits, and an attempt without an answer.
_UNFINISHED = {
    "email_jobs": "status IN ('pending', 'scheduled', 'sending', 'retrying', 'uncertain')",
    "email_attempts": "state IN ('open', 'uncertain')",
}


def make_ahead(cursor: Cursor, days: int) -> None:
    """Make the partitions from yesterday to `days` ahead, by the database's clock."""
    cursor.execute("SELECT (now() AT TIME ZONE 'UTC')::date")
    row = cursor.fetchone()
    assert row is not None
    make(cursor, row[0] - timedelta(days=1), row[0] + timedelta(days=days))


def make(cursor: Cursor, first: date, last: date) -> None:
    """Make the partitions of the days from `first` to `last`, both included, that are not there yet."""
    existing = _names(cursor)
    day = first
    while day <= last:
        for table in _BY_ID:
            if _name(table, day) not in existing:
                _make_by_id(cursor, table, day)
        if _name("email_tracking", day) not in existing:
            _make_by_time(cursor, day)
        day += timedelta(days=1)


def drop_before(cursor: Cursor, table: str, day: date) -> list[str]:
    """Drop the partitions of `table` whose whole day lies before `day`; returns their names. Rows that are not finished (scheduled for
    years ahead, in doubt) move to the default partition, where `sweep_default` takes them once they are.

    Detaching locks out everybody, and whoever waits for that lock makes all others wait behind it: so it is not waited for long.
    Raises (StoreUnavailable, by the connection) where somebody works in the table: try again later.
    """
    cursor.execute(_SHORT_WAIT)
    old = sorted(name for name in _names(cursor) if name.startswith(f"{table}_2") and name < _name(table, day))
    unfinished = _UNFINISHED.get(table)
    for name in old:
        cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
        if unfinished:
            cursor.execute(f"INSERT INTO {table} SELECT * FROM {name} WHERE {unfinished}")  # noqa: S608 (all of it is ours)
        cursor.execute(f"DROP TABLE {name}")
    return old


def sweep_default(cursor: Cursor, table: str, day: date) -> int:
    """Delete rows from before `day` that lie in the default partition, since their day has none, and are finished; returns how many.
    With them go events of a time so far ahead that they would never be old enough: no email of ours can be meant."""
    column, bound = ("id", bounds_of_day(_milliseconds(day), _milliseconds(day))[0]) if table in _BY_ID else ("occurred_at", day)
    old = f"{column} < %s AND NOT ({_UNFINISHED.get(table, 'false')})"
    if table not in _BY_ID:
        old += f" OR {column} > now() + interval '{_AHEAD_DAYS} days'"
    rows = f"SELECT ctid FROM {table}_default WHERE {old} LIMIT {_SWEEP_MOST}"  # noqa: S608 (names of ours)
    cursor.execute(f"DELETE FROM {table}_default WHERE ctid = ANY(ARRAY({rows}))", (bound,))  # noqa: S608
    return int(cursor.rowcount)


def _names(cursor: Cursor) -> set[str]:
    cursor.execute("SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'r'")
    return {row[0] for row in cursor.fetchall()}


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _make_by_id(cursor: Cursor, table: str, day: date) -> None:
    low, high = bounds_of_day(_milliseconds(day), _milliseconds(day + timedelta(days=1)))
    cursor.execute(
        f"CREATE TABLE {_name(table, day)} PARTITION OF {table} FOR VALUES FROM (%s) TO (%s) WITH (fillfactor = {_FILLFACTOR[table]})",
        (low, high),
    )


def _make_by_time(cursor: Cursor, day: date) -> None:
    cursor.execute(
        f"CREATE TABLE {_name('email_tracking', day)} PARTITION OF email_tracking FOR VALUES FROM (%s) TO (%s)",
        (f"{day.isoformat()} 00:00+00", f"{(day + timedelta(days=1)).isoformat()} 00:00+00"),
    )


def _milliseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
