"""Records under whose hand a worker died: tried alone, and at the third death set aside, so that poison never stops the line."""

import time
from collections.abc import Callable, Sequence

from db import slots
from mail.record import Record
from workers.patience import Patience

DEATHS_MOST = 3
FRESH_S = 2.0


class Quarantine:
    """What this worker knows of suspects, read anew every few seconds: a record may come from a slot that died elsewhere."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic):
        self._patience = patience
        self._clock = clock
        self._deaths: dict[str, int] = {}
        self._read_at_s = -FRESH_S

    def groups(self, records: Sequence[Record]) -> list[list[Record]]:
        """The records of one poll as batches: all together, and each suspect alone after them."""
        if records and self._clock() - self._read_at_s >= FRESH_S:
            self._deaths = self._patience.insist("suspects", lambda cursor, _: slots.find_suspects(cursor))
            self._read_at_s = self._clock()
        if not self._deaths:
            return [list(records)] if records else []
        suspects = [[record] for record in records if record.name in self._deaths]
        others = [record for record in records if record.name not in self._deaths]
        return ([others] if others else []) + suspects

    def is_condemned(self, record: Record) -> bool:
        """Has it killed often enough?"""
        return self._deaths.get(record.name, 0) >= DEATHS_MOST

    def absolve(self, records: Sequence[Record]) -> None:
        """These were handled and nobody died."""
        names = [record.name for record in records if record.name in self._deaths] if self._deaths else []
        if names:
            self._patience.insist("suspects", lambda cursor, _: slots.forget_suspects(cursor, names))
            for name in names:
                del self._deaths[name]
