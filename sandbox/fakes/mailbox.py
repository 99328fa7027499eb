"""What the fakes received, for people to look at: the newest mails by number, their bodies on disk.

A request's body is kept as it came and only parsed again when somebody opens one of its mails. The index in memory and the
files on disk are bounded: what is older is forgotten here (the ledger keeps its line for ever).
"""

import os
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sandbox.fakes.contract import Accepted

SEGMENT_BYTES = 32 * 1024 * 1024


class Entry(NamedTuple):
    """One mail of the index; `n` counts all mails of all fakes from 1, `item` is its place in the request's body."""

    n: int
    at: float
    esp: str
    attempt_id: str | None
    message_id: str
    recipient: str
    subject: str
    request: int
    item: int
    segment: int
    offset: int
    length: int


@dataclass(slots=True)
class _Segment:
    path: Path
    file: int
    size_bytes: int
    last_n: int


class Mailbox:
    """Mails of all fakes, newest `limit` of them, with at most about `max_bytes` of bodies."""

    def __init__(self, folder: Path, limit: int = 20_000, max_bytes: int = 512 * 1024 * 1024, segment_bytes: int = SEGMENT_BYTES):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.mails"):
            leftover.unlink()
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        self._writing: dict[str, int] = {}
        self._made = 0
        self.newest = 0

    def put(self, esp: str, at: float, request: int, body: bytes, accepted: Sequence[Accepted]) -> None:
        """Keep one request's mails; raises OSError where its body cannot be written."""
        number, segment = self._open_segment(esp)
        offset, length = segment.size_bytes, len(body)
        os.pwrite(segment.file, body, offset)
        segment.size_bytes += length
        start = self.newest + 1
        self._entries.extend(
            [
                Entry(n, at, esp, one.attempt_id, one.message_id, one.recipient, one.subject, request, one.item, number, offset, length)
                for n, one in enumerate(accepted, start)
            ]
        )
        self.newest += len(accepted)
        segment.last_n = self.newest
        self.counts[esp] += len(accepted)
        self._forget()

    def newest_first(self, before: int | None = None) -> Iterator[Entry]:
        """Entries whose number is below `before` (all without one), newest first."""
        for entry in reversed(self._entries):
            if before is None or entry.n < before:
                yield entry

    def find(self, n: int) -> Entry | None:
        """The entry with this number, or None where it never was or is forgotten."""
        if not self._entries:
            return None
        place = n - self._entries[0].n
        return self._entries[place] if 0 <= place < len(self._entries) else None

    def body(self, entry: Entry) -> bytes | None:
        """The request that brought this mail, or None where its body is no longer kept."""
        segment = self._segments.get(entry.segment)
        return os.pread(segment.file, entry.length, entry.offset) if segment else None

    def close(self) -> None:
        for segment in self._segments.values():
            os.close(segment.file)

    def _open_segment(self, esp: str) -> tuple[int, _Segment]:
        number = self._writing.get(esp)
        segment = self._segments.get(number) if number else None
        if number and segment and segment.size_bytes < self._segment_bytes:
            return number, segment
        self._made += 1
        path = self._folder / f"{esp}-{self._made:06d}.mails"
        fresh = _Segment(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), 0, 0)
        self._segments[self._made] = fresh
        self._writing[esp] = self._made
        return self._made, fresh

    def _forget(self) -> None:
        """Drop the oldest bodies: those without an entry, and as many more as the bound on disk asks for."""
        if len(self._segments) == 1:
            return
        oldest_n = self._entries[0].n
        total = sum(segment.size_bytes for segment in self._segments.values())
        for number, segment in list(self._segments.items()):
            if number in self._writing.values() or (segment.last_n >= oldest_n and total <= self._max_bytes):
                continue
            os.close(segment.file)
            segment.path.unlink()
            total -= segment.size_bytes
            del self._segments[number]
