"""Shared: the anonymous memory that the supervisor maps before it forks and that every process of it sees.

It has no name, so nothing can leak or be unlinked by a stranger, and the kernel frees it with the last process.
Nobody may put a lock in here that a killed process would keep, and nothing that must outlive the supervisor.
"""

import mmap
import time
from collections.abc import Set

from intake.lanes import LANES
from mail.job import Lane
from workers.heartbeat import SIZE_BYTES as HEARTBEAT_BYTES
from workers.heartbeat import Heartbeats

_S = 1_000_000_000


class HostLease:
    """Until when this host may send: written by the keeper, read by workers right before a request leaves.

    One word of nanoseconds on CLOCK_MONOTONIC, which all processes of a host share. 0 = not yet, or no longer.
    """

    def __init__(self, memory: mmap.mmap):
        self._memory = memory

    def hold_until(self, deadline_ns: int) -> None:
        """Allow sending until then. The keeper counts from the moment *before* it asked the database."""
        self._memory[0:8] = deadline_ns.to_bytes(8, "little")

    def give_up(self) -> None:
        """Forbid sending at once."""
        self.hold_until(0)

    @property
    def deadline_ns(self) -> int:
        """Until when this host may send, in nanoseconds of CLOCK_MONOTONIC."""
        return int.from_bytes(self._memory[0:8], "little")

    def is_held(self, for_s: float = 0.0) -> bool:
        """May this host send now, and for `for_s` seconds more?"""
        return time.monotonic_ns() + int(for_s * _S) < self.deadline_ns


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
