"""The plan of a storm: what is broken when, how often and for how long. All of it is drawn from the seed before anything starts.

Moments are shares of the jobs asked for, not seconds, so that a slow machine meets the same troubles as a quick one.
"""

import random
from typing import Literal, NamedTuple

Kind = Literal["postgres restart", "broker killed", "broker frozen", "redis killed", "supervisor killed"]
COUNTS: dict[Kind, int] = {"postgres restart": 4, "broker killed": 2, "broker frozen": 2, "redis killed": 2, "supervisor killed": 2}
# For how long the server is away, in seconds: (shortest, longest).
LASTS_S: dict[Kind, tuple[float, float]] = {
    "postgres restart": (0.2, 3.0),
    "broker killed": (0.5, 4.0),
    "broker frozen": (2.0, 5.0),
    "redis killed": (0.5, 2.0),
    "supervisor killed": (0.0, 0.0),
}
EARLIEST, LATEST = 0.08, 0.92


class Step(NamedTuple):
    """One trouble: from the moment when this share of the jobs was asked for, for so many seconds."""

    at_share: float
    kind: Kind
    lasts_s: float

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_share:4.0%} {self.kind}{lasts}"


def make(seed: int, rounds: int = 1) -> list[Step]:
    """Every trouble `rounds` times as often as COUNTS says, in an order and at moments of the seed's choice, evenly spread."""
    dice = random.Random(f"plan:{seed}")
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count * rounds)]
    dice.shuffle(kinds)
    width = (LATEST - EARLIEST) / len(kinds)
    return [Step(EARLIEST + (number + dice.random()) * width, kind, dice.uniform(*LASTS_S[kind])) for number, kind in enumerate(kinds)]
