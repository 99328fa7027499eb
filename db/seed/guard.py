"""May this database be seeded? Only one that holds nothing, and only once."""

from datetime import datetime

from db.connection import Cursor, fetch
from db.queries import sql

ACTION = "seeded"
_LOCK = 7_003_412  # any number that only we use


def lock(cursor: Cursor) -> None:
    """Two seeds at once take turns: the second finds what the first has done."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def find_seeding(cursor: Cursor) -> datetime | None:
    """When this database was seeded, None = it never was."""
    rows = fetch(cursor, sql("find_seeding"), {"action": ACTION})
    return rows[0][0] if rows else None


def find_filled_tables(cursor: Cursor) -> list[str]:
    """The tables that hold rows of somebody's; templates and computed weights do not count, every database may have them."""
    return [row[0] for row in fetch(cursor, sql("find_filled_tables"), {})]
