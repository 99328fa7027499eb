"""The pure pieces that every ESP needs to turn a callback's body into events: texts, times, addresses, codes, ids.

What comes in is a stranger's: of the wrong type, endless or invented. This module must never raise over it (an unreadable value
is an empty one), never read the clock, and never let more of an event be kept than it says here.
"""

import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from mail.errors import BadCallback
from mail.ids import from_wire
from telemetry import metrics

EVENT_ID_CHARACTERS = 200
ID_CHARACTERS = 255
ADDRESS_CHARACTERS = 320
USER_AGENT_CHARACTERS = 1_000
URL_CHARACTERS = 2_000
_KEPT_FIELDS, _KEPT_CHARACTERS = 100, 4_000
_UNREADABLE = re.compile("[\x00\ud800-\udfff]")
# RFC 3463: class.subject.detail; and RFC 5321: three digits at the start, or behind "smtp;" as in a Diagnostic-Code
_ENHANCED_CODE = re.compile(r"(?<![0-9.])[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_REPLY_CODE = re.compile(r"(?:^|;)\s*([245][0-9]{2})(?![0-9])")
# A moment beyond this many seconds is one in milliseconds (the year 5138 otherwise).
_LARGEST_SECONDS = 1e11
Fields = dict[str, Any]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_encode = msgspec.json.Encoder().encode


def items(document: Any, provider: str) -> Iterator[Fields]:
    """The events of a body, whether one or an array of them; what is no object is counted. Raises BadCallback over other bodies."""
    if isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        raise BadCallback("the body is neither an event nor an array of events")
    for item in document:
        if isinstance(item, dict):
            yield item
        else:
            count_unknown(provider)


def count_unknown(provider: str) -> None:
    """An event that cannot be told in our words, or is of a type that nobody documented."""
    metrics.WEBHOOK_EVENTS.labels(provider=provider, event="unknown").inc()


def text(value: Any, characters: int = ID_CHARACTERS) -> str:
    """A string as it is, whole numbers spelled out, at most so long; "" for anything else."""
    if isinstance(value, str):
        cut = value[:characters]
        return cut if cut.isascii() and "\0" not in cut else _UNREADABLE.sub("\ufffd", cut)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 64 else ""


def address(value: Any) -> str:
    """An address, or "" where it is none."""
    spelled = text(value, ADDRESS_CHARACTERS + 1).strip()
    return spelled if "@" in spelled and len(spelled) <= ADDRESS_CHARACTERS else ""


def ip(value: Any) -> str:
    """An IP address in its usual spelling, or "" where it is none; the database takes nothing else."""
    return _spelled_ip(value[:100]) if isinstance(value, str) else ""


@lru_cache(maxsize=4096)
def _spelled_ip(value: str) -> str:
    """ESPs report from few addresses, and readers' pictures are fetched by few."""
    try:
        return str(ipaddress.ip_address(value)) if "%" not in value else ""
    except ValueError:
        return ""


def attempt_id(value: Any) -> str:
    """The attempt behind a wire id, or "" where it is somebody else's."""
    try:
        return from_wire(value) if isinstance(value, str) else ""
    except ValueError:
        return ""


def own_id(value: Any) -> str:
    """The id that the ESP gave an event, or "" where there is none to trust: one that is cut could be another's."""
    spelled = text(value, EVENT_ID_CHARACTERS + 1)
    return spelled if len(spelled) <= EVENT_ID_CHARACTERS else ""


def smtp_code(*texts: str) -> str:
    """The first enhanced status code in the texts ("5.1.1"), else the first reply code ("550"), else ""."""
    for words in texts:
        if found := _ENHANCED_CODE.search(words):
            return found[0]
    for words in texts:
        if found := _REPLY_CODE.search(words):
            return found[1]
    return ""


def unix_moment(value: Any) -> datetime | None:
    """A moment given in Unix seconds (or, as samples of some ESPs show, milliseconds), as a number or as text."""
    if type(value) is int and 0 < value < _LARGEST_SECONDS:  # nearly always
        return datetime.fromtimestamp(value, UTC)
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or number <= 0:
        return None
    seconds = number / 1000 if number > _LARGEST_SECONDS else number
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def iso_moment(value: Any) -> datetime | None:
    """A moment in ISO 8601, UTC where it names no offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            return moment and moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def hash_of(*parts: Any) -> str:
    """An id for an event that has none: the same parts (parsed JSON) give the same one, whatever the order of their keys."""
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()


def kept(fields: Fields, without: Iterable[str] = ()) -> Fields:
    """What is kept of an event: its fields but those named and those that are very long."""
    left_out = set(without)
    if fields and len(fields) <= _KEPT_FIELDS and left_out.isdisjoint(fields):
        is_short = max(map(len, fields)) <= ID_CHARACTERS and len(_encode(fields)) <= _KEPT_CHARACTERS
        if is_short:  # all together, and so each: nearly always
            return fields
    short = [name for name in fields if name not in left_out and len(name) <= ID_CHARACTERS]
    return {name: fields[name] for name in short[:_KEPT_FIELDS] if _is_short(fields[name])}


def _is_short(value: Any) -> bool:
    if type(value) is str:
        return len(value) <= _KEPT_CHARACTERS
    return not isinstance(value, dict | list) or len(_encode(value)) <= _KEPT_CHARACTERS
