"""Circuit breakers, one per account, shared by all workers of a host: what one of them learns, the others need not suffer.

A breaker opens when at least half of at least 20 requests within 10 seconds failed for reasons of the ESP or the network.
While it is open, one probe is let through after 5 seconds, then after 10, 20, 30; a probe that succeeds closes it.
Refusals that are the message's, the recipient's or our own fault never count, nor does throttling: that is the rate limit's.

The cells live in shared memory, each guarded by a lock on one byte of a file, which the kernel frees when its holder is
killed. Threads of one process are not kept apart: call it from the main thread only.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import telemetry.log
from mail.account import Account
from mail.outcome import Blame, Outcome, Verdict
from routing.snapshot import Buffer

log = telemetry.log.get("routing.breaker")

WINDOW_S = 10
CALLS_LEAST = 20
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 30.0
BLAMED = frozenset({Blame.ESP, Blame.NETWORK})

_HEAD = struct.Struct("<Q?x2xIddd")  # account key, is probing, CRC of the rest, wait, next probe, last use
_SECOND = struct.Struct("<IHH")  # second, calls, failures
_CALLS_MOST = 0xFFFF
CELL_BYTES = 256
CELLS = 1024
SIZE_BYTES = CELLS * CELL_BYTES
_NEIGHBOURS = 8  # how many cells an account may end up in


@dataclass
class Breaker:
    """The logic of one breaker, on a clock that is passed in (seconds, monotonic).

    `wait_s` > 0 means open. `seconds` holds [second, calls, failures] of the last WINDOW_S seconds that had any.
    """

    wait_s: float = 0.0
    probe_after_s: float = 0.0
    is_probing: bool = False
    seconds: list[list[int]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.wait_s > 0

    def note(self, is_failure: bool, now_s: float) -> None:
        """One request was answered, or was not. While open, only the answer to a probe changes anything."""
        if self.is_open:
            self._note_while_open(is_failure, now_s)
        else:
            self._count(is_failure, int(now_s))
            if self._is_failing():
                self._open(FIRST_WAIT_S, now_s)

    def take_probe(self, now_s: float) -> bool:
        """May the caller send the one request that finds out? A probe that is never answered frees the next after the wait."""
        # a probe far in the future is left from before a reboot, when the clock began again
        if not self.is_open or now_s < self.probe_after_s <= now_s + LONGEST_WAIT_S:
            return False
        self.is_probing = True
        self.probe_after_s = now_s + self.wait_s
        return True

    def _note_while_open(self, is_failure: bool, now_s: float) -> None:
        if not self.is_probing:
            return
        if is_failure:
            self._open(min(LONGEST_WAIT_S, self.wait_s * 2), now_s)
        else:
            self.wait_s, self.probe_after_s, self.is_probing = 0.0, 0.0, False

    def _open(self, wait_s: float, now_s: float) -> None:
        self.wait_s, self.probe_after_s, self.is_probing = wait_s, now_s + wait_s, False
        self.seconds.clear()

    def _count(self, is_failure: bool, second: int) -> None:
        self.seconds = [entry for entry in self.seconds if second - WINDOW_S < entry[0] <= second]
        if not self.seconds or self.seconds[-1][0] != second:
            self.seconds.append([second, 0, 0])
        current = self.seconds[-1]
        if current[1] < _CALLS_MOST:
            current[1] += 1
            current[2] += is_failure

    def _is_failing(self) -> bool:
        calls = sum(entry[1] for entry in self.seconds)
        failures = sum(entry[2] for entry in self.seconds)
        return calls >= CALLS_LEAST and failures * 2 >= calls


class SharedBreakers:
    """The breakers of all accounts in a buffer of SIZE_BYTES. `on_change(account, is_open)` is called after a change of state.

    An account's cell is found by a hash; where all its places are taken by others, the one that was unused for longest goes.
    """

    def __init__(
        self,
        buffer: Buffer,
        lock_fd: int,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[Account, bool], None] = lambda account, is_open: None,
    ):
        self._buffer = buffer
        self._lock_fd = lock_fd
        self._clock = clock
        self._on_change = on_change

    def is_open(self, account: Account) -> bool:
        """Should nothing go out through this account now? Takes no lock; a cell that is just being written counts as closed."""
        key = _key_of(account)
        cells = map(self._load, _places(key))
        return next((breaker.is_open for found, breaker, _ in cells if found == key), False)

    def take_probe(self, account: Account) -> bool:
        """True for the one caller of all processes who may try one message through an open account now."""
        with self._cell(account) as breaker:
            return breaker.take_probe(self._clock())

    def note(self, account: Account, outcomes: Iterable[Outcome]) -> None:
        """What came of one request through this account."""
        is_failure = is_to_blame(outcomes)
        with self._cell(account) as breaker:
            was_open = breaker.is_open
            breaker.note(is_failure, self._clock())
        if breaker.is_open != was_open:
            self._tell(account, breaker.is_open)

    def _tell(self, account: Account, is_open: bool) -> None:
        log.warning("breaker changed", provider=account.provider, tenant=account.tenant, is_open=is_open)
        self._on_change(account, is_open)

    @contextmanager
    def _cell(self, account: Account) -> Iterator[Breaker]:
        """The account's breaker, locked against other processes, written back at the end."""
        key = _key_of(account)
        places = _places(key)
        # one lock per neighbourhood, always the first place's: two accounts of one neighbourhood may overlap, and then
        # the worst is a lost count, which the next requests make up for
        fcntl.lockf(self._lock_fd, fcntl.LOCK_EX, 1, places[0])
        try:
            place = self._choose(key, places)
            found, breaker, _ = self._load(place)
            breaker = breaker if found == key else Breaker()
            yield breaker
            self._store(place, key, breaker)
        finally:
            fcntl.lockf(self._lock_fd, fcntl.LOCK_UN, 1, places[0])

    def _choose(self, key: int, places: list[int]) -> int:
        own = next((place for place in places if self._load(place)[0] == key), None)
        return min(places, key=lambda place: self._load(place)[2]) if own is None else own

    def _load(self, place: int) -> tuple[int, Breaker, float]:
        """(account key, breaker, last use); a torn or empty cell reads as key 0."""
        cell = bytes(self._buffer[place * CELL_BYTES : (place + 1) * CELL_BYTES])
        key, is_probing, crc, wait_s, probe_after_s, used_at_s = _HEAD.unpack_from(cell)
        if key == 0 or crc != _checksum(cell):
            return 0, Breaker(), 0.0
        seconds = [list(entry) for entry in _SECOND.iter_unpack(cell[_HEAD.size : _HEAD.size + WINDOW_S * _SECOND.size]) if entry[1]]
        return key, Breaker(wait_s, probe_after_s, is_probing, seconds), used_at_s

    def _store(self, place: int, key: int, breaker: Breaker) -> None:
        body = b"".join(_SECOND.pack(*entry) for entry in breaker.seconds).ljust(CELL_BYTES - _HEAD.size, b"\0")
        head = (breaker.wait_s, breaker.probe_after_s, self._clock())
        crc = _checksum(_HEAD.pack(key, breaker.is_probing, 0, *head) + body)
        self._buffer[place * CELL_BYTES : (place + 1) * CELL_BYTES] = _HEAD.pack(key, breaker.is_probing, crc, *head) + body


def open_breakers(path: Path, on_change: Callable[[Account, bool], None] = lambda account, is_open: None) -> SharedBreakers:
    """The breakers in a file that all workers of a host map; made where it is missing. Call it after the fork."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.ftruncate(descriptor, SIZE_BYTES)
    return SharedBreakers(mmap.mmap(descriptor, SIZE_BYTES), descriptor, on_change=on_change)


def is_to_blame(outcomes: Iterable[Outcome]) -> bool:
    """Did a request fail through the ESP's or the network's fault? Throttling is an answer of a healthy ESP."""
    return any(outcome.blame in BLAMED and outcome.verdict is not Verdict.THROTTLED for outcome in outcomes)


def _key_of(account: Account) -> int:
    digest = hashlib.blake2b(f"{account.provider}/{account.tenant}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _places(key: int) -> list[int]:
    return [(key + step) % CELLS for step in range(_NEIGHBOURS)]


def _checksum(cell: bytes) -> int:
    """Over everything but the CRC itself (bytes 12 to 16)."""
    return zlib.crc32(cell[16:], zlib.crc32(cell[:12]))
