"""Dead letters: what will not be sent, why, and the original bytes, so that a replay sends exactly what came in."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from db.connection import Cursor, bytes_array, fetch, number_array, text_array, uuid_array
from db.outbox import Posting
from db.queries import sql
from mail.ids import new_id

# A dead letter that would not fit into a message of the topic carries its row's id instead of its value.
MAX_BYTES = 3 << 20
_encoder = msgspec.json.Encoder()


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


def retire(cursor: Cursor, days: int, limit: int) -> list[tuple[str, bool, int]]:
    """Delete up to `limit` of those that are older; returns how many for each reason, settled (replayed or dropped) ones apart."""
    return [
        (reason, is_settled, count)
        for reason, is_settled, count in fetch(cursor, sql("retire_dead_letters"), {"days": days, "limit": limit})
    ]


def posting(topic: str, letters: Sequence[DeadLetter], now: datetime) -> Posting:
    """The outbox row that tells of dead letters, keyed by job id; spelled as the wire formats ask for (section 5)."""
    return Posting(new_id(), topic, tuple(d.job_id for d in letters), tuple(_spell(d, now.isoformat()) for d in letters))


def _spell(letter: DeadLetter, at: str) -> str:
    message: dict[str, Any] = {
        "id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "source": letter.source,
        "at": at,
        "attempts": letter.attempts,
        "jobId": letter.job_id,
        "index": letter.record_index,
    }
    value = letter.value
    if value is None or len(value) > MAX_BYTES // 2:
        return _encoder.encode(message | {"row": letter.id}).decode()
    try:
        text = _encoder.encode(message | {"value": value.decode()}).decode()
    except UnicodeDecodeError:
        text = _encoder.encode(message | {"value": base64.b64encode(value).decode(), "encoding": "base64"}).decode()
    return text if len(text) <= MAX_BYTES else _encoder.encode(message | {"row": letter.id}).decode()
