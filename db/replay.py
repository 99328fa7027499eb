"""Dead letters brought back. A replay opens a new generation of the job, so a dead id can be sent after all; each letter once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from db import payloads
from db.connection import Cursor, fetch, uuid_array
from db.payloads import Payload, Vault
from db.queries import sql


class Choice(NamedTuple):
    """Which dead letters; None = any."""

    ids: Sequence[str] | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    template: str | None = None


class Chosen(NamedTuple):
    """A dead letter that may be brought back. `row_id` None: it never became a row, or that is gone by its retention."""

    id: str
    row_id: str | None
    record_index: int | None
    source: dict[str, Any]
    value: bytes | None
    job_id: str | None
    at: datetime


def choose(cursor: Cursor, choice: Choice, skipped: Sequence[str], limit: int) -> list[Chosen]:
    """The oldest that fit, locked for this transaction; `skipped` were looked at before and left."""
    values = choice._asdict() | {"ids": uuid_array(choice.ids) if choice.ids else None, "skipped": uuid_array(skipped), "limit": limit}
    rows = fetch(cursor, sql("choose_dead_letters"), values)
    return [Chosen(i, row_id, n, source, None if value is None else bytes(value), *rest) for i, row_id, n, source, value, *rest in rows]


def find(cursor: Cursor, choice: Choice, limit: int) -> list[tuple[Any, ...]]:
    """The newest that fit: id, reason, error, job id, attempts, when it died, and whether it was replayed or dropped."""
    values = {"reason": choice.reason, "since": choice.since, "until": choice.until, "template": choice.template, "limit": limit}
    return fetch(cursor, sql("list_dead_letters"), values)


def revive(cursor: Cursor, letters: Sequence[Chosen], vault: Vault) -> set[str]:
    """Make the dead jobs of these letters due again, with their original bytes; returns the row ids of those that were dead."""
    letters = [letter for letter in letters if letter.row_id and letter.value is not None]
    if not letters:
        return set()
    ids = [letter.row_id for letter in letters if letter.row_id]
    revived = {row[0] for row in fetch(cursor, sql("revive_jobs"), {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)})}
    alive = [x for x in letters if x.row_id in revived]
    payloads.store(cursor, [Payload(x.row_id or "", x.value or b"", x.record_index, x.source) for x in alive], vault)
    return revived


def mark(cursor: Cursor, ids: Sequence[str]) -> None:
    """These are replayed or dropped: never again."""
    if ids:
        cursor.execute(sql("mark_replayed"), {"ids": uuid_array(ids)})


def audit(cursor: Cursor, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
    """Who did what to what."""
    values = {"actor": actor, "action": action, "subject": subject, "details": msgspec.json.encode(details).decode()}
    cursor.execute(sql("insert_audit"), values)
