"""Dead letters: what will not be sent, why, and the original bytes, so that a replay sends exactly what came in."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from db.connection import Cursor, bytes_array, fetch, number_array, text_array, uuid_array
from db.queries import sql


class DeadLetter(NamedTuple):
    """`id` is made by the caller, so that a repeated transaction stores it once. `row_id` None = there is no row for it."""

    id: str
    reason: str
    error: str
    job_id: str | None
    tenant: int
    source: dict[str, object]
    value: bytes | None
    row_id: str | None = None
    record_index: int | None = None
    attempts: int = 0


def insert(cursor: Cursor, letters: Sequence[DeadLetter]) -> set[str]:
    """Set dead letters aside; returns the ids of those that were not there yet."""
    if not letters:
        return set()
    values = {
        "ids": uuid_array([d.id for d in letters]),
        "reasons": text_array([d.reason for d in letters]),
        "errors": text_array([d.error.replace("\0", "") for d in letters]),
        "job_ids": text_array([d.job_id for d in letters]),
        "tenants": number_array([d.tenant for d in letters]),
        "row_ids": uuid_array([d.row_id for d in letters]),
        "indexes": number_array([d.record_index for d in letters]),
        "sources": text_array([msgspec.json.encode(d.source).decode() for d in letters]),
        "values": bytes_array([d.value for d in letters]),
        "attempts": number_array([d.attempts for d in letters]),
    }
    return {row[0] for row in fetch(cursor, sql("insert_dead_letters"), values)}
