"""The database's time, as a process knows it between two looks: schedules and expiry must not depend on the clock of one machine."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class StoreClock:
    """Read with each admission, and carried on by the monotonic clock; until the first one, this machine's time."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic):
        self._monotonic = monotonic
        self.set(datetime.now(UTC))

    def set(self, moment: datetime) -> None:
        """The database has just said so."""
        self._moment, self._read_at_s = moment, self._monotonic()

    def __call__(self) -> datetime:
        return self._moment + timedelta(seconds=self._monotonic() - self._read_at_s)
