"""Who must not get mail: the list, and the rule by which addresses that were refused for good come onto it.

Rejections are kept by account and window (a stretch of time). A window in which an account was refused many addresses and
delivered nothing is held: the ESP is to blame, and nobody is suppressed by it. A delivery that becomes known later releases it.
So what is on the list in the end does not depend on the order in which events came.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from db.connection import Cursor, fetch, flag_array, number_array, text_array, time_array, uuid_array
from db.queries import sql

WINDOW_S, MASS = 600, 20
KEEP_DAYS = 14


class Window(NamedTuple):
    """A stretch of time of one account, WINDOW_S seconds long; `start_s` in Unix seconds."""

    provider: str
    account_tenant: int
    start_s: int


class Rejection(NamedTuple):
    """An address was refused for good; `address` in lower case, `tenant` is the job's."""

    window: Window
    tenant: int
    address: str
    at: datetime


class Suppression(NamedTuple):
    """`source` is "<provider>/<account's tenant>", `at` when it happened. `cohort_id` is the mail's, for an unsubscribe, since that
    speaks of the stream in which it was made (None = of all mail)."""

    address: str
    tenant: int
    reason: str
    source: str
    at: datetime
    cohort_id: str | None = None


class Stop(NamedTuple):
    """Why an address gets no mail of a tenant, or of nobody (`is_global`). `stream` is an unsubscribe's ("" = not known)."""

    tenant: int
    reason: str
    stream: str
    is_global: bool


class Listed(NamedTuple):
    address: str
    tenant: int
    reason: str
    source: str
    at: datetime
    until: datetime | None
    stream: str
    is_global: bool


