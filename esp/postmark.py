"""Postmark: one class, both directions. Rendered mails go as batches, and each has an answer of its own.

It must never read an answer by position where the count is wrong, nor take silence about a mail for a no.
Facts: postmarkapp.com support articles 1056, 1125, 1180 and api-evangelist/postmark (2026-08), ActiveCampaign/postmark-skills
(2026-02), django-anymail (2026-07).
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from esp import base
from mail.account import Account
from mail.ids import wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=500,
    recipients_per_request=500 * 50,
    recipients_per_message=50,
    request_bytes=50_000_000,
    message_bytes=10_000_000,
    idle_s=20.0,
)
_PART_BYTES = 5_000_000
_TAG_CHARACTERS = 1000
_METADATA_FIELDS, _METADATA_NAME_CHARACTERS, _METADATA_VALUE_CHARACTERS = 10, 20, 80
_Json = dict[str, Any]
_Judgement = tuple[Verdict, Blame]

_MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
_REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
_THROTTLED = (Verdict.THROTTLED, Blame.ESP)
_UNAVAILABLE = (Verdict.UNAVAILABLE, Blame.ESP)

_MAINTENANCE = 100

# What an ErrorCode says about the mail; each means that it was not taken. 406 (inactive recipient) is judged by its words, as is 300.
_JUDGEMENTS: dict[int, _Judgement] = {
    10: _MISCONFIGURED,  # token
    _MAINTENANCE: _UNAVAILABLE,
    300: _REJECTED,
    400: _MISCONFIGURED,  # no such sender signature
    401: _MISCONFIGURED,  # sender signature not confirmed
    405: _THROTTLED,  # out of credits
    409: _MISCONFIGURED,  # headers
    411: (Verdict.UNSUPPORTED, Blame.MESSAGE),  # an attachment of this type; others may take it
    412: _MISCONFIGURED,  # account pending
    413: _MISCONFIGURED,  # account may not send
    429: _THROTTLED,
    1100: _UNAVAILABLE,
    1101: _MISCONFIGURED,
    **dict.fromkeys((11, 12, 13, 402, 403, 410, 1105, 1109, *range(1120, 1126), 1130, 1131), _REJECTED),
    **dict.fromkeys((*range(500, 523), *range(600, 612), *range(1221, 1237)), _MISCONFIGURED),
}
# Where the body says nothing: HTTP statuses that are documented as refusals of the whole request.
_STATUSES: dict[int, _Judgement] = {401: _MISCONFIGURED, 404: _MISCONFIGURED, 413: _REJECTED, 415: _MISCONFIGURED, 429: _THROTTLED}
_BAD_TO = re.compile(r"invalid 'to' address|error parsing 'to'", re.IGNORECASE)


class Esp:
    """Credentials: `server_token`."""

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time):
        self._origin = account.base_url.rstrip("/")
        self._headers = {"X-Postmark-Server-Token": account.credentials["server_token"], "Accept": "application/json"}
        self._now = now

    def unsupported(self, message: Message) -> str | None:
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"Postmark takes {LIMITS.recipients_per_message} recipients a message"
        if max(base.size_bytes(message.html), base.size_bytes(message.text)) > _PART_BYTES:
            return f"Postmark takes {_PART_BYTES} bytes of text or HTML"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"Postmark takes {LIMITS.message_bytes} bytes a message"
        return None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Batches in the order given. Labels never stop a mail: of its tags and metadata travels what Postmark takes."""
        return [self._request(*cut) for cut in base.bodies(messages, LIMITS, base.content_bytes, _encode)]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        if not request.messages:
            return []
        answer = _read(reply.body)
        if reply.status != 200:
            return self._refused(request, reply, answer if isinstance(answer, dict) else {})
        if not isinstance(answer, list) or len(answer) != len(request.messages):
            return base.unknown(request, reply)
        return [_outcome(message, item) for message, item in zip(request.messages, answer, strict=True)]

    def health(self) -> Request:
        return Request("GET", f"{self._origin}/server", self._headers, b"")

    def _request(self, messages: tuple[Message, ...], body: bytes) -> Request:
        headers = {**self._headers, "Content-Type": "application/json"}
        return Request("POST", f"{self._origin}/email/batch", headers, body, messages)

    def _refused(self, request: Request, reply: Reply, answer: _Json) -> list[Outcome]:
        """The whole request was refused with one answer for all."""
        code, words = _code(answer), _words(answer)
        judgement = _judge(code, words, request.messages[0]) or _STATUSES.get(reply.status)
        # of the server errors only maintenance is documented to mean "not taken"
        is_no = 400 <= reply.status < 500 or (reply.status == 503 and code == _MAINTENANCE)
        if judgement is None or not is_no:
            return base.unknown(request, reply)
        verdict, blame = judgement
        if verdict in (Verdict.REJECTED, Verdict.UNSUPPORTED) and len(request.messages) > 1:
            verdict, blame = Verdict.SPLIT, Blame.NEIGHBOUR
        return base.outcomes(
            request, verdict, blame, f"HTTP {reply.status} {code} {words}", retry_after_s=self._wait_s(reply, code, verdict)
        )

    def _wait_s(self, reply: Reply, code: int, verdict: Verdict) -> float | None:
        if verdict is not Verdict.THROTTLED:
            return None
        asked_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
        return _wait_of(code) if asked_s is None else asked_s


