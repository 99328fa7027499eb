"""What the made-up month is to be: how long, how busy, through which ESPs. The clock comes from outside, as in all that is made here."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from mail.template import Template

# Monday to Sunday, so that a week has seven times the average
WEEKDAY_SHAPE = (1.12, 1.22, 1.24, 1.18, 1.06, 0.64, 0.54)
# No email is younger than this, so that every retry of the story is over by now.
QUIET = timedelta(minutes=30)


class Esp(NamedTuple):
    """One ESP of the catalogue: its starting weight, and whether it ever reports what became of a message."""

    provider: str
    weight: int
    has_callbacks: bool


class Plan(NamedTuple):
    """`subject_of` renders a template's subject with data, `normalise` turns scores into permille that sum up to 1000."""

    now: datetime
    esps: tuple[Esp, ...]
    subject_of: Callable[[Template, dict[str, Any]], str]
    normalise: Callable[[Mapping[str, float]], dict[str, int]]
    seed: int = 1
    days: int = 30
    emails_a_day: int = 300

    @property
    def dates(self) -> list[date]:
        """The days of the month in UTC, today the last."""
        today = self.now.astimezone(UTC).date()
        return [today - timedelta(days=ago) for ago in reversed(range(self.days))]


def midnight(day: date) -> datetime:
    """The first moment of a day."""
    return datetime.combine(day, time(), UTC)
