"""Events on their way to Kafka: stored in the transaction that made them true, deleted when the broker has them."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from db.connection import Cursor, fetch, text_array, uuid_array
from db.queries import sql
from mail.ids import new_id
from mail.published import Published

_encoder = msgspec.json.Encoder()


class Posting(NamedTuple):
    """The events of one batch for one topic; `keys` may hold None, each value is JSON in one line."""

    id: str
    topic: str
    keys: tuple[str | None, ...]
    values: tuple[str, ...]


def of_events(topic: str, events: Sequence[Published]) -> Posting:
    """The outbox row of these events, keyed by job id."""
    return Posting(new_id(), topic, tuple(e.job_id for e in events), tuple(_encoder.encode(e).decode() for e in events))


def insert(cursor: Cursor, posting: Posting) -> None:
    if posting.values:
        values = {"id": posting.id, "topic": posting.topic, "keys": text_array(posting.keys), "values": "\n".join(posting.values)}
        cursor.execute(sql("insert_outbox"), values)


def delete(cursor: Cursor, ids: Sequence[str]) -> None:
    if ids:
        cursor.execute(sql("delete_outbox"), {"ids": uuid_array(ids)})


def find_stale(cursor: Cursor, age_s: float, limit: int) -> list[Posting]:
    """Postings older than `age_s` seconds, oldest first: their worker died or could not reach the broker."""
    rows = fetch(cursor, sql("find_stale_outbox"), {"age_s": age_s, "limit": limit})
    return [Posting(id_, topic, tuple(keys), tuple(values)) for id_, topic, keys, values in rows]
