"""Rows whose time has come: leased by one slot, highest lane first."""

from collections.abc import Mapping, Sequence
from typing import Any

import telemetry.log
from db.connection import Cursor, fetch, uuid_array
from db.ledger import standing_of
from db.payloads import Vault, find_bodies
from db.queries import sql
from mail.record import Record

log = telemetry.log.get("db.due")


def lease(cursor: Cursor, owner: str, lanes: Sequence[str], limit: int, lease_s: float, vault: Vault) -> list[Record]:
    """Take up to `limit` due rows of these lanes for `owner`, in the order of the lanes; each comes as a record with its standing.

    The lease ends when an attempt is opened or the row is decided; after `lease_s` seconds the row is due again.
    """
    ids: list[str] = []
    for lane in lanes:
        if len(ids) < limit:
            values = {"lane": lane, "limit": limit - len(ids), "lease_s": lease_s, "owner": owner}
            ids += [row[0] for row in fetch(cursor, sql("lease_due"), values)]
    return _load(cursor, ids, vault) if ids else []


def lease_one(cursor: Cursor, owner: str, row_ids: Sequence[str], lease_s: float, vault: Vault) -> list[Record]:
    """Take one of these rows though its lane is stopped and its time may not have come; none where all are over or in somebody's hand."""
    if not row_ids:
        return []
    bounds = {"ids": uuid_array(row_ids), "low": min(row_ids), "high": max(row_ids)}
    ids = [row[0] for row in fetch(cursor, sql("lease_probe"), bounds | {"lease_s": lease_s, "owner": owner})]
    return _load(cursor, ids, vault) if ids else []


def release_leases(cursor: Cursor, owner: str) -> int:
    """Make the rows that a dead predecessor had taken due at once; returns how many there were."""
    cursor.execute(sql("release_leases"), {"owner": owner})
    return int(cursor.rowcount)


def _load(cursor: Cursor, ids: Sequence[str], vault: Vault) -> list[Record]:
    """The rows as records. Bytes that are lost come as None. Rows whose bytes are locked to this program keep their lease and come
    again after it: a forgotten key must not turn everything that waits into dead letters."""
    rows = fetch(cursor, sql("load_due"), {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)})
    sealed = find_bodies(cursor, list({bytes(row[12]) for row in rows if row[12] is not None}))
    opened, problem = _open(sealed, vault)
    if problem:
        log.error("rows wait because their stored bytes cannot be opened", problem=problem, rows=len(sealed) - len(opened))
    position = {row_id: n for n, row_id in enumerate(ids)}
    rows.sort(key=lambda row: position[row[0]])
    hashes = [bytes(row[12] or b"") for row in rows]
    return [_record(row, opened.get(h)) for row, h in zip(rows, hashes, strict=True) if h in opened or h not in sealed]


def _open(sealed: Mapping[bytes, bytes], vault: Vault) -> tuple[dict[bytes, bytes], str]:
    """The original bytes by their hash, and why some of them are missing."""
    opened: dict[bytes, bytes] = {}
    problem = ""
    for body_hash, body in sealed.items():
        try:
            opened[body_hash] = vault.open(body)
        except ValueError as error:
            problem = str(error)
    return opened, problem


def _record(row: Sequence[Any], value: bytes | None) -> Record:
    standing = standing_of((row[0], *row[2:8], True, *row[8:12]))
    return Record(value=value, lane=row[1], topic=f"row:{row[0]}", index=row[13], standing=standing, stored_source=row[14])
