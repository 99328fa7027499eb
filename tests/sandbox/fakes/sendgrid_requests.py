"""Requests to the fake SendGrid, sound unless told otherwise, and what its answers say."""

from typing import Any

import orjson

from sandbox.fakes.contract import Answer, Call
from sandbox.fakes.sendgrid import Fake

NOW = 1_800_000_000.0
HEADERS = {"Authorization": "Bearer SG.key", "Content-Type": "application/json", "Accept": "application/json"}
ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"


def one(address: str = "a@x.test", **more: Any) -> dict[str, Any]:
    return {"to": [{"email": address}], **more}


def message(*ones: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = [{"type": "text/plain", "value": "Hi"}, {"type": "text/html", "value": "<p>Hi</p>"}]
    return {"personalizations": list(ones) or [one()], "from": {"email": "me@brand.test"}, "subject": "Hi", "content": content, **more}


def call(body: Any, headers: dict[str, str] | None = None, **more: Any) -> Call:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Call("POST", "/v3/mail/send", HEADERS if headers is None else headers, raw, **more)


def send(body: Any, **more: Any) -> Answer:
    return Fake(clock=lambda: NOW).answer(call(body, **more))


def errors_of(answer: Answer) -> list[dict[str, str | None]]:
    errors: list[dict[str, str | None]] = orjson.loads(answer.body)["errors"]
    return errors


def assert_refused(body: Any, field: str | None, part: str, status: int = 400) -> None:
    answer = send(body)
    assert answer.status == status
    assert answer.accepted == ()
    first = errors_of(answer)[0]
    assert first["field"] == field
    assert part in str(first["message"])


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in HEADERS.items() if key != name}
