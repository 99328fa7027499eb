"""Takes people out of what is told of an email: addresses are hinted at, names and subjects left out. Pure.

What ESPs say in their own words goes through the redaction of the log, since it may quote anything.
"""

from collections.abc import Sequence

import msgspec

from db.life import Letter, Life
from mail.event import Event
from operations.life.reported import Told
from telemetry.redaction import Redactor

_LEFT_OUT = "…"


def hint(address: str) -> str:
    """An address as whoever knows it recognises it: its first character and its domain."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}{_LEFT_OUT}@{domain}" if at else address


def is_hint(address: str) -> bool:
    """Is this only a hint at an address?"""
    return f"{_LEFT_OUT}@" in address


def of_life(life: Life) -> Life:
    """The same life without the people in it."""
    row = life.row
    return life._replace(
        row=row._replace(recipient=hint(row.recipient), name="", subject="", error=_clean(row.error)),
        tries=[one._replace(error=_clean(one.error)) for one in life.tries],
        letters=of_letters(life.letters),
        doubts=[doubt._replace(reason=_clean(doubt.reason) or "") for doubt in life.doubts],
        stops=[stop._replace(address=hint(stop.address)) for stop in life.stops],
    )


def of_letters(letters: Sequence[Letter]) -> list[Letter]:
    """Dead letters whose errors name nobody."""
    return [letter._replace(error=_clean(letter.error) or "") for letter in letters]


def of_told(told: Sequence[Told]) -> list[Told]:
    """Reports that name nobody."""
    return [
        t._replace(report=t.report._replace(recipient=hint(t.report.recipient or "")), event=t.event and _of_event(t.event)) for t in told
    ]


def _of_event(event: Event) -> Event:
    return msgspec.structs.replace(event, recipient=hint(event.recipient), reason=_clean(event.reason) or "", url=_clean(event.url) or "")


def _clean(text: str | None) -> str | None:
    return Redactor().clean(text) if text else text
