"""The story of an email, from what is on record of it: told, drawn on a screen, or spelled for a program. Pure."""

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

import msgspec

from db.life import Letter, Life
from operations.life import concealment, prospects, telling
from operations.life.moment import Moment, spell
from operations.life.prospects import Prospect
from operations.life.reported import Told

WIDTH = 120


class Story(NamedTuple):
    """What is printed: a headline, facts by name, what happened, and what comes. `records` are the facts behind it."""

    headline: str
    about: list[tuple[str, str]]
    moments: list[Moment]
    prospect: Prospect
    records: dict[str, Any]


def tell(found: Life, told: Sequence[Told], is_open: bool) -> Story:
    """The story of an email; `is_open`: with the people in it."""
    if not is_open:
        found, told = concealment.of_life(found), concealment.of_told(told)
    row, prospect = found.row, prospects.prospect(found)
    records = {
        "now": found.now,
        "row": row._asdict(),
        "attempts": [one._asdict() for one in found.tries],
        "reports": [_record_of(one) for one in told],
        "dead_letters": [letter._asdict() for letter in found.letters],
        "audit": [entry._asdict() for entry in found.entries],
        "doubts": [doubt._asdict() for doubt in found.doubts],
        "suppressions": [stop._asdict() for stop in found.stops],
        "unpublished": found.unpublished,
    }
    headline = f"{row.job_id} of tenant {row.tenant} is {row.status}: {prospect.why}"
    return Story(headline, telling.about(found), telling.moments(found, told), prospect, records)


def tell_letters(letters: Sequence[Letter], is_open: bool) -> Story:
    """The story of records that no email was made of."""
    letters = list(letters) if is_open else concealment.of_letters(letters)
    newest, prospect = letters[-1], prospects.letters_prospect(letters)
    headline = f"{newest.job_id or 'a record without a job id'} of tenant {newest.tenant} never became an email: {prospect.why}"
    records = {"dead_letters": [letter._asdict() for letter in letters]}
    return Story(headline, [("came by", telling.spell_source(newest.source))], telling.letter_moments(letters), prospect, records)


def _record_of(told: Told) -> dict[str, Any]:
    """A report as our words have it; the ESP's own fields may name anybody."""
    own = told.report._asdict() | {"data": None}
    event = told.event
    return own | ({"reason": event.reason, "smtp_code": event.smtp_code, "bounce": event.bounce, "url": event.url} if event else {})


def lines(story: Story) -> Iterator[str]:
    """The screen."""
    yield from _wrapped(story.headline, WIDTH)
    yield ""
    widest = max((len(name) for name, _ in story.about), default=0)
    for name, words in story.about:
        yield from _columns(name.ljust(widest), words)
    yield from ("", *_columns("when (UTC)".ljust(23), "what happened"), f"{'-' * 23}  {'-' * 13}")
    for moment in story.moments:
        yield from _columns(spell(moment.at).ljust(23), moment.words)
    yield ""
    yield from _columns("next:", story.prospect.next)
    yield from (f"       {command}" for command in story.prospect.commands)


def spell_json(story: Story) -> str:
    """The same for a program."""
    told = {
        "headline": story.headline,
        "about": dict(story.about),
        "moments": [{"at": moment.at, "words": moment.words} for moment in story.moments],
        **story.prospect._asdict(),
        "records": story.records,
    }
    return msgspec.json.format(msgspec.json.encode(told).decode())


def _columns(name: str, words: str) -> Iterator[str]:
    indent = " " * (len(name) + 2)
    wrapped = _wrapped(words, WIDTH - len(indent)) or [""]
    yield f"{name}  {wrapped[0]}".rstrip()
    yield from (f"{indent}{line}" for line in wrapped[1:])


def _wrapped(words: str, width: int) -> list[str]:
    """What strangers wrote must not steer the terminal."""
    words = "".join(c if c.isprintable() else " " for c in words)
    return wrap(words, width, break_on_hyphens=False)
