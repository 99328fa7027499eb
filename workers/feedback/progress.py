"""Up to when all that was in our partitions is applied: where each of them ended at a moment is remembered until it is handled.

That nothing waits at a look would prove the same, but under load something always does; and a client that has lost its broker
believes for ever that nothing does. So the ends are asked of the brokers, after the moment of which they shall tell.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

Place = tuple[str, int]  # topic, partition


class _Sight(NamedTuple):
    end: int
    at: datetime


class Progress:
    """`positions` says of each partition of ours before which offset everything is handled (None = not known), `ends` where they end
    now; it may leave out some."""

    def __init__(self, positions: Callable[[], Mapping[Place, int | None]], ends: Callable[[], Mapping[Place, int]]):
        self._positions = positions
        self._ends = ends
        self._sights: dict[Place, _Sight] = {}

    def reached(self) -> dict[Place, datetime | None]:
        """For each partition of ours: the moment up to which it is handled (None = nothing new)."""
        positions = self._positions()
        self._sights = {place: sight for place, sight in self._sights.items() if place in positions}
        return {place: self._reach(place, position) for place, position in positions.items()}

    def look(self, at: datetime) -> None:
        """See where those partitions end whose last end was reached; `at` has passed."""
        for place, end in self._ends().items():
            self._sights.setdefault(place, _Sight(end, at))

    def _reach(self, place: Place, position: int | None) -> datetime | None:
        sight = self._sights.get(place)
        if sight is None or position is None or position < sight.end:
            return None
        del self._sights[place]
        return sight.at
