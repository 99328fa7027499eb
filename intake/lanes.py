"""Which lanes and topics a delivery slot reads: arithmetic on settings, nothing else.

The first EXPRESS_WORKERS slots serve the high lane alone, so that a campaign can never stand in front of a password reset.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mail.job import Lane

LANES: tuple[Lane, ...] = ("high", "normal", "bulk")


@dataclass(frozen=True)
class Subscription:
    """What one slot reads. `topics` are (topic name or ^regex, lane); `row_lanes` the lanes of rows it leases.

    `hidden` are names that no regex of it may match: the topics of other slots' lanes, and those we write ourselves.
    """

    topics: tuple[tuple[str, Lane], ...]
    row_lanes: tuple[Lane, ...]
    hidden: tuple[str, ...] = ()

    def lane_of(self, topic: str) -> Lane:
        """The lane of a topic's records: that of its exact name, else of the first regex that fits, else normal."""
        for name, lane in self.topics:
            if name == topic:
                return lane
        return next((lane for name, lane in self.topics if is_pattern(name) and re.match(name, topic)), "normal")


def subscription(slot: int, workers: int, express_workers: int, topics: Mapping[Lane, str], ours: tuple[str, ...] = ()) -> Subscription:
    """What the delivery slot (from 0) of so many reads.

    `topics` gives each lane's setting: a name, a comma-separated list, or regexes that begin with ^. `ours` are topics that we
    write (events, dead letters) and must never read as jobs. A single worker serves all lanes; of several, one at least
    serves normal and bulk, however many express workers were asked for.
    """
    lanes = _lanes_of(slot, workers, express_workers)
    chosen = tuple((name, lane) for lane in lanes for name in split_names(topics.get(lane, "")))
    others = tuple(name for lane in LANES if lane not in lanes for name in split_names(topics.get(lane, "")) if not is_pattern(name))
    named = {name for name, _ in chosen}
    return Subscription(chosen, lanes, tuple(name for name in others + ours if name not in named))


def split_names(setting: str) -> tuple[str, ...]:
    """The topics of a setting: names or regexes, separated by commas, blanks around them ignored."""
    return tuple(name for name in (part.strip() for part in setting.split(",")) if name)


def is_pattern(name: str) -> bool:
    """Does this name stand for every topic that matches it?"""
    return name.startswith("^")


def _lanes_of(slot: int, workers: int, express_workers: int) -> tuple[Lane, ...]:
    express = min(express_workers, workers - 1)
    if express <= 0:
        return LANES
    return ("high",) if slot < express else ("normal", "bulk")
