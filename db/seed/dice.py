"""Chance that repeats itself: ids, delays and choices drawn from one `random.Random`, never from the operating system."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from mail.ids import new_id

T = TypeVar("T")


def id_at(dice: Random, at: datetime) -> str:
    """A UUIDv7 of that moment, like mail.ids.new_id, but with the dice's random bits."""
    stamp = new_id(int(at.timestamp() * 1000))[:15]  # the time and the version, before the random bits
    tail = f"{dice.getrandbits(72):018x}"
    return f"{stamp}{tail[:3]}-{'89ab'[dice.getrandbits(2)]}{tail[3:6]}-{tail[6:]}"


def hexadecimal(dice: Random, digits: int) -> str:
    return f"{dice.getrandbits(4 * digits):0{digits}x}"


def later(dice: Random, at: datetime, median_s: float, sigma: float) -> datetime:
    """Some time after `at`: log-normal, as delays of people and mail servers are."""
    return at + timedelta(seconds=median_s * math.exp(sigma * dice.gauss(0, 1)))


def within(dice: Random, at: datetime, least_s: float, most_s: float) -> datetime:
    """From `least_s` to `most_s` seconds after `at`."""
    return at + timedelta(seconds=dice.uniform(least_s, most_s))


def weighted(dice: Random, weights: Mapping[T, float]) -> T:
    """One of the keys, as often as its weight says."""
    return dice.choices(list(weights), list(weights.values()))[0]


def happens(dice: Random, chance: float) -> bool:
    return dice.random() < chance
