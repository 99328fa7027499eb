"""Records under whose hand a worker died: tried alone, and at the third death set aside, so that poison never stops the line."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import telemetry.log
from db import slots
from db.connection import Cursor, Database
from mail.errors import StoreUnavailable
from mail.record import Record
from workers.base import RoleContext
from workers.flight.flight_log import read_evidence

log = telemetry.log.get("workers.steps.quarantine")
T = TypeVar("T")

DEATHS_MOST = 3
FRESH_S = 2.0
WHY_CONDEMNED = "value: workers died over this record three times; look at it by hand"


class Store(Protocol):
    """Where suspects are on record: a Patience or a Recorder."""

    def insist(self, stage: str, work: Callable[[Cursor, Any], T]) -> T: ...


def note_suspect(context: RoleContext, database: Database, path: Path, boot_id: str) -> None:
    """The record under the predecessor's hand becomes a suspect, if it died while it read one; a store that is away is waited for.

    `path` is the flight log of a process that opens no attempts; for delivery slots, settlement.py does this.
    """
    evidence = read_evidence(path)
    if evidence is None or not evidence.hand or evidence.boot_id != boot_id:
        return
    while True:
        context.beat("noting whom the predecessor died over", 60.0)
        try:
            deaths = database.run(lambda cursor: slots.add_suspect(cursor, evidence.hand))
        except StoreUnavailable as error:
            if context.is_draining():
                raise SystemExit(0) from error
            context.wait(1.0)
        else:
            log.warning("a worker died with a record under its hand", record=evidence.hand, deaths=deaths)
            return


class Quarantine:
    """What this worker knows of suspects, read anew every `fresh_s` seconds: a record may come from a slot that died elsewhere."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic, fresh_s: float = FRESH_S):
        self._store = store
        self._clock = clock
        self._fresh_s = fresh_s
        self._deaths: dict[str, int] = {}
        self._read_at_s = float("-inf")

    def groups(self, records: Sequence[Record]) -> list[list[Record]]:
        """The records of one poll as batches: all together, and each suspect alone after them."""
        if records and self._clock() - self._read_at_s >= self._fresh_s:
            self._deaths = self._store.insist("suspects", lambda cursor, _: slots.find_suspects(cursor))
            self._read_at_s = self._clock()
        if not self._deaths:
            return [list(records)] if records else []
        suspects = [[record] for record in records if record.name in self._deaths]
        others = [record for record in records if record.name not in self._deaths]
        return ([others] if others else []) + suspects

    def is_condemned(self, record: Record) -> bool:
        """Has it killed often enough?"""
        return bool(self._deaths) and self._deaths.get(record.name, 0) >= DEATHS_MOST

    def pardon(self, record: Record) -> None:
        """Let it be tried once more, however often it has killed: its lane is stopped, so it may not be the record's fault."""
        if record.name in self._deaths:
            self._deaths[record.name] = min(self._deaths[record.name], DEATHS_MOST - 1)

    def absolve(self, records: Sequence[Record]) -> None:
        """These were handled and nobody died."""
        names = [record.name for record in records if record.name in self._deaths] if self._deaths else []
        if names:
            self._store.insist("suspects", lambda cursor, _: slots.forget_suspects(cursor, names))
            for name in names:
                del self._deaths[name]
