"""SendGrid v3 as its sender meets it: POST /v3/mail/send and GET /v3/scopes.

All or nothing: one bad personalization refuses the whole request with 400, and a 202 says only that it was queued.
Rules and texts: SendGrid's OpenAPI file, its "errors" and "limitations" pages of mail send, and error bodies in public
issues (read 2026-11); the rules of each field are in sendgrid_rules.py. Nothing here knows the product's adapter.
"""

import base64
import re
import secrets
import time
from collections.abc import Callable
from email.utils import getaddresses
from typing import Any

import orjson

from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail
from sandbox.fakes.sendgrid_parts import Errors
from sandbox.fakes.sendgrid_rules import check_message, substituted

_JSON = {"Content-Type": "application/json"}
_LIMIT_PER_S = 10_000
_PLAIN_NAME = re.compile(r"[^][()<>@,;:.\"\\]*").fullmatch
_TEXTS = {
    401: "The provided authorization grant is invalid, expired, or revoked",
    403: "access forbidden",
    404: "not found",
    405: "method not allowed",
    406: "not acceptable",
    413: "The JSON payload you have included in your request is too large.",
    415: "Content-Type should be application/json.",
    429: "too many requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Fake:
    """SendGrid. The X-Message-Id is one per request; the ledger notes it with each of the request's mails."""

    name = "sendgrid"
    max_body_bytes = 30 * 1024 * 1024

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock

    def answer(self, call: Call) -> Answer:
        refusal = self._refuse_credentials(call)
        if refusal:
            return refusal
        if call.path == "/v3/scopes":
            return self._scopes(call)
        if call.path != "/v3/mail/send":
            return self.refuse(404)
        if call.method != "POST":
            return self.refuse(405)
        return self._refuse_headers(call) or self._send(call)

    def refuse(self, status: int) -> Answer:
        answer = self._error(status, _TEXTS.get(status, "error"))
        return Answer(429, answer.body, {**_JSON, **self._limits(0)}) if status == 429 else answer

    def mail(self, body: bytes, item: int) -> Mail:
        message = orjson.loads(body)
        one = message["personalizations"][item]
        parts = _parts(message, one)
        subject = parts.pop("subject")
        headers = [*_address_headers(message, one), ("Subject", subject), *{**message.get("headers", {}), **one.get("headers", {})}.items()]
        return Mail(
            subject,
            parts.get("text/html", ""),
            parts.get("text/plain", ""),
            headers,
            {**message.get("custom_args", {}), **one.get("custom_args", {})},
            [_attachment(part) for part in message.get("attachments", ())],
        )

    def _refuse_credentials(self, call: Call) -> Answer | None:
        scheme, _, key = call.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return self._error(401, "authorization required")
        if scheme != "Bearer" or not key or (call.traits.key and key != call.traits.key):
            return self.refuse(401)
        return None

    def _scopes(self, call: Call) -> Answer:
        if call.method != "GET":
            return self.refuse(405)
        scopes = ["mail.send", "mail.batch.create"] if call.traits.has_send_scope else ["stats.read"]
        return Answer(200, orjson.dumps({"scopes": scopes}), _JSON)

    def _refuse_headers(self, call: Call) -> Answer | None:
        if not call.traits.has_send_scope:
            return self.refuse(403)
        if not call.traits.has_credits:
            return self._error(401, "Maximum credits exceeded")
        if not call.headers.get("Accept"):
            return self.refuse(406)
        if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return self.refuse(415)
        if call.headers.get("Content-Encoding", "identity") != "identity":
            return self._error(415, "Content-Encoding gzip is not enabled for this account.")
        return None

    def _send(self, call: Call) -> Answer:
        try:
            message = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            return self._error(400, "Bad Request") if _is_utf8(call.body) else self._error(415, "Invalid UTF8 in request")
        errors = Errors()
        check_message(message, call, errors, self._clock())
        if errors.sender_refused:
            return self._errors(403, errors.found)
        if errors.found:
            return self._errors(400, errors.found)
        if message.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return Answer(200)
        message_id = secrets.token_urlsafe(16)
        headers = {"X-Message-Id": message_id, **self._limits(_LIMIT_PER_S - 1)}
        return Answer(202, headers=headers, accepted=_accepted(message, message_id))

    def _limits(self, remaining: int) -> dict[str, str]:
        reset = str(int(self._clock()) + 1)
        return {"X-RateLimit-Limit": str(_LIMIT_PER_S), "X-RateLimit-Remaining": str(remaining), "X-RateLimit-Reset": reset}

    def _error(self, status: int, text: str) -> Answer:
        return self._errors(status, [{"message": text, "field": None, "help": None}])

    def _errors(self, status: int, found: list[dict[str, str | None]]) -> Answer:
        return Answer(status, orjson.dumps({"errors": found}), _JSON)


def _accepted(message: dict[str, Any], message_id: str) -> list[Accepted]:
    shared_id = message.get("custom_args", {}).get("attempt_id")
    return [
        Accepted(
            one.get("custom_args", {}).get("attempt_id", shared_id),
            message_id,
            _addressed(one["to"][0]),
            _subject(message, one),
            item,
        )
        for item, one in enumerate(message["personalizations"])
    ]


def _subject(message: dict[str, Any], one: dict[str, Any]) -> str:
    """A dynamic template is played by the plainest there is: its subject and bodies are data of the same names, unescaped."""
    if message.get("template_id"):
        return str(one.get("dynamic_template_data", {}).get("subject", message.get("subject", "")))
    return substituted(one.get("subject") or message["subject"], one, message)


def _parts(message: dict[str, Any], one: dict[str, Any]) -> dict[str, str]:
    parts = {"subject": _subject(message, one)}
    if message.get("template_id"):
        data = one.get("dynamic_template_data", {})
        return parts | {"text/html": str(data.get("html", "")), "text/plain": str(data.get("text", ""))}
    return parts | {part["type"]: substituted(part["value"], one, message) for part in message["content"]}


def _address_headers(message: dict[str, Any], one: dict[str, Any]) -> list[tuple[str, str]]:
    replies = message.get("reply_to_list") or ([message["reply_to"]] if message.get("reply_to") else [])
    rows = [
        ("From", [one.get("from") or message["from"]]),
        ("To", one["to"]),
        ("Cc", one.get("cc", [])),
        ("Bcc", one.get("bcc", [])),
        ("Reply-To", replies),
    ]
    return [(name, substituted(", ".join(map(_spelled, who)), one, message)) for name, who in rows if who]


def _spelled(address: dict[str, str]) -> str:
    return f"{address['name']} <{address['email']}>" if address.get("name") else address["email"]


def _addressed(address: dict[str, str]) -> str:
    """To whom it goes: a recipient's name is put before the address as it is, so that what is not quoted is read as addresses
    (sendgrid/sendgrid-python issue 291, sendgrid/sendgrid-ruby issues 77, 120, 394; such mail is taken, and dropped as "Invalid").
    """
    return address["email"] if _PLAIN_NAME(address.get("name", "")) else getaddresses([_spelled(address)])[0][1]


def _attachment(part: dict[str, str]) -> Attachment:
    return Attachment(part["filename"], part.get("type", "application/octet-stream"), len(base64.b64decode(part["content"])))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
