"""The routing snapshot: weights computed by one process, read by all others from shared memory without a lock.

Two banks and a generation: the writer fills the bank that is not current and only then moves the generation on, so a writer
that is killed in the middle leaves the old snapshot whole. What a reader copied is proved by a CRC, never by the order of
stores, which Python cannot promise on every processor. There must never be a lock in here, nor a reader that spins.
"""

import struct
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

ANY = "*"  # the row of a tenant for mailbox providers that have none of their own
BANK_BYTES = 1 << 20  # untouched pages of an anonymous mapping cost nothing
_HEADER_BYTES = 64
SIZE_BYTES = _HEADER_BYTES + 2 * BANK_BYTES

_GENERATION = struct.Struct("<Q")
_BANK = struct.Struct("<QdII")  # generation, CLOCK_MONOTONIC seconds, length of the blob, CRC of all the others and the blob
_TRIES = 3

# tenant -> mailbox provider -> provider -> permille
Weights: TypeAlias = Mapping[int, Mapping[str, Mapping[str, int]]]


class Buffer(Protocol):
    """What both an mmap and a bytearray offer."""

    def __getitem__(self, index: slice, /) -> bytes | bytearray: ...

    def __setitem__(self, index: slice, value: bytes, /) -> None: ...


class Document(msgspec.Struct, frozen=True):
    """What the blob holds: the weights, and whatever else the balancer passes on to all workers (pauses, rate shares)."""

    weights: dict[int, dict[str, dict[str, int]]]
    extras: dict[str, Any] = {}


class Snapshot(msgspec.Struct, frozen=True):
    """One generation of the snapshot, whole. `made_at_s` is on CLOCK_MONOTONIC, which all processes of a host share."""

    document: Document
    made_at_s: float
    generation: int

    def weights(self, tenant: int, mailbox_provider: str) -> Mapping[str, int] | None:
        """{provider: permille} of exactly this cell row ("*" = the tenant's row for all others), or None where there is none."""
        return self.document.weights.get(tenant, {}).get(mailbox_provider)

    @property
    def extras(self) -> Mapping[str, Any]:
        """What came beside the weights."""
        return self.document.extras

    def age_s(self, now_s: float) -> float:
        """How old the weights are, on CLOCK_MONOTONIC."""
        return max(0.0, now_s - self.made_at_s)


class SnapshotWriter:
    """The only writer of a buffer of SIZE_BYTES. A successor goes on where a killed writer stopped."""

    def __init__(self, buffer: Buffer, clock: Callable[[], float] = time.monotonic):
        self._buffer = buffer
        self._clock = clock

    def write(self, weights: Weights, extras: Mapping[str, Any] | None = None, age_s: float = 0.0) -> bool:
        """Publish these weights; `age_s` is how long ago they were computed. False = too large for a bank, the old ones stay.

        Raises msgspec.ValidationError where the weights do not have the shape tenant -> mailbox provider -> provider -> int.
        """
        document = msgspec.convert({"weights": weights, "extras": extras or {}}, Document, strict=False)
        blob = msgspec.json.encode(document)
        if _BANK.size + len(blob) > BANK_BYTES:
            return False
        generation = _current_generation(self._buffer) + 1
        made_at_s = self._clock() - age_s
        crc = _checksum(generation, made_at_s, blob)
        start = _bank_start(generation)
        bank = _BANK.pack(generation, made_at_s, len(blob), crc) + blob
        self._buffer[start : start + len(bank)] = bank
        # eight aligned bytes by slice assignment are one store; struct.pack_into would write zeros first
        self._buffer[0 : _GENERATION.size] = _GENERATION.pack(generation)
        return True


class SnapshotReader:
    """Reads the newest snapshot; costs well under a microsecond while nothing changes."""

    def __init__(self, buffer: Buffer):
        self._buffer = buffer
        self._last: Snapshot | None = None
        self._last_blob = b""

    def read(self) -> Snapshot | None:
        """The newest snapshot that is whole, else the last good one, else None (nobody has written yet)."""
        for _ in range(_TRIES):
            generation = _current_generation(self._buffer)
            if generation == 0 or (self._last and self._last.generation == generation):
                break
            copied = self._copy(generation)
            if copied:
                self._accept(generation, *copied)
                break
        return self._last

    def _copy(self, generation: int) -> tuple[float, bytes] | None:
        """(time, blob) of a bank, or None where it was torn or overtaken."""
        start = _bank_start(generation)
        found, made_at_s, length, crc = _BANK.unpack(self._buffer[start : start + _BANK.size])
        if found != generation or length > BANK_BYTES - _BANK.size:
            return None
        blob = bytes(self._buffer[start + _BANK.size : start + _BANK.size + length])
        return (made_at_s, blob) if _checksum(generation, made_at_s, blob) == crc else None

    def _accept(self, generation: int, made_at_s: float, blob: bytes) -> None:
        """Parses only what differs from the last blob: most writes only say that the same weights are still true."""
        is_known = self._last is not None and blob == self._last_blob
        document = self._last.document if self._last and is_known else msgspec.json.decode(blob, type=Document)
        self._last = Snapshot(document, made_at_s, generation)
        self._last_blob = blob


def _current_generation(buffer: Buffer) -> int:
    return int(_GENERATION.unpack(buffer[0 : _GENERATION.size])[0])


def _bank_start(generation: int) -> int:
    return _HEADER_BYTES + generation % 2 * BANK_BYTES


def _checksum(generation: int, made_at_s: float, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(_BANK.pack(generation, made_at_s, len(blob), 0)))
