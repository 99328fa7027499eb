"""The original bytes of jobs that left the fast path: compressed, encrypted where keys are set, once per content."""

import zlib
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, NoReturn

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from db.connection import Cursor, bytes_array, fetch, number_array, text_array, uuid_array
from db.queries import sql

_PLAIN, _ENCRYPTED = b"z", b"f"


class Payload(NamedTuple):
    """What a row needs to be sent later: the record's bytes, which email of them it is, and where they came from."""

    row_id: str
    value: bytes
    record_index: int | None
    source: dict[str, object]


class Vault:
    """Turns original bytes into stored ones and back. `keys` are Fernet keys, newest first; none = compression only."""

    def __init__(self, keys: Sequence[str] = ()):
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    def seal(self, value: bytes) -> bytes:
        packed = zlib.compress(value, 1)
        return _PLAIN + packed if self._fernet is None else _ENCRYPTED + self._fernet.encrypt(packed)

    def open(self, stored: bytes) -> bytes:
        """Raises ValueError where the bytes were encrypted with keys that are not set any more."""
        if stored[:1] == _PLAIN:
            return zlib.decompress(stored[1:])
        try:
            return zlib.decompress(self._fernet.decrypt(stored[1:])) if self._fernet else _refuse()
        except InvalidToken:
            return _refuse()


def _refuse() -> NoReturn:
    raise ValueError("the payload is encrypted: set ENCRYPTION_KEYS to the keys it was stored with") from None


def store(cursor: Cursor, payloads: Sequence[Payload], vault: Vault) -> None:
    """Store payloads with rows that exist already in this transaction or before; known ones stay as they are."""
    if not payloads:
        return
    bodies = {sha256(p.value).digest(): p.value for p in payloads}
    hashes = list(bodies)
    cursor.execute(sql("insert_bodies"), {"hashes": bytes_array(hashes), "bodies": bytes_array([vault.seal(bodies[h]) for h in hashes])})
    values = {
        "ids": uuid_array([p.row_id for p in payloads]),
        "hashes": bytes_array([sha256(p.value).digest() for p in payloads]),
        "indexes": number_array([p.record_index for p in payloads]),
        "sources": text_array([msgspec.json.encode(p.source).decode() for p in payloads]),
    }
    cursor.execute(sql("insert_payloads"), values)


def store_for_others(cursor: Cursor, payloads: Sequence[Payload], vault: Vault) -> None:
    """Store the bytes of jobs that somebody else has under way; a job that was released meanwhile becomes due.

    The rows are locked first, so that a release and this cannot miss each other.
    """
    if not payloads:
        return
    ids = [p.row_id for p in payloads]
    bounds = {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)}
    fetch(cursor, sql("lock_jobs"), bounds)
    store(cursor, payloads, vault)
    cursor.execute(sql("wake_released"), bounds)


def delete(cursor: Cursor, row_ids: Sequence[str]) -> None:
    """Forget the bytes of jobs that are over."""
    if row_ids:
        cursor.execute(sql("delete_payloads"), {"ids": uuid_array(row_ids)})


def load(cursor: Cursor, row_ids: Sequence[str], vault: Vault) -> list[Payload]:
    """The stored payloads of these rows, with their original bytes."""
    rows = fetch(cursor, sql("find_payloads"), {"ids": uuid_array(row_ids)})
    bodies = find_bodies(cursor, list({bytes(row[1]) for row in rows}))
    return [Payload(row_id, vault.open(bodies[bytes(body_hash)]), index, source) for row_id, body_hash, index, source in rows]


def find_bodies(cursor: Cursor, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
    """The sealed bytes by the hash of the original ones."""
    rows = fetch(cursor, sql("find_bodies"), {"hashes": bytes_array(hashes)})
    return {bytes(body_hash): bytes(body) for body_hash, body in rows}
