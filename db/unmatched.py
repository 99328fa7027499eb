"""Events that matched no attempt when they came: kept for ten minutes, in case their send is recorded yet.

The record step binds what it can see. A webhook worker looks again twice, because a record transaction that was under way when
an event came can see as little of it as the event's transaction of the record.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from db.connection import Cursor, fetch, number_array, text_array, time_array, uuid_array
from db.queries import sql

FIRST_CHECK_S, KEEP_S = 20.0, 600.0


class Unmatched(NamedTuple):
    """An event that matched no attempt: `attempt_id` is what it names ("" = nothing), `event` its JSON."""

    id: str
    occurred_at: datetime
    provider: str
    account_tenant: int
    attempt_id: str
    message_id: str
    recipient: str
    event: str


class Waiting(NamedTuple):
    """An unmatched event whose time to be looked at has come. `attempt_id` was found by the record step, or is named by the event
    itself (None = neither); `is_last`: it will not be looked at again."""

    id: str
    occurred_at: datetime
    account_tenant: int
    attempt_id: str | None
    event: str
    is_last: bool


class Bindable(NamedTuple):
    """A send that was just recorded; `since` is when it can have had its first event, `recipient` in lower case."""

    attempt_id: str
    provider: str
    account_tenant: int
    message_id: str
    recipient: str
    since: datetime


class Joined(NamedTuple):
    """A tracking row that found its attempt."""

    id: str
    occurred_at: datetime
    row_id: str
    attempt_id: str


def insert(cursor: Cursor, events: Sequence[Unmatched]) -> None:
    """Keep events for later; their tracking rows are there already."""
    if not events:
        return
    columns = _columns(events)
    values = {
        "ids": uuid_array(columns.id),
        "moments": time_array(columns.occurred_at),
        "providers": text_array(columns.provider),
        "account_tenants": number_array(columns.account_tenant),
        "attempt_ids": uuid_array(columns.attempt_id),
        "message_ids": text_array(columns.message_id),
        "recipients": text_array(columns.recipient),
        "events": text_array(columns.event),
        "first_check_s": FIRST_CHECK_S,
    }
    cursor.execute(sql("insert_unmatched"), values)


def bind(cursor: Cursor, recipients: Callable[[], Sequence[str]], sends: Callable[[set[str]], Sequence[Bindable]]) -> int:
    """Give the events that are waiting for a send its attempt; returns how many. A webhook worker applies them.

    Nearly always nothing waits, and what waits is mostly for others, so more is only asked, and spelled out, where there is a
    reason: `recipients` names those of the sends (lower case), `sends` spells out those to some of them.
    """
    if not fetch(cursor, sql("has_unmatched"), {})[0][0]:
        return 0
    awaited = {row[0] for row in fetch(cursor, sql("find_awaited"), {"recipients": text_array(recipients())})}
    bindable = sends(awaited) if awaited else []
    if not bindable:
        return 0
    columns = _columns(bindable)
    values = {
        "ids": uuid_array(columns.attempt_id),
        "providers": text_array(columns.provider),
        "account_tenants": number_array(columns.account_tenant),
        "message_ids": text_array(columns.message_id),
        "recipients": text_array(columns.recipient),
        "since": time_array(columns.since),
    }
    cursor.execute(sql("bind_unmatched"), values)
    return int(cursor.rowcount)


def take(cursor: Cursor, limit: int) -> list[Waiting]:
    """Unmatched events whose time has come, locked against other workers."""
    return [Waiting(*row) for row in fetch(cursor, sql("take_unmatched"), {"limit": limit, "keep_s": KEEP_S})]


def find_jobs(cursor: Cursor, claims: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], str]:
    """The email_jobs.id behind each claim (attempt id, provider, account's tenant) that is true: the account check."""
    if not claims:
        return {}
    ids, providers, tenants = zip(*claims, strict=True)
    values = {
        "ids": uuid_array(ids),
        "providers": text_array(providers),
        "account_tenants": number_array(tenants),
        "low": min(ids),
        "high": max(ids),
    }
    return {(a, provider, tenant): row_id for a, provider, tenant, row_id in fetch(cursor, sql("find_accounts_attempts"), values)}


def join(cursor: Cursor, rows: Sequence[Joined]) -> None:
    """These events belong to jobs now; they wait no longer."""
    if not rows:
        return
    columns = _columns(rows)
    values = {
        "ids": uuid_array(columns.id),
        "moments": time_array(columns.occurred_at),
        "job_ids": uuid_array(columns.row_id),
        "attempt_ids": uuid_array(columns.attempt_id),
        "first": min(columns.occurred_at),
        "last": max(columns.occurred_at),
    }
    cursor.execute(sql("join_tracking"), values)
    cursor.execute(sql("delete_unmatched"), {"ids": uuid_array(columns.id)})


def postpone(cursor: Cursor, events: Sequence[Waiting]) -> None:
    """Look at these once more, when they have been kept long enough."""
    if events:
        cursor.execute(sql("postpone_unmatched"), {"ids": uuid_array([e.id for e in events]), "keep_s": KEEP_S})


def give_up(cursor: Cursor, events: Sequence[Waiting], keeps_tracking: bool) -> None:
    """Nobody's of ours: they are waited for no longer, and where they are not to be kept, forgotten."""
    if not events:
        return
    ids, moments = uuid_array([e.id for e in events]), [e.occurred_at for e in events]
    cursor.execute(sql("delete_unmatched"), {"ids": ids})
    if not keeps_tracking:
        bounds = {"first": min(moments), "last": max(moments)}
        cursor.execute(sql("delete_tracking"), {"ids": ids, "moments": time_array(moments)} | bounds)


def _columns(rows: Sequence[tuple[Any, ...]]) -> Any:
    """The same named tuple, but of columns."""
    kind: Any = type(rows[0])
    return kind(*zip(*rows, strict=True))
