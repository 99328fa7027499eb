"""Sweeping: what is left over when everything went well, and the last nets for when it did not."""

from db.connection import Cursor
from db.queries import sql


def sweep_payloads(cursor: Cursor) -> int:
    """Forget the bytes of jobs that are over; returns how many rows went."""
    cursor.execute(sql("sweep_payloads"))
    payloads = int(cursor.rowcount)
    cursor.execute(sql("sweep_bodies"))
    return payloads + int(cursor.rowcount)


def wake_forgotten(cursor: Cursor) -> int:
    """Make released rows due that are in nobody's queue though their bytes are here; returns how many there were."""
    cursor.execute(sql("wake_forgotten"))
    return int(cursor.rowcount)


def forget_old_keys(cursor: Cursor, days: int) -> int:
    """Forget job ids that were seen more than `days` ago; returns how many."""
    cursor.execute(sql("forget_old_keys"), {"days": days})
    return int(cursor.rowcount)
