"""Shared: the anonymous memory that the supervisor maps before it forks and that every process of it sees.

It has no name, so nothing can leak or be unlinked by a stranger, and the kernel frees it with the last process.
Nobody may put a lock in here that a killed process would keep, and nothing that must outlive the supervisor.
"""

import mmap
import time
from collections.abc import Set

from intake.lanes import LANES
from mail.job import Lane
from workers.supervising.heartbeat import SIZE_BYTES as HEARTBEAT_BYTES
from workers.supervising.heartbeat import Heartbeats

_S = 1_000_000_000


class HostLease:
    """Until when this host may send: written by the keeper, read by workers right before a request leaves.

    A word of nanoseconds on CLOCK_BOOTTIME, which all processes of a host share and which goes on while the machine is suspended;
    0 = not yet, or no longer. And the number of the term: a lease that was renewed in time goes on, one that had run out begins
    anew, and what was opened before belongs to whoever may have settled it meanwhile.
    """

    def __init__(self, memory: mmap.mmap):
        self._memory = memory

    def hold_until(self, deadline_ns: int) -> None:
        """Allow sending until then. The keeper counts from the moment *before* it asked the database."""
        if not self.is_held():
            self._memory[8:16] = (self.term + 1).to_bytes(8, "little")  # before the deadline: nobody may take the new one for the old
        self._memory[0:8] = deadline_ns.to_bytes(8, "little")

    def give_up(self) -> None:
        """Forbid sending at once."""
        self.hold_until(0)

    @property
    def deadline_ns(self) -> int:
        """Until when this host may send, in nanoseconds of `now_ns`."""
        return int.from_bytes(self._memory[0:8], "little")

    @property
    def term(self) -> int:
        """The how-manieth unbroken lease this is."""
        return int.from_bytes(self._memory[8:16], "little")

    @staticmethod
    def now_ns() -> int:
        """The clock of the deadline."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def is_held(self, for_s: float = 0.0) -> bool:
        """May this host send now, and for `for_s` seconds more?"""
        return self.now_ns() + int(for_s * _S) < self.deadline_ns


class Permit:
    """A worker's right to send what it has opened: good while the host has held its lease without a gap since `take`."""

    def __init__(self, lease: HostLease):
        self._lease = lease
        self._term = 0

    def take(self) -> None:
        """Call it before attempts are opened."""
        self._term = self._lease.term

    def is_good(self) -> bool:
        """May a request leave whose attempts were opened after `take`? Asked right before its first byte."""
        return self._lease.is_held() and self._lease.term == self._term


class LaneBoard:
    """Which lanes are stopped, as the delivery workers last saw it: for those who have no database to ask. One byte per lane."""

    def __init__(self, memory: mmap.mmap):
        self._memory = memory

    def show(self, stopped: Set[Lane]) -> None:
        for place, lane in enumerate(LANES):
            self._memory[place] = lane in stopped

    def stopped(self) -> list[Lane]:
        """In the order of their rank."""
        return [lane for place, lane in enumerate(LANES) if self._memory[place]]


class Shared:
    """The mappings: heartbeats, the routing snapshot (`snapshot_bytes` long, raw: routing/snapshot.py reads and writes it),
    the host's lease and the board of stopped lanes. Make it once, before the first fork."""

    def __init__(self, snapshot_bytes: int):
        self.heartbeats = Heartbeats(mmap.mmap(-1, HEARTBEAT_BYTES))
        self.snapshot = mmap.mmap(-1, snapshot_bytes)
        self.lease = HostLease(mmap.mmap(-1, mmap.PAGESIZE))
        self.lanes = LaneBoard(mmap.mmap(-1, mmap.PAGESIZE))
