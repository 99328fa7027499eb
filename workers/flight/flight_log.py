"""The flight log: what was in the air when this process died. One small memory-mapped file per delivery slot.

The kernel keeps the pages of a mapped file through any death of the process, kill -9 included, so a store into memory is
durable enough for a successor on the same boot of the same machine, and costs a fraction of a microsecond.

For each request the log holds its attempt ids and one state byte, written last: prepared -> leaving -> answered.
  prepared   written BEFORE the transaction that opens the attempts: certainly not sent
  leaving    written right before the first byte leaves: may have been sent
  answered   written after the outcomes, which stand in an entry of their own with a checksum
It never touches the network or the database; settlement.py draws the conclusions.

Layout (little endian): a header page, then entries, each `kind u8, state u8, count u16, size u32, payload`, 8-byte aligned.
The word `tail` is stored after an entry is complete, so a half-written entry does not exist.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from mail.outcome import Outcome

_MAGIC = b"EWFLIGHT"
_VERSION = 1
_HEADER = struct.Struct("<8sI16sQ")
_TAIL_AT = 40
_HAND_AT, _HAND_SIZE = 64, 1024
_ENTRIES_AT = mmap.PAGESIZE
_ENTRY = struct.Struct("<BBHI")
_ANSWER = struct.Struct("<QI")
_INITIAL_SIZE_BYTES = 1 << 20
_MAX_SIZE_BYTES = 256 << 20

_outcomes_codec = msgspec.json.Encoder()
_outcomes_decoder = msgspec.json.Decoder(list[Outcome])


class Stage(IntEnum):
    """How far a request came."""

    PREPARED = 1
    LEAVING = 2
    ANSWERED = 3


class _Kind(IntEnum):
    REQUEST = 1
    ANSWER = 2


class Flight(NamedTuple):
    """One request as the log shows it; `outcomes` are there once it is answered."""

    stage: Stage
    attempt_ids: tuple[str, ...]
    outcomes: tuple[Outcome, ...] = ()


class Evidence(NamedTuple):
    """What a predecessor left behind: who wrote it, which record was under its hand ("" = none), and its requests in order."""

    boot_id: str
    incarnation: int
    hand: str
    flights: tuple[Flight, ...]

    def last_flights(self) -> dict[str, Flight]:
        """The newest flight of every attempt id; a request is only prepared again after its earlier flight was answered."""
        return {attempt_id: flight for flight in self.flights for attempt_id in flight.attempt_ids}


class FlightLog:
    """The writer's side, used by one worker process; marks may come from its sending threads."""

    def __init__(self, path: Path, boot_id: str, incarnation: int):
        """Takes over the file at `path`, forgetting what it held: settle the predecessor's evidence first."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < _INITIAL_SIZE_BYTES:
            os.ftruncate(self._file, _INITIAL_SIZE_BYTES)
        self._map = mmap.mmap(self._file, 0)
        self._tail = _ENTRIES_AT
        self._store_tail()
        self.let_go()
        header = _HEADER.pack(_MAGIC, _VERSION, bytes.fromhex(boot_id.replace("-", "")), incarnation)
        self._map[: len(header)] = header

    def begin(self) -> None:
        """Forget the last batch: all of it is recorded."""
        self._tail = _ENTRIES_AT
        self._store_tail()

    def take_in_hand(self, record_name: str) -> None:
        """Name the record that is being decoded or rendered: if this process dies now, this record is the suspect."""
        name = record_name.encode()[: _HAND_SIZE - 2]
        self._map[_HAND_AT + 2 : _HAND_AT + 2 + len(name)] = name
        self._map[_HAND_AT : _HAND_AT + 2] = len(name).to_bytes(2, "little")

    def let_go(self) -> None:
        """No record is under hand."""
        self._map[_HAND_AT : _HAND_AT + 2] = b"\0\0"

    def prepare(self, attempt_ids: Sequence[str]) -> int:
        """Note a request that may leave later; returns its handle. Call it before the attempts are opened in the database."""
        payload = bytes.fromhex("".join(attempt_ids).replace("-", ""))
        return self._append(_Kind.REQUEST, Stage.PREPARED, len(attempt_ids), payload)

    def mark_leaving(self, handle: int) -> None:
        """From here on the ESP may have it: the last thing before the first byte leaves."""
        self._map[handle + 1] = Stage.LEAVING

    def answer(self, handle: int, outcomes: Iterable[Outcome]) -> None:
        """Note the verdicts on a request; they are on record once the state byte says so."""
        blob = _outcomes_codec.encode(list(outcomes))
        self._append(_Kind.ANSWER, Stage.ANSWERED, 0, _ANSWER.pack(handle, zlib.crc32(blob)) + blob)
        self._map[handle + 1] = Stage.ANSWERED

    def close(self) -> None:
        self._map.close()
        os.close(self._file)

    def _append(self, kind: int, stage: int, count: int, payload: bytes) -> int:
        at = self._tail
        end = at + _ENTRY.size + len(payload)
        self._tail = end + -end % 8
        if self._tail > len(self._map):
            self._grow()
        self._map[at + _ENTRY.size : end] = payload
        self._map[at : at + _ENTRY.size] = _ENTRY.pack(kind, stage, count, len(payload))
        self._store_tail()
        return at

    def _grow(self) -> None:
        size = len(self._map)
        while size < self._tail:
            size *= 2
        if size > _MAX_SIZE_BYTES:
            raise RuntimeError("a batch does not fit into the flight log: lower WORKER_BATCH_SIZE")
        self._map.resize(size)

    def _store_tail(self) -> None:
        # one aligned 8-byte slice: a kill leaves the old word or the new one (struct.pack_into would store zeroes first)
        self._map[_TAIL_AT : _TAIL_AT + 8] = self._tail.to_bytes(8, "little")


def read_evidence(path: Path) -> Evidence | None:
    """What the last owner of this slot left; None where there is no log, or one that cannot be trusted."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _ENTRIES_AT or data[:8] != _MAGIC:
        return None
    _, version, boot_id, incarnation = _HEADER.unpack_from(data)
    if version != _VERSION:
        return None
    flights = _read_flights(data, int.from_bytes(data[_TAIL_AT : _TAIL_AT + 8], "little"))
    hand_size = int.from_bytes(data[_HAND_AT : _HAND_AT + 2], "little")
    hand = data[_HAND_AT + 2 : _HAND_AT + 2 + hand_size].decode(errors="replace")
    return Evidence(_uuid(boot_id.hex()), incarnation, hand, tuple(flights))


