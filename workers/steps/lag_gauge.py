"""How many records wait in each partition that this worker owns, for the metrics page; a lost partition's number vanishes."""

import time
from collections.abc import Callable, Mapping

from telemetry import metrics

EVERY_S = 5.0


class LagGauge:
    """`read` answers {(topic, partition): records waiting}; it is asked at most every few seconds."""

    def __init__(self, read: Callable[[], Mapping[tuple[str, int], int]], clock: Callable[[], float] = time.monotonic):
        self._read = read
        self._clock = clock
        self._next_at_s = 0.0
        self._shown: set[tuple[str, int]] = set()

    def show(self) -> None:
        """Set the gauges, if it is time."""
        if self._clock() < self._next_at_s:
            return
        self._next_at_s = self._clock() + EVERY_S
        lag = self._read()
        for (topic, partition), count in lag.items():
            metrics.KAFKA_LAG.labels(topic, str(partition)).set(count)
        for topic, partition in self._shown - lag.keys():
            metrics.KAFKA_LAG.labels(topic, str(partition)).set(float("nan"))
        self._shown = set(lag)
