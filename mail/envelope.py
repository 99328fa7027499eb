"""From a record of a webhook topic to one callback: `{"headers": {"Name": ["value"]}, "body": ..., "tenant": 42}`, or a bare body.

Anybody on the internet may have chosen what is in here. Must never raise anything but BadCallback, whatever the bytes are, and
never put a value of the record into an error.
"""

from typing import Any

from mail.callback import Callback
from mail.document import parse_json
from mail.errors import BadCallback, InvalidJob

MAX_CALLBACK_BYTES = 4 * 1024 * 1024  # SendGrid posts 768 KB at a time, escaped in an envelope twice that
MAX_EVENTS = 20_000
MAX_HEADERS = 200
MAX_HEADERS_CHARACTERS = 64 * 1024
_MAX_TENANT = 2**63 - 1
_ENVELOPE = frozenset({"headers", "body", "tenant"})


def read_envelope(value: bytes, received_at_s: float | None = None, max_bytes: int = MAX_CALLBACK_BYTES) -> Callback:
    """The callback in a Kafka value. `received_at_s` is the record's own time, in Unix seconds.

    Where `body` is a text, it is what the ESP posted, byte for byte, and parsed here; else the ingress parsed it, and there are
    no raw bytes. NUL, which the database cannot hold, becomes U+FFFD in the parsed body, never in the raw one.
    """
    if len(value) > max_bytes:
        raise BadCallback(f"the callback has {len(value)} bytes, at most {max_bytes} are taken")
    content = _parse(value)
    if not _is_envelope(content):
        return Callback({}, None, _body(content, value), received_at_s)
    headers, tenant, body = _headers(content.get("headers")), _tenant(content.get("tenant")), content["body"]
    if not isinstance(body, str):
        return Callback(headers, None, _body(body, value), received_at_s, tenant)
    raw = body.encode()
    return Callback(headers, raw, _body(_parse(raw), raw), received_at_s, tenant)


def _parse(value: bytes) -> Any:
    try:
        return parse_json(value)
    except InvalidJob as problem:
        raise BadCallback(problem.error) from None


def _is_envelope(content: Any) -> bool:
    """A bare event may have a field `body` too (a custom argument), but not beside `headers`."""
    return isinstance(content, dict) and "body" in content and ("headers" in content or content.keys() <= _ENVELOPE)


def _headers(given: Any) -> dict[str, str]:
    """Names in lower case; several values of one name are joined as HTTP joins them, so that none can hide behind another."""
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > MAX_HEADERS:
        raise BadCallback(f"headers: must be an object with at most {MAX_HEADERS} names")
    headers: dict[str, str] = {}
    characters = 0
    for name, values in given.items():
        text = values[0] if type(values) is list and len(values) == 1 else _joined(values)
        if type(text) is not str:
            raise BadCallback("headers: each name has a text or an array of texts")
        name = name.lower()
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
        characters += len(name) + len(text)
    if characters > MAX_HEADERS_CHARACTERS:
        raise BadCallback(f"headers: have more than {MAX_HEADERS_CHARACTERS} characters")
    return headers


def _joined(values: Any) -> Any:
    """Several values of a name as one text; what is no text, or holds something else, is left as it is."""
    is_texts = isinstance(values, list) and all(isinstance(text, str) for text in values)
    return ", ".join(values) if is_texts else values


def _tenant(given: Any) -> int:
    if given is None:
        return 0
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= _MAX_TENANT:
        raise BadCallback("tenant: must be a whole number from 0 on")
    return given


def _body(document: Any, source: bytes) -> Any:
    """The parsed body, cleaned of NUL; `source` are the bytes that it came from."""
    if not isinstance(document, dict | list):
        raise BadCallback("body: must be an object or an array")
    if isinstance(document, list) and len(document) > MAX_EVENTS:
        raise BadCallback(f"body: has more than {MAX_EVENTS} events")
    return _without_nul(document) if b"u0000" in source else document


def _without_nul(node: Any) -> Any:
    if isinstance(node, str):
        return node.replace("\0", "\ufffd")
    if isinstance(node, list):
        return [_without_nul(child) for child in node]
    if isinstance(node, dict):
        return {_without_nul(name): _without_nul(child) for name, child in node.items()}
    return node
