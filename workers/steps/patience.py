"""Patience with the store: while Postgres is away a worker keeps what it holds, says so, and tries again. It never gives up."""

from collections.abc import Callable
from typing import TypeVar

import telemetry.log
from db.connection import Cursor, Database
from mail.errors import StoreUnavailable

log = telemetry.log.get("workers.steps.patience")
T = TypeVar("T")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_BEAT_S = 60.0


class Patience:
    """`keep_alive` keeps the partitions while we wait; `wait` sleeps but hears signals; `beat` tells the supervisor."""

    def __init__(
        self,
        database: Database,
        keep_alive: Callable[[], None],
        wait: Callable[[float], None],
        beat: Callable[[str, float], None],
    ):
        self._database = database
        self._keep_alive = keep_alive
        self._wait = wait
        self._beat = beat

    def insist(self, stage: str, work: Callable[[Cursor, bool], T]) -> T:
        """Run a transaction until the store has taken it. `work` is told whether an earlier try may have been committed."""
        pause_s, is_repeated = _FIRST_WAIT_S, False
        while True:
            try:
                result = self._database.run(lambda cursor: work(cursor, is_repeated))  # noqa: B023 (runs at once)
            except StoreUnavailable as error:
                if not is_repeated:
                    log.warning("waiting for the store, with a batch in hand", stage=stage, problem=str(error))
                is_repeated = True
                self._beat("waiting for the store", _BEAT_S)
                self._keep_alive()
                self._wait(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_WAIT_S)
                continue
            if is_repeated:
                log.info("the store is back", stage=stage)
            return result
