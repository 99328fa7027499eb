"""Rows whose time has come, as a source: scheduled jobs, retries, Redis items, campaign recipients, resends and replays.

The leasing itself is a function that is passed in. A leased row is acknowledged by the transaction that records its outcome,
never from here.
"""

import time
from collections.abc import Callable, Sequence, Set

from mail.job import Lane
from mail.record import Record

_SLICE_S = 0.25  # a signal is noticed within this time
_PREFIX = "row:"


class DueSource:
    """Leases due rows at most every `every_s` seconds, and again at once while full pages come.

    `lease(limit, held)` answers at most `limit` records named "row:<row id>", none of the lanes that are held; what it raises passes
    through, after which the source waits its usual time before it asks again. `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        lease: Callable[[int, Set[Lane]], list[Record]],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._lease = lease
        self._every_s = every_s
        self._clock = clock
        self._sleep = sleep
        self._next_at_s = clock()
        self._held: Set[Lane] = frozenset()

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """Due rows, or an empty list when none are due within the timeout."""
        deadline_s = self._clock() + timeout_s
        while self.wait_s() > 0:
            left_s = deadline_s - self._clock()
            if left_s <= 0:
                return []
            self._sleep(min(_SLICE_S, left_s, self.wait_s()))
        return self._lease_page(limit) if limit > 0 else []

    def wait_s(self) -> float:
        """Seconds until rows are asked for again; 0 = now."""
        return max(0.0, self._next_at_s - self._clock())

    def commit(self, records: Sequence[Record]) -> None:
        """Nothing: a row's own transaction says that it is handled."""

    def owns(self, record: Record) -> bool:
        """Every leased row is ours until its transaction says otherwise; that transaction is the fence."""
        return record.topic.startswith(_PREFIX)

    def keep_alive(self) -> None:
        """Nothing: a lease has its own time."""

    def hold_lanes(self, lanes: Set[Lane]) -> None:
        """Rows of these lanes are not leased."""
        self._held = lanes

    def close(self) -> None:
        """Nothing: leases run out by themselves."""

    def _lease_page(self, limit: int) -> list[Record]:
        self._next_at_s = self._clock() + self._every_s
        records = self._lease(limit, self._held)
        if len(records) >= limit:
            self._next_at_s = self._clock()
        return records