def window_of(provider: str, account_tenant: int, at: datetime) -> Window:
    """The window that a moment falls into."""
    return Window(provider, account_tenant, int(at.timestamp()) // WINDOW_S * WINDOW_S)


def find_stops(cursor: Cursor, addresses: Sequence[str]) -> dict[str, list[Stop]]:
    """For each lower-case address that must not get some mail: why, and whose."""
    found: dict[str, list[Stop]] = {}
    for address, *stop in fetch(cursor, sql("find_suppressions"), {"addresses": text_array(addresses)}):
        found.setdefault(address, []).append(Stop(*stop))
    return found


def insert(cursor: Cursor, suppressions: Sequence[Suppression]) -> None:
    """Put addresses on the list; of several events for the same, the earliest counts."""
    if suppressions:
        values = {
            "addresses": text_array([s.address for s in suppressions]),
            "tenants": number_array([s.tenant for s in suppressions]),
            "reasons": text_array([s.reason for s in suppressions]),
            "sources": text_array([s.source for s in suppressions]),
            "moments": time_array([s.at for s in suppressions]),
            "cohorts": uuid_array([s.cohort_id for s in suppressions]),
        }
        cursor.execute(sql("insert_suppressions"), values)


def judge(cursor: Cursor, rejections: Sequence[Rejection], deliveries: Iterable[Window]) -> list[Window]:
    """Note rejections and in which windows something was delivered, and suppress accordingly; returns the windows held from now on."""
    concerned = _concerned(cursor, rejections, set(deliveries))
    if not concerned:
        return []
    locked = _lock(cursor, concerned)
    _insert_rejections(cursor, rejections)
    counts = _count(cursor, list(locked))
    changed = {w: held for w, (has_delivery, was) in locked.items() if (held := counts[w] >= MASS and not has_delivery) != was}
    addresses = {r.address for r in rejections}
    if changed:
        addresses |= _turn(cursor, changed)
    if addresses:
        cursor.execute(sql("apply_rejections"), {"addresses": text_array(sorted(addresses))})
    return [window for window, is_held in changed.items() if is_held]


def sweep(cursor: Cursor) -> int:
    """Forget rejections and windows that nothing can change any more; what they suppressed stays."""
    cursor.execute(sql("sweep_rejections"), {"days": KEEP_DAYS})
    gone = int(cursor.rowcount)
    cursor.execute(sql("sweep_windows"), {"days": KEEP_DAYS})
    return gone + int(cursor.rowcount)


def find(cursor: Cursor, address: str | None, source: str | None, limit: int) -> list[Listed]:
    """The newest entries that fit; None = any."""
    return [Listed(*row) for row in fetch(cursor, sql("list_suppressions"), {"address": address, "source": source, "limit": limit})]


def count(cursor: Cursor) -> list[tuple[str, str, int]]:
    """How many entries each reason and source has."""
    return [(reason, source, number) for reason, source, number in fetch(cursor, sql("count_suppressions"), {})]


def add(cursor: Cursor, address: str, tenant: int | None, reason: str, source: str, until: datetime | None) -> bool:
    """Put one address on the list by hand, for a tenant or (None) for everybody; False where an entry for everybody is there."""
    values = {"address": address, "tenant": tenant or 0, "reason": reason, "source": source, "until": until, "is_global": tenant is None}
    return bool(fetch(cursor, sql("add_suppression"), values))


def remove(cursor: Cursor, address: str, tenant: int | None, reason: str | None) -> list[str]:
    """Take an address off the list, a forgotten one too; returns the reasons that were there."""
    return [row[0] for row in fetch(cursor, sql("remove_suppression"), {"address": address, "tenant": tenant, "reason": reason})]


def undo(cursor: Cursor, source: str, since: datetime | None, until: datetime | None, reason: str | None) -> int:
    """Take off everything that one source brought within a time; returns how many entries."""
    values = {"source": source, "since": since, "until": until, "reason": reason}
    return int(fetch(cursor, sql("undo_suppressions"), values)[0][0])


def _concerned(cursor: Cursor, rejections: Sequence[Rejection], deliveries: set[Window]) -> dict[Window, bool]:
    """The windows that have to be locked, and whether something was delivered in them. Most deliveries say nothing new."""
    refused = {r.window for r in rejections}
    known: set[Window] = set()
    if quiet := sorted(deliveries - refused):
        known = {_window(row) for row in fetch(cursor, sql("find_delivering_windows"), _windows(quiet))}
    return {window: window in deliveries for window in refused | (deliveries - known)}


def _lock(cursor: Cursor, concerned: Mapping[Window, bool]) -> dict[Window, tuple[bool, bool]]:
    windows = sorted(concerned)
    values = _windows(windows) | {"deliveries": flag_array([concerned[w] for w in windows])}
    rows = fetch(cursor, sql("lock_windows"), values)
    return {_window(row): (row[3], row[4]) for row in rows}


def _insert_rejections(cursor: Cursor, rejections: Sequence[Rejection]) -> None:
    if rejections:
        values = _windows([r.window for r in rejections]) | {
            "tenants": number_array([r.tenant for r in rejections]),
            "addresses": text_array([r.address for r in rejections]),
            "moments": time_array([r.at for r in rejections]),
        }
        cursor.execute(sql("insert_rejections"), values)


def _count(cursor: Cursor, windows: Sequence[Window]) -> dict[Window, int]:
    return {_window(row): row[3] for row in fetch(cursor, sql("count_rejections"), _windows(windows) | {"limit": MASS})}


def _turn(cursor: Cursor, changed: Mapping[Window, bool]) -> set[str]:
    """Hold and release windows; returns the addresses whose suppression has to be looked at again."""
    windows = sorted(changed)
    cursor.execute(sql("hold_windows"), _windows(windows) | {"held": flag_array([changed[w] for w in windows])})
    if held := [w for w in windows if changed[w]]:
        sources = text_array([f"{w.provider}/{w.account_tenant}" for w in held])
        cursor.execute(sql("withdraw_suppressions"), _windows(held) | {"sources": sources})
    return {row[0] for row in fetch(cursor, sql("find_rejected"), _windows(windows))}


def _windows(windows: Sequence[Window]) -> dict[str, Any]:
    return {
        "providers": text_array([w.provider for w in windows]),
        "account_tenants": number_array([w.account_tenant for w in windows]),
        "starts": time_array([datetime.fromtimestamp(w.start_s, UTC) for w in windows]),
    }


def _window(row: Sequence[Any]) -> Window:
    return Window(row[0], row[1], int(row[2].timestamp()))
