"""Callbacks that cannot be verified just now (a certificate cannot be fetched): rows until they can, while all others go on.

Nothing of them is believed meanwhile, and nothing is lost. Where a topic has too many of them, no more of it is taken; other topics
are never kept waiting. One that could not be verified for days is a dead letter, with its bytes.
"""

import time
from collections.abc import Callable, Collection, Sequence

import telemetry.log
from db import postponed
from db.connection import Cursor
from mail.record import Record
from workers.feedback.callbacks import Mailbag, Refusal
from workers.steps.quarantine import Store

log = telemetry.log.get("workers.feedback.postponed")

RETRY_S = 5.0
RECORDS_MOST, BYTES_MOST = 100, 8 << 20  # tried again at once: a poll's worth of others is not to wait for them
LEASE_S = 300.0


class Postponed:
    """`topics` are those that we read; `hold` is told of which no more may be taken, each time instead of those before."""

    def __init__(
        self, store: Store, topics: Sequence[str], hold: Callable[[Collection[str]], None], clock: Callable[[], float] = time.monotonic
    ):
        self._store = store
        self._topics = topics
        self._hold = hold
        self._clock = clock
        self._retry_at_s = float("-inf")
        self._crowded: set[str] = set()
        self._last: set[str] = set()

    def take(self) -> list[Record]:
        """Some that may be tried now, every few seconds."""
        if self._clock() < self._retry_at_s:
            return []
        found, crowded = self._store.insist("postponed", self._find)
        self._retry_at_s = self._clock() + RETRY_S
        self._hold(crowded)
        for topic in crowded - self._crowded:
            log.error("too many callbacks cannot be verified: no more of their topic are taken", topic=topic)
        self._crowded = crowded
        records = [_record_of(callback) for callback in found]
        self._last = {record.name for record, callback in zip(records, found, strict=True) if callback.is_last}
        return records

    def judge(self, bag: Mailbag) -> None:
        """What could not be verified, though it was its last chance, is refused."""
        for record in [record for record in bag.postponed if record.name in self._last]:
            bag.postponed.remove(record)
            bag.given_up.append(record.offset)
            bag.refusals.append(Refusal(record, f"it could not be verified for {postponed.KEEP_DAYS} days: {bag.problem}"))

    def _find(self, cursor: Cursor, _: object) -> tuple[list[postponed.Postponed], set[str]]:
        return postponed.lease(cursor, self._topics, RECORDS_MOST, BYTES_MOST, LEASE_S), postponed.find_crowded(cursor)


def row_of(record: Record) -> postponed.Postponed:
    """What is kept of a record, or still kept of one that was tried again."""
    return postponed.Postponed(**record.source, value=record.value or b"", received_at_s=record.received_at_s)


def _record_of(callback: postponed.Postponed) -> Record:
    """It is of no partition of ours, and nothing of it is to be committed; its name stays the same from one try to the next."""
    source = {"topic": callback.topic, "partition": callback.partition, "offset": callback.offset}
    return Record(
        callback.value, "normal", callback.topic, -1, callback.number or 0, stored_source=source, received_at_s=callback.received_at_s
    )
