"""Forgetting a person: their address and all that was kept of their mail is taken out of every table, in one transaction.

Rows of jobs and attempts stay, blank, so that sums stay true and an id is still known; suppressions stay as hashes. What lies in
Kafka's topics goes by their retention.
"""

from collections.abc import Mapping
from typing import NamedTuple

from db.connection import Cursor, bytes_array, fetch, uuid_array
from db.queries import sql

# Some tables have no index by address, and nothing waits for this.
_PATIENCE = "SET LOCAL statement_timeout = '30min'"


class Erased(NamedTuple):
    """How many rows of each kind. `shared_bodies` are stored originals that other people's waiting mail still needs; they go with it."""

    jobs: int
    events: int
    payloads: int
    dead_letters: int
    suppressions: int
    shared_bodies: int


def forget(cursor: Cursor, address: str) -> Erased:
    """Erase an address (in lower case); mail to it that still waits is cancelled."""
    cursor.execute(_PATIENCE)
    of = {"address": address}
    ids = [row[0] for row in fetch(cursor, sql("find_persons_jobs"), of)]
    bounds = {"ids": uuid_array(ids), "low": min(ids, default=None), "high": max(ids, default=None)}
    events = _run(cursor, "erase_tracking", bounds) + _run(cursor, "erase_others_tracking", of) + _run(cursor, "erase_unmatched", of)
    hashes = {bytes(row[0]) for row in fetch(cursor, sql("erase_payloads"), bounds)}
    bodies = {"hashes": bytes_array(sorted(hashes))}
    _run(cursor, "erase_bodies", bodies)
    shared = fetch(cursor, sql("count_shared_bodies"), bodies)[0][0]
    dead_letters = _run(cursor, "erase_dead_letters", of | bounds)
    _run(cursor, "erase_rejections", of)
    suppressions = _run(cursor, "hash_suppressions", of)
    _run(cursor, "blank_attempts", bounds)
    _run(cursor, "blank_jobs", bounds)
    return Erased(len(ids), events, len(hashes), dead_letters, suppressions, shared)


def _run(cursor: Cursor, name: str, values: Mapping[str, object]) -> int:
    cursor.execute(sql(name), values)
    return int(cursor.rowcount)