def _encode(messages: Sequence[Message]) -> bytes:
    return orjson.dumps([_fields(message) for message in messages])


def _fields(message: Message) -> _Json:
    fields: _Json = {
        "From": _address(message.sender),
        "To": _addresses(message.to),
        "Subject": message.subject,
        "Metadata": _metadata(message) if message.metadata else {"attempt_id": wire_id(message.attempt_id)},
    }
    if message.html:
        fields["HtmlBody"] = message.html
    if message.text:
        fields["TextBody"] = message.text
    if message.cc or message.bcc or message.reply_to:
        copies = {"Cc": message.cc, "Bcc": message.bcc, "ReplyTo": (message.reply_to,) if message.reply_to else ()}
        fields.update({name: _addresses(addresses) for name, addresses in copies.items() if addresses})
    if message.tags and (tags := [tag for tag in message.tags if 0 < len(tag) <= _TAG_CHARACTERS]):
        fields["Tag"] = tags[0]
    if message.headers:
        fields["Headers"] = [{"Name": name, "Value": value} for name, value in message.headers]
    if message.attachments:
        fields["Attachments"] = [_attachment(a) for a in message.attachments]
    return fields


def _attachment(attachment: Attachment) -> _Json:
    fields = {"Name": attachment.name, "Content": attachment.content, "ContentType": attachment.content_type}
    if attachment.content_id:
        fields["ContentID"] = f"cid:{attachment.content_id}"
    return fields


def _addresses(addresses: Sequence[Address]) -> str:
    return _address(addresses[0]) if len(addresses) == 1 else ", ".join([_address(a) for a in addresses])


def _address(address: Address) -> str:
    if not address.name:
        return address.email
    quoted = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address.email}>'


def _metadata(message: Message) -> dict[str, str]:
    """Ours first, then of the caller's as many as Postmark takes; it refuses names that differ only in case."""
    fields = {"attempt_id": wire_id(message.attempt_id)}
    taken = {"attempt_id"}
    for name, value in message.metadata:
        is_fit = 0 < len(name) <= _METADATA_NAME_CHARACTERS and len(value) <= _METADATA_VALUE_CHARACTERS
        if is_fit and name.lower() not in taken and len(fields) < _METADATA_FIELDS:
            fields[name] = value
            taken.add(name.lower())
    return fields


def _outcome(message: Message, item: object) -> Outcome:
    """The verdict on one mail of a batch, from its own answer."""
    if not isinstance(item, dict):
        return Outcome(message.attempt_id, Verdict.UNKNOWN, Blame.ESP, detail="no answer for this mail")
    code, words, message_id = _code(item), _words(item), str(item.get("MessageID") or "")[:255]
    if code == 0 and (message_id or words.lower().startswith("message accepted")):
        # "Message OK, but will not deliver to these inactive addresses: …" is a yes for the others; it stays in the detail
        return Outcome(message.attempt_id, Verdict.ACCEPTED, None, message_id, "" if words == "OK" else base.cut_detail(words))
    verdict, blame = _judge(code, words, message) or (Verdict.UNKNOWN, Blame.ESP)
    wait_s = _wait_of(code) if verdict is Verdict.THROTTLED else None
    return Outcome(message.attempt_id, verdict, blame, detail=base.cut_detail(f"{code} {words}"), retry_after_s=wait_s)


def _judge(code: int, words: str, message: Message) -> _Judgement | None:
    """A blamed recipient is suppressed, so it must be the one that the words mean, not a Cc."""
    is_address = code == 406 or (code == 300 and _BAD_TO.search(words))
    if is_address:
        return Verdict.REJECTED, Blame.RECIPIENT if base.is_about_recipient(message, words) else Blame.MESSAGE
    return _JUDGEMENTS.get(code)


def _wait_of(code: int) -> float | None:
    return base.LONGEST_WAIT_S if code == 405 else None


def _read(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _code(item: _Json) -> int:
    """The ErrorCode; 0 where it is missing, as during incidents (django-anymail issue 392), -1 where it is no number."""
    code = item.get("ErrorCode", 0)
    return code if isinstance(code, int) and not isinstance(code, bool) else -1


def _words(item: _Json) -> str:
    return str(item.get("Message") or "")
