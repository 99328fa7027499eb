"""The truth of a fake ESP: one line for each email it accepted, on disk before the reply leaves.

Chaos tests compare the product's tables with these files, so a line may never be missing, doubled or half written.
Nothing here ever reads the clock twice for one batch or rewrites a line.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import orjson

from sandbox.fakes.contract import Accepted

_TAIL_BYTES = 64 * 1024


class Line(TypedDict):
    """One accepted email. `at`: Unix seconds; `attempt_id`: 26 characters, or null where the sender gave none."""

    at: float
    provider: str
    attempt_id: str | None
    message_id: str
    recipient: str
    subject: str
    request: int


class _Tail(NamedTuple):
    size_bytes: int
    request: int


class Ledger:
    """Appends to F/ledger/<provider>.jsonl; one write per request, so lines of a request are together."""

    def __init__(self, folder: Path, provider: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{provider}.jsonl"
        self._provider = provider
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        tail = _whole_lines(self._file)
        os.ftruncate(self._file, tail.size_bytes)
        self._size_bytes = tail.size_bytes
        self._request = tail.request

    def append(self, accepted: Sequence[Accepted], at: float) -> int:
        """Write these emails of one request; its number. Raises OSError, with nothing written, where the disk is full."""
        request = self._request + 1
        payload = b"".join([orjson.dumps(self._line(one, at, request), option=orjson.OPT_APPEND_NEWLINE) for one in accepted])
        written = os.write(self._file, payload)
        if written != len(payload):
            os.ftruncate(self._file, self._size_bytes)
            raise OSError(f"only {written} of {len(payload)} bytes of the ledger could be written")
        self._size_bytes += written
        self._request = request
        return request

    def close(self) -> None:
        os.close(self._file)

    def _line(self, one: Accepted, at: float, request: int) -> Line:
        return {
            "at": at,
            "provider": self._provider,
            "attempt_id": one.attempt_id,
            "message_id": one.message_id,
            "recipient": one.recipient,
            "subject": one.subject,
            "request": request,
        }


def read_ledger(path: Path) -> Iterator[Line]:
    """The lines of a ledger, oldest first; a last line that is still being written is left out."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield orjson.loads(raw)


def _whole_lines(file: int) -> _Tail:
    """Where the last whole line ends: what follows was cut by a crash, and its request never got a reply."""
    size = os.fstat(file).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(file, size - start, start)
    end = tail.rfind(b"\n") + 1
    if not end:
        return _Tail(0, 0)
    last = tail[tail.rfind(b"\n", 0, end - 1) + 1 : end]
    return _Tail(start + end, orjson.loads(last)["request"])
