"""What a test of bad input is made of: a case, and records that are good but for what a case changes."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

Json = dict[str, Any]
DOMAIN = "cases.example"
MAX_JOB_BYTES = 450_000  # what 200,000 levels of nesting need, and well below what the mock of Kafka takes


class Mail(NamedTuple):
    """One mail as the fake ESP got it."""

    recipient: str
    subject: str
    html: str
    text: str
    headers: dict[str, str]
    metadata: dict[str, str]


class Bad(NamedTuple):
    """A record that must become one dead letter with this reason, whose error begins with `field`.

    Cases of one `group` stand together between their twenty neighbours. `recipients` are those of its emails that are good,
    `item` is the place of the bad one in a content request.
    """

    name: str
    value: bytes
    reason: str
    field: str
    group: str = ""
    recipients: tuple[str, ...] = ()
    item: int | None = None


class Odd(NamedTuple):
    """A record that looks strange and must be sent all the same, to these recipients only; `check` looks at each mail.

    Those of one `group` stand together between their twenty neighbours.
    """

    name: str
    value: bytes | None
    recipients: tuple[str, ...] = ()
    check: Callable[[Mail], None] = lambda mail: None
    group: str = ""


def address(name: str) -> str:
    """An address that no other case has."""
    return f"{name}@{DOMAIN}"


def template_job(name: str, /, **changes: Any) -> Json:
    """A good template job; `...` takes a field away."""
    job = {
        "id": name,
        "type": "email",
        "template": "plain",
        "recipient": {"email": address(name), "name": "Ada"},
        "data": {"words": "some words"},
        "tenant": 42,
    }
    return _changed(job, changes)


def content_request(name: str, body: Json | None = None, /, **changes: Any) -> Json:
    """A good content request of one email; `body` holds changes of the body, `...` takes a field away."""
    good = {
        "From": "sender@sandbox.test",
        "Subject": "Seats for -name-",
        "Content": [{"type": "text/plain", "value": "Hello {{name}}"}, {"type": "text/html", "value": "<p>Hello -name-</p>"}],
        "Personalizations": [{"To": address(name), "Substitutions": {"name": "Ada"}}],
    }
    request = {"MessageID": name, "UserID": 42, "BatchID": 0, "body": _changed(good, body or {})}
    return _changed(request, changes)


def spell(record: Json) -> bytes:
    """As producers spell it. Lone surrogates become escapes, NaN and the infinities what Python's json makes of them."""
    return json.dumps(record).encode()


def raw_data(name: str, value: bytes) -> bytes:
    """A template job whose data hold something that no JSON writer would spell."""
    return spell(template_job(name, data={"words": "some words", "n": "@"})).replace(b'"@"', value)


def _changed(record: Json, changes: Json) -> Json:
    return {key: value for key, value in {**record, **changes}.items() if value is not ...}
