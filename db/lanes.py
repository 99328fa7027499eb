"""Lanes that are stopped: a decision for all hosts, kept until somebody resumes the lane."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from db.connection import Cursor, fetch, uuid_array
from db.queries import sql

WATCH = "(itself)"  # the program stopped the lane, and tries one email now and then to see whether it may go on; nobody's name


class Pause(NamedTuple):
    """A lane that is stopped. `paused_by` is a person's name, or WATCH."""

    lane: str
    paused_at: datetime
    paused_by: str
    reason: str


def find(cursor: Cursor) -> list[Pause]:
    """Every lane that is stopped."""
    return [Pause(*row) for row in fetch(cursor, sql("find_pauses"), {})]


def pause(cursor: Cursor, lane: str, by: str, reason: str, probes: Sequence[str] = (), probe_s: float | None = None) -> bool:
    """Stop a lane; False = it was stopped already. `probes` are rows of which one is tried every `probe_s` seconds (None = never)."""
    values = {"lane": lane, "by": by, "reason": reason, "probes": uuid_array(probes), "probe_s": probe_s}
    return bool(fetch(cursor, sql("pause_lane"), values))


def resume(cursor: Cursor, lane: str, by: str | None = None) -> bool:
    """Let a lane go on, where `by` (None = anybody) stopped it; False = it was not stopped."""
    return bool(fetch(cursor, sql("resume_lane"), {"lane": lane, "by": by}))


def take_probe(cursor: Cursor, lanes: Sequence[str], probe_s: float) -> tuple[str, list[str]] | None:
    """A lane of these of which an email is to be tried now, by the caller alone, and the ids of rows to choose from."""
    found = fetch(cursor, sql("take_probe"), {"lanes": list(lanes), "probe_s": probe_s})
    return (found[0][0], found[0][1]) if found else None


def find_of_row(cursor: Cursor, row_id: str) -> str | None:
    """The lane of a row; None where there is no such row."""
    found = fetch(cursor, sql("find_lane"), {"id": row_id})
    return found[0][0] if found else None
