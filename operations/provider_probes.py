"""What an adapter does with a message, found out by giving it one: nothing here is told by hand, so nothing can grow old.

Each probe is a message with one thing in it and the marks by which that thing is known on the wire. This module must never name an
ESP, nor send anything.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from esp.base import Esp, Sought
from mail.ids import new_id, wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Request

_FILE = b64encode(b"what is in the file of a probe").decode()
_MANY = 60  # labels, more than any ESP takes
_LONGEST_PLAIN = 200
_HEADER_WITH = r"(?m)^([A-Za-z-]+):(?:[^\r\n]|\r\n )*"


class Probe(NamedTuple):
    """`changes` are fields of the message; each of `marks` stands for a part of what is looked for."""

    name: str
    changes: dict[str, Any]
    marks: tuple[str, ...]


PROBES = (
    Probe("names of people", {"to": (Address("to@probe.test", "Probe Name"),)}, ("Probe Name",)),
    Probe("several To", {"to": (Address("to@probe.test"), Address("to-two@probe.test"))}, ("to@probe.test", "to-two@probe.test")),
    Probe("Cc", {"cc": (Address("cc@probe.test"),)}, ("cc@probe.test",)),
    Probe("Bcc", {"bcc": (Address("bcc@probe.test"),)}, ("bcc@probe.test",)),
    Probe("Reply-To", {"reply_to": Address("reply@probe.test")}, ("reply@probe.test",)),
    Probe("headers of the caller's", {"headers": (("X-Probe", "probe-value"),)}, ("X-Probe", "probe-value")),
    Probe("the same header twice", {"headers": (("X-Probe", "probe-one"), ("X-Probe", "probe-two"))}, ("probe-one", "probe-two")),
    Probe(
        "List-Unsubscribe with one click",
        {"headers": (("List-Unsubscribe", "<https://probe.test/u>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))},
        ("https://probe.test/u", "List-Unsubscribe=One-Click"),
    ),
    Probe("attachments", {"attachments": (Attachment("probe.pdf", "application/pdf", _FILE),)}, ("probe.pdf", _FILE)),
    Probe(
        "attachments whose type has parameters",
        {"attachments": (Attachment("i.ics", "text/calendar; method=REQUEST", _FILE),)},
        ("text/calendar; method=REQUEST", _FILE),
    ),
    Probe("inline images", {"attachments": (Attachment("l.png", "image/png", _FILE, "inline", "probe-logo"),)}, ("probe-logo", _FILE)),
    Probe("no subject", {"subject": ""}, ()),
    Probe("tags", {"tags": tuple(f"probe-tag-{n:02}" for n in range(_MANY))}, tuple(f"probe-tag-{n:02}" for n in range(_MANY))),
    Probe(
        "metadata, custom args",
        {"metadata": tuple((f"probe-{n:02}", f"probe-data-{n:02}") for n in range(_MANY))},
        tuple(f"probe-data-{n:02}" for n in range(_MANY)),
    ),
)


class Batch(NamedTuple):
    """A kind of batch: how long each mail's HTML is, and what all or each carry."""

    name: str
    html_characters: int
    is_same: bool = False
    attachment: str = ""


BATCHES = (
    Batch("1 KB each, all different", 1_000),
    Batch("20 KB each, all different", 20_000),
    Batch("20 KB each, the very same words", 20_000, is_same=True),
    Batch("1 KB each, the same attachment", 1_000, attachment="same"),
    Batch("1 KB each, an attachment of its own", 1_000, attachment="own"),
)


def message_of(**changes: Any) -> Message:
    plain = Message(new_id(), 0, Address("from@probe.test"), (Address("to@probe.test"),), "Probe", "<p>probe</p>", "probe")
    return msgspec.structs.replace(plain, **changes)


def carried(esp: Esp, probe: Probe) -> str:
    """ "yes", "no" (unsupported: another ESP takes the mail), "left out", or how many of many arrive."""
    message = message_of(**probe.changes)
    if esp.unsupported(message):
        return "no"
    said = "\n".join(_said(request) for request in esp.prepare([message]))
    arrived = sum(mark in said for mark in probe.marks)
    if arrived == len(probe.marks):
        return "yes"
    return f"the first {arrived}" if arrived > 1 else "the first" if arrived else "left out"


def requests_for(esp: Esp, batch: Batch, count: int) -> int:
    """How many requests so many mails become."""
    return len(esp.prepare([_of_batch(batch, n) for n in range(count)]))


def refusals(esp: Esp) -> Iterator[str]:
    """Why a mail goes to another ESP, each reason once."""
    most, largest = esp.limits.recipients_per_message, esp.limits.message_bytes
    over: list[dict[str, Any]] = [
        {"to": tuple(Address(f"to-{n}@probe.test") for n in range(most + 1))},
        {"attachments": (Attachment("large", "application/pdf", "A" * largest),)},
        {"html": "x" * (largest // 2 + 1)},
        {"attachments": (Attachment("n" * 256, "application/pdf", _FILE),)},
        {"sender": Address("from@probe.test", "{{name}}")},
        *({"headers": ((name, "x"),)} for name in ("Received", "Subject", "Content-Type")),
    ]
    messages = [message_of(**changes) for changes in (*over, *(probe.changes for probe in PROBES))]
    yield from dict.fromkeys(reason for message in messages if (reason := esp.unsupported(message)))


def place_of_attempt_id(esp: Esp) -> str:
    """Where the wire id stands in the request of a mail alone: a path in JSON, or headers of MIME."""
    message = message_of()
    (request,) = esp.prepare([message])
    wanted = wire_id(message.attempt_id)
    try:
        paths = _paths(msgspec.json.decode(request.body), wanted)
    except msgspec.DecodeError:
        paths = [found[1] for found in re.finditer(_HEADER_WITH, request.body.decode()) if wanted in found[0]]
    return ", ".join(paths)


def question_of(request: Request) -> str:
    """Method and path."""
    return f"{request.method} {urlsplit(request.url).path}"


def search_of(esp: Any) -> str:
    """The question by which an uncertain attempt is looked up, or "" where the ESP has no such thing."""
    if not hasattr(esp, "find"):
        return ""
    (search, *_) = esp.find([Sought(new_id(), "to@probe.test")])
    return question_of(search.request)


def _of_batch(batch: Batch, number: int) -> Message:
    words = "the same" if batch.is_same else str(number)
    html = f"<p>{words}</p>".ljust(batch.html_characters, ".")
    files = {"same": _FILE, "own": b64encode(f"file {number}".encode()).decode()}
    attachments = (Attachment("a.pdf", "application/pdf", files[batch.attachment]),) if batch.attachment else ()
    return message_of(to=(Address(f"to-{number}@probe.test"),), subject=f"Probe {words}", html=html, text=words, attachments=attachments)


def _said(request: Request) -> str:
    """Everything that a request says: envelope, body, and the MIME within it."""
    text = request.body.decode()
    wrapped = [_unwrapped(found) for found in re.findall(rf"[A-Za-z0-9+/=]{{{_LONGEST_PLAIN},}}", text)]
    return "\n".join([*request.headers.values(), text, *wrapped])


def _unwrapped(spelled: str) -> str:
    try:
        return b64decode(spelled, validate=True).decode(errors="replace")
    except binascii.Error:
        return ""


def _paths(node: Any, wanted: str, path: str = "") -> list[str]:
    if node == wanted:
        return [path]
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in _paths(value, wanted, f"{path}.{key}" if path else key)]
    items: Sequence[Any] = node if isinstance(node, list) else []
    return list(dict.fromkeys(found for item in items for found in _paths(item, wanted, f"{path}[]")))
