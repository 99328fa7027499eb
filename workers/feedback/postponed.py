"""Callbacks that cannot be verified just now (a certificate cannot be fetched): kept until they can, while all others go on.

They are neither handled nor committed, so after a crash they come again from Kafka. Where a topic has too many of them, no more of
it is taken; other topics are never kept waiting.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from mail.record import Record

RETRY_S = 5.0
RECORDS_MOST, BYTES_MOST = 200, 16 << 20  # of one topic


class Postponed:
    """`owns` says whether a record is still ours; `hold` is told the topics of which no more may be taken, each time instead of
    those before."""

    def __init__(
        self,
        owns: Callable[[Record], bool],
        hold: Callable[[Collection[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._owns = owns
        self._hold = hold
        self._clock = clock
        self._records: list[Record] = []
        self._retry_at_s = 0.0

    def keep(self, records: Iterable[Record]) -> None:
        """These are tried again in a while."""
        if added := list(records):
            if not self._records:
                self._retry_at_s = self._clock() + RETRY_S
            self._records += added
            self._hold(self._crowded())

    def take(self) -> list[Record]:
        """All of them, once it is time; what was taken from us meanwhile is another worker's."""
        if not self._records or self._clock() < self._retry_at_s:
            return []
        taken, self._records = self._records, []
        self._hold(())
        return [record for record in taken if self._owns(record)]

    def _crowded(self) -> set[str]:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for record in self._records:
            counts[record.topic] += 1
            sizes[record.topic] += len(record.value or b"")
        return {topic for topic in counts if counts[topic] >= RECORDS_MOST or sizes[topic] >= BYTES_MOST}
