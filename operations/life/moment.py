"""A moment in the life of an email, and how moments are spelled. Pure."""

from datetime import datetime
from typing import NamedTuple


class Moment(NamedTuple):
    """Something that happened. Sorted by `order`, which is when it can have been at the latest where its clock is coarse."""

    order: datetime
    at: datetime
    words: str


def spell(at: datetime) -> str:
    """A moment in UTC; thousandths where its clock has them."""
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03}" if at.microsecond else "")


def moment(at: datetime, words: str) -> Moment:
    """Something that our own clock has timed."""
    return Moment(at, at, words)
