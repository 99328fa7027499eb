"""What became of the last 1,000 emails of each lane on this host: which of them failed through our own fault.

A ring of bytes per lane in a file that all workers of a host map, so that a lane is judged by what all of them see, and a worker
that dies takes nothing with it. Guarded by a lock that the kernel frees when its holder is killed; a torn write costs a few marks.
Threads of one process are not kept apart: use it from the main thread only.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from intake.lanes import LANES
from mail.job import Lane

SIZE = 1_000
_HEAD_BYTES = 8  # where the next mark goes
_RING_BYTES = 1_024
SIZE_BYTES = len(LANES) * _RING_BYTES


class LaneWindow:
    """The rings in a buffer of SIZE_BYTES; `lock_fd` is any file that the others lock too."""

    def __init__(self, buffer: mmap.mmap | bytearray, lock_fd: int):
        self._buffer = buffer
        self._lock_fd = lock_fd

    def note(self, lane: Lane, failures: Sequence[bool]) -> int:
        """Mark these emails, in their order; returns how many of the last SIZE failed."""
        marks = bytes(failures[-SIZE:])
        with self._locked(lane) as start:
            at = self._position(start)
            fits = min(len(marks), SIZE - at)
            ring = start + _HEAD_BYTES
            self._buffer[ring + at : ring + at + fits] = marks[:fits]
            self._buffer[ring : ring + len(marks) - fits] = marks[fits:]
            self._buffer[start:ring] = ((at + len(marks)) % SIZE).to_bytes(_HEAD_BYTES, "little")
            return self._buffer[ring : ring + SIZE].count(1)

    def clear(self, lane: Lane) -> None:
        """Forget a lane: it begins anew."""
        with self._locked(lane) as start:
            self._buffer[start : start + _RING_BYTES] = bytes(_RING_BYTES)

    def _position(self, start: int) -> int:
        return int.from_bytes(self._buffer[start : start + _HEAD_BYTES], "little") % SIZE

    @contextmanager
    def _locked(self, lane: Lane) -> Iterator[int]:
        start = LANES.index(lane) * _RING_BYTES
        fcntl.lockf(self._lock_fd, fcntl.LOCK_EX, 1, start)
        try:
            yield start
        finally:
            fcntl.lockf(self._lock_fd, fcntl.LOCK_UN, 1, start)


def open_window(path: Path) -> LaneWindow:
    """The rings in a file, made where it is missing. Call it after the fork."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.ftruncate(descriptor, SIZE_BYTES)
    return LaneWindow(mmap.mmap(descriptor, SIZE_BYTES), descriptor)
