"""Heartbeats: one fixed cell of shared memory per process slot, in which that process says what it does and until when.

The supervisor fills in a cell before it forks; from then on only the process in the slot writes, and anybody reads.
There is no lock, since a killed process would keep it. A number is one aligned 8-byte word, stored by one slice assignment,
and so is never seen half written (`struct.pack_into` is not used: it stores zeroes first). A text has two banks: the
idle one is written, then one word makes it current; a checksum tells a reader that met a writer twice to look again.
This module must never block and never allocate more than the region that it was given.
"""

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

CELLS = 128
CELL_BYTES = 384
SIZE_BYTES = CELLS * CELL_BYTES

_BEAT, _DEADLINE, _PID, _INCARNATION, _SLOT = 0, 8, 16, 24, 32
_BATCHES, _MESSAGES, _RESTARTS, _CRASHES = 40, 48, 56, 64
_ROLE, _STAGE = 128, 256
_BANK_BYTES = 48
_TEXT_BYTES = _BANK_BYTES - 4
_READ_TRIES = 3
_S = 1_000_000_000


@dataclass(frozen=True)
class Beat:
    """What a cell said when it was read. Times are nanoseconds of CLOCK_MONOTONIC, 0 = never; `pid` 0 = no process.

    `batches` counts what this process recorded; `messages` and `restarts` count for the slot since the supervisor's start;
    `crashes` is how many processes in a row died here before they had recorded a batch.
    """

    role: str
    slot: int
    pid: int
    incarnation: int
    stage: str
    beat_ns: int
    deadline_ns: int
    batches: int
    messages: int
    restarts: int
    crashes: int

    @property
    def is_up(self) -> bool:
        """Does a process live here that has beaten?"""
        return self.pid != 0 and self.beat_ns != 0

    def age_s(self, now_ns: int) -> float:
        """Seconds since the last beat; 0 where there was none."""
        return (now_ns - self.beat_ns) / _S if self.beat_ns else 0.0


class Cell:
    """One slot's cell: a view on a shared mapping, cheap to make and to copy into children."""

    def __init__(self, memory: mmap.mmap, index: int, monotonic_ns: Callable[[], int] = time.monotonic_ns):
        self._memory = memory
        self._monotonic_ns = monotonic_ns
        self._start = index * CELL_BYTES
        self.index = index

    def assign(self, role: str, slot: int) -> None:
        """Give the cell to a slot of a role, all counts at zero; the supervisor does this before the first fork."""
        self._memory[self._start : self._start + CELL_BYTES] = bytes(CELL_BYTES)
        self._set(_SLOT, slot)
        self._set_text(_ROLE, role)

    def free(self) -> None:
        """Take the cell back from a slot that is no more."""
        self._memory[self._start : self._start + CELL_BYTES] = bytes(CELL_BYTES)

    def expect(self, incarnation: int, restarts: int, crashes: int, start_limit_s: float) -> None:
        """Make the cell ready for a process that is about to be forked and must beat within `start_limit_s`."""
        self._set(_BEAT, 0)
        self._set(_BATCHES, 0)
        self._set(_INCARNATION, incarnation)
        self._set(_RESTARTS, restarts)
        self._set(_CRASHES, crashes)
        self._set_text(_STAGE, "starting")
        self._set(_DEADLINE, self._monotonic_ns() + int(start_limit_s * _S))

    def beat(self, stage: str, deadline_s: float) -> None:
        """Say: I live, I am at `stage`, and I shall beat again within `deadline_s` seconds, or else I am stuck."""
        now_ns = self._monotonic_ns()
        self._set(_DEADLINE, now_ns + int(deadline_s * _S))
        self._set(_BEAT, now_ns)
        self._set_text(_STAGE, stage)

    def note_batch(self, messages: int) -> None:
        """Count one recorded batch and the messages that it sent."""
        self._set(_BATCHES, self._get(_BATCHES) + 1)
        self._set(_MESSAGES, self._get(_MESSAGES) + messages)

    def occupy(self, pid: int) -> None:
        """Say which process lives here; 0 = none."""
        self._set(_PID, pid)

    def note_crashes(self, crashes: int) -> None:
        """Say how many processes in a row died here before they had recorded a batch."""
        self._set(_CRASHES, crashes)

    @property
    def has_beaten(self) -> bool:
        """Has the process of this slot beaten since it was forked?"""
        return self._get(_BEAT) != 0

    @property
    def batches(self) -> int:
        """How many batches the process of this slot has recorded."""
        return self._get(_BATCHES)

    def is_overdue(self, now_ns: int) -> bool:
        """Has the process broken its promise to beat again?"""
        return now_ns > self._get(_DEADLINE)

    def read(self) -> Beat:
        """Everything that the cell says. The counts may be from a moment apart; no number or text is torn."""
        get = self._get
        numbers = (get(_BEAT), get(_DEADLINE), get(_BATCHES), get(_MESSAGES), get(_RESTARTS), get(_CRASHES))
        return Beat(self._text(_ROLE), get(_SLOT), get(_PID), get(_INCARNATION), self._text(_STAGE), *numbers)

    def _get(self, word: int) -> int:
        at = self._start + word
        return int.from_bytes(self._memory[at : at + 8], "little")

    def _set(self, word: int, value: int) -> None:
        at = self._start + word
        self._memory[at : at + 8] = value.to_bytes(8, "little")

    def _set_text(self, field: int, text: str) -> None:
        turn = self._get(field) + 1
        body = text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0")
        at = self._start + _bank(field, turn)
        self._memory[at : at + _BANK_BYTES] = body + crc32(body).to_bytes(4, "little")
        self._set(field, turn)

    def _text(self, field: int) -> str:
        for _ in range(_READ_TRIES):
            at = self._start + _bank(field, self._get(field))
            bank = self._memory[at : at + _BANK_BYTES]
            if crc32(bank[:_TEXT_BYTES]) == int.from_bytes(bank[_TEXT_BYTES:], "little"):
                return bank[:_TEXT_BYTES].rstrip(b"\0").decode(errors="ignore")
        return ""


class Heartbeats:
    """The cells of all slots of this supervisor, in one mapping of SIZE_BYTES."""

    def __init__(self, memory: mmap.mmap, monotonic_ns: Callable[[], int] = time.monotonic_ns):
        if len(memory) < SIZE_BYTES:
            raise ValueError(f"heartbeats need {SIZE_BYTES} bytes, not {len(memory)}")
        self._cells = [Cell(memory, index, monotonic_ns) for index in range(CELLS)]

    def cell(self, index: int) -> Cell:
        """The cell of that index, 0 to CELLS - 1."""
        return self._cells[index]

    def assigned(self) -> list[Beat]:
        """What the cells of all slots say, in the order of the cells."""
        beats = [cell.read() for cell in self._cells]
        return [beat for beat in beats if beat.role]


def _bank(field: int, turn: int) -> int:
    return field + 8 + (turn & 1) * _BANK_BYTES