def _read_flights(data: bytes, tail: int) -> list[Flight]:
    flights: dict[int, Flight] = {}
    at = _ENTRIES_AT
    while at < min(tail, len(data)):
        kind, stage, count, size = _ENTRY.unpack_from(data, at)
        payload = data[at + _ENTRY.size : at + _ENTRY.size + size]
        if kind == _Kind.REQUEST:
            ids = tuple(_uuid(payload[n * 16 : n * 16 + 16].hex()) for n in range(count))
            flights[at] = Flight(Stage(stage), ids)
        else:
            _add_outcomes(flights, payload)
        at += _ENTRY.size + size
        at += -at % 8
    return list(flights.values())


def _add_outcomes(flights: dict[int, Flight], payload: bytes) -> None:
    handle, checksum = _ANSWER.unpack_from(payload)
    blob = payload[_ANSWER.size :]
    flight = flights[handle]
    if flight.stage != Stage.ANSWERED or zlib.crc32(blob) != checksum:
        # the answer was being written when the process died: the mail left, and what became of it is not known
        flights[handle] = flight._replace(stage=Stage.LEAVING)
        return
    flights[handle] = flight._replace(outcomes=tuple(_outcomes_decoder.decode(blob)))


def _uuid(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def boot_id() -> str:
    """The id of this boot of this machine: a log of another boot may have lost its last pages."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
