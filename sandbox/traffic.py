"""Made-up traffic: jobs in both formats, of all 15 types, with repeats and bad ones among them, and the list of what was asked for.

Every email has a recipient of its own, so the fakes' ledgers can be compared with the list by address alone. The same seed makes
the same traffic.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from db import default_templates

DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "gmx.de", "example.org", "example.net")
NAMES = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra", "Barbara Liskov", "Katherine Johnson", "Donald Knuth")
TENANTS = (0, 0, 0, 7, 42)


class Wanted(NamedTuple):
    """One line of the list: an email that must arrive once (`reason` ""), or a record that must become a dead letter for a reason."""

    recipient: str
    job: str
    reason: str = ""


class Piece(NamedTuple):
    """A record for Kafka, what it asks for, and whether it only repeats what was asked for before."""

    topic: str
    key: str
    value: bytes
    wanted: tuple[Wanted, ...]
    is_repeat: bool = False


def make(emails: int, seed: int = 1, repeats: float = 0.02, bad: float = 0.01, prefix: str = "j") -> Iterator[Piece]:
    """Records that ask for `emails` emails in all, with the given shares of repeated and bad records among them."""
    dice = random.Random(seed)
    samples = default_templates.load()
    earlier: list[Piece] = []
    made = 0
    while made < emails:
        if dice.random() < 0.04:
            piece = _content_request(dice, f"{prefix}{made:06}", min(emails - made, dice.randint(2, 12)))
        else:
            piece = _template_job(dice, f"{prefix}{made:06}", *dice.choice(samples))
        made += len(piece.wanted)
        yield piece
        earlier = [*earlier[-200:], piece]
        if dice.random() < repeats:
            yield dice.choice(earlier)._replace(is_repeat=True)
        if dice.random() < bad:
            yield _bad(dice, f"{prefix}bad{made:06}")


def write_list(path: Path, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pass the pieces on, each noted in the list before it can be produced."""
    with path.open("a", buffering=1) as file:
        for piece in pieces:
            if not piece.is_repeat:
                for wanted in piece.wanted:
                    file.write(json.dumps(wanted._asdict()) + "\n")
            yield piece


def _template_job(dice: random.Random, job: str, template: Any, data: dict[str, Any]) -> Piece:
    email = _address(dice, job)
    priority = dice.choices(("high", "normal", "low"), (1, 6, 2))[0]
    value = {
        "id": job,
        "type": template.name,
        "recipient": {"email": email, "name": dice.choice(NAMES), "userId": f"u-{job}"},
        "data": data,
        "priority": priority,
        "retryCount": 0,
        "maxRetries": 3,
        "tenant": dice.choice(TENANTS),
    }
    topic = {"high": "email-jobs-high", "normal": "email-jobs", "low": "email-jobs-bulk"}[priority]
    return Piece(topic, job, json.dumps(value).encode(), (Wanted(email, job),))


def _content_request(dice: random.Random, message: str, count: int) -> Piece:
    people = [(_address(dice, f"{message}p{n}"), dice.choice(NAMES)) for n in range(count)]
    value = {
        "BatchID": 0,
        "MessageID": message,
        "UserID": dice.choice(TENANTS),
        "headers": {"X-Ingress": ["1"]},
        "body": {
            "From": {"email": "events@sandbox.test", "name": "Sandbox Events"},
            "Subject": "Your seats for -event-, {{name}}",
            "Content": [
                {"type": "text/plain", "value": "Hello {{name}},\n\nyour seats for -event- are kept.\n\n-closing-\n"},
                {
                    "type": "text/html",
                    "value": "<p>Hello <b>{{name}}</b>,</p><p>your seats for <i>-event-</i> are kept.</p><p>-closing-</p>",
                },
            ],
            "Sections": {"-bye-": "See you there!<br>The Sandbox team"},
            "Categories": ["seats"],
            "Personalizations": [
                {"To": {"email": email, "name": name}, "Substitutions": {"name": name, "event": "The Big Show", "closing": "-bye-"}}
                for email, name in people
            ],
        },
    }
    wanted = tuple(Wanted(email, f"{message}:{n}") for n, (email, _) in enumerate(people))
    return Piece("email-jobs", message, json.dumps(value).encode(), wanted)


def _bad(dice: random.Random, job: str) -> Piece:
    """One of the mistakes that producers make."""
    good = {"id": job, "type": "welcome-email", "recipient": {"email": _address(dice, job)}, "data": {"name": "x"}}
    reason, value = dice.choice(
        [
            ("not-json", b'{"id": "' + job.encode() + b'", "type": '),
            ("not-json", b"\xff\xfe" + job.encode()),
            ("invalid-address", json.dumps(good | {"recipient": {"email": f"{job} at example.com"}}).encode()),
            ("invalid-job", json.dumps(good | {"priority": "soon"}).encode()),
            ("unknown-template", json.dumps(good | {"type": "email", "template": "no-such-template"}).encode()),
            ("missing-variables", json.dumps(good | {"type": "password-reset", "data": {}}).encode()),
            ("header-injection", json.dumps(good | {"recipient": {"email": _address(dice, job), "name": "A\r\nBcc: b@c.de"}}).encode()),
        ]
    )
    return Piece("email-jobs", job, value, (Wanted("", job, reason),))


def _address(dice: random.Random, job: str) -> str:
    return f"{job}@{dice.choices(DOMAINS, (40, 20, 10, 8, 6, 8, 8))[0]}"
