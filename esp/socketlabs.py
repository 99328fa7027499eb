"""SocketLabs' Injection API: one class, both directions.

About ten whole mails a request, each under our attempt id as its MessageId, which comes back in every event. (A merge would hold
more, but nobody documents whether its rows can have ids of their own.) Nearly every answer is a 200 whose ErrorCode decides.
It must never take a mail for accepted where the list of failures cannot be read whole, nor read a no out of a server error.
Facts: socketlabs-injectionapi 1.4.4, socketlabs-csharp and -go, brizental/socketlabs-rs response.rs, SocketLabs.EventWebhooks
.Extensions (2024-11), help.socketlabs.com (all read 2026-11).
"""

import hmac
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from esp import base, events
from esp.health import GOOD, STRANGER, Health, of_failure
from esp.mime import header_value
from esp.socketlabs_events import PROVIDER, folded, read_event
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event
from mail.ids import wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=10,  # of the 2013 guide; nothing newer names a number
    recipients_per_request=10 * 50,
    recipients_per_message=50,  # the SDKs refuse more
    request_bytes=40_000_000,
    message_bytes=20_000_000,  # SMTP takes 40 MB; escaping may double a text
    idle_s=20.0,
)
_PATH = "/api/v1/email"
_METADATA_PAIRS, _PAIR_CHARACTERS, _TAGS, _LABEL_BYTES = 10, 99, 25, 12_500
# 61 characters of this form go into a header; the keys of before 2023 into the body (socketlabs-injectionapi apikeyparser.py).
_BEARER_KEY = re.compile(r"[^.]{20}\.[^.]{40}")
_WRITTEN_BY_THEM = frozenset(
    {"to", "from", "cc", "bcc", "reply-to", "subject", "mime-version", "content-type", "content-transfer-encoding"}
)
_Json = dict[str, Any]
_Judgement = tuple[Verdict, Blame]

_MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
_REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
_NO_RECIPIENT = (Verdict.REJECTED, Blame.RECIPIENT)
_TOO_MANY = (Verdict.UNSUPPORTED, Blame.MESSAGE)

# A top-level code other than Success and Warning means that nothing was injected.
_REQUEST_CODES: dict[str, _Judgement] = {
    "AccountDisabled": _MISCONFIGURED,
    "InvalidAuthentication": _MISCONFIGURED,
    "TooManyErrors": _MISCONFIGURED,  # locked out after too many failed log-ins
    "InternalError": (Verdict.UNAVAILABLE, Blame.ESP),
    "OverQuota": (Verdict.THROTTLED, Blame.ESP),
    "TooManyMessages": _TOO_MANY,
    "TooManyRecipients": _TOO_MANY,
    "NoValidRecipients": _NO_RECIPIENT,
    **dict.fromkeys(("InvalidData", "NoMessages", "EmptyMessage"), _REJECTED),
}
_MESSAGE_CODES: dict[str, _Judgement] = {
    "EmptyToAddress": _NO_RECIPIENT,
    "NoValidRecipients": _NO_RECIPIENT,
    "InvalidFromAddress": _MISCONFIGURED,  # a sound address that this account may not send from
    "InvalidFrom": _MISCONFIGURED,
    "MessageTooLarge": base.TOO_LARGE,
    **dict.fromkeys(("InvalidAttachment", "EmptySubject", "NoValidBodyParts"), _REJECTED),
    **dict.fromkeys(("InvalidTemplateId", "TemplateHasNoContent", "MessageBodyConflict", "InvalidMergeData"), _REJECTED),
}
# Where the body has no code that we know. A 408 is not among them: the mails may be in.
_STATUSES: dict[int, _Judgement] = {
    413: base.TOO_LARGE,
    429: (Verdict.THROTTLED, Blame.ESP),
    **dict.fromkeys((401, 403, 404, 405, 406, 415), _MISCONFIGURED),
}
_BAD_LOGIN = "set the number of the server, and an injection API key of the same server"
# What the answer to an injection of nothing says of the account.
_CONDITIONS = {
    **dict.fromkeys(("NoMessages", "EmptyMessage"), GOOD),
    "InvalidAuthentication": Health(False, f"refuses the credentials: {_BAD_LOGIN}"),
    "AccountDisabled": Health(False, "the server or the account is disabled: ask SocketLabs' support"),
    "TooManyErrors": Health(False, f"locks us out after too many failed log-ins: {_BAD_LOGIN}, and wait before the next try"),
    "OverQuota": Health(None, "answers, but the account is over its quota: what is over it waits or goes elsewhere"),
    "InternalError": Health(False, "is in trouble itself (InternalError): see its status page, and check again later"),
}


class Esp:
    """Credentials: `server_id`, `api_key`; optionally `webhook_secret`, the SecretKey of the event webhook."""

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time):
        key = account.credentials["api_key"]
        is_bearer = _BEARER_KEY.fullmatch(key) is not None
        self._url = account.base_url.rstrip("/") + _PATH
        self._headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}
        if is_bearer:
            self._headers["Authorization"] = f"Bearer {key}"
        self._login = {"serverId": account.credentials["server_id"], "apiKey": "" if is_bearer else key}
        self._webhook_secret = account.credentials.get("webhook_secret", "")
        self._now = now

    def unsupported(self, message: Message) -> str | None:
        if not message.subject:
            return "SocketLabs needs a subject"
        if forbidden := _WRITTEN_BY_THEM.intersection(name.lower() for name, _ in message.headers):
            return f"SocketLabs writes the header {min(forbidden)} itself"
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"SocketLabs takes {LIMITS.recipients_per_message} recipients a message"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"SocketLabs takes {LIMITS.message_bytes} bytes a message"
        return None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Each mail is whole in itself, so any may be neighbours. Of its tags and metadata travels what SocketLabs takes."""
        cuts = base.bodies(messages, LIMITS, base.content_bytes, self._encode)
        return [Request("POST", self._url, self._headers, body, cut) for cut, body in cuts]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        if not request.messages:
            return []
        answer = _read(reply.body)
        code = events.text(answer.get("errorcode"))
        if reply.status == 200 and code in ("Success", "Warning"):
            return _taken(request, reply, answer, is_whole=code == "Success")
        judgement = _judge(reply.status, code)
        return self._refused(request, reply, answer, judgement) if judgement else base.unknown(request, reply)

    def health(self) -> Request:
        """There is no ping: an injection of nothing answers NoMessages with 200, and a bad key 401."""
        return Request("POST", self._url, self._headers, self._encode(()))

    def read_health(self, reply: Reply | NoReply) -> Health:
        """The code tells, under whatever status."""
        code = events.text(_read(reply.body).get("errorcode")) if isinstance(reply, Reply) else ""
        return _CONDITIONS.get(code) or of_failure(reply, _BAD_LOGIN) or STRANGER

    def verify(self, callback: Callback) -> None:
        """Each event brings the secret in its body; there is no signature."""
        if not self._webhook_secret:
            return
        told = list(events.items(callback.document, PROVIDER))
        if not told:
            raise BadCallback("the body holds no event that could bring the SecretKey")
        for fields in told:
            given = events.text(folded(fields).get("secretkey"))
            if not hmac.compare_digest(given.encode(), self._webhook_secret.encode()):
                raise BadCallback("the callback's SecretKey is missing or wrong")

    def parse_events(self, document: Any) -> list[Event]:
        return [event for fields in events.items(document, PROVIDER) if (event := read_event(fields))]

    def _encode(self, messages: Sequence[Message]) -> bytes:
        return orjson.dumps({**self._login, "messages": [_fields(message) for message in messages]})

    def _refused(self, request: Request, reply: Reply, answer: _Json, judgement: _Judgement) -> list[Outcome]:
        """Nothing was taken. Whom the answer names is to blame; where it names nobody, halves will tell."""
        verdict, blame = judgement
        words = f"HTTP {reply.status} {events.text(answer.get('errorcode')) or base.text_of(reply.body)}"
        if verdict not in (Verdict.REJECTED, Verdict.UNSUPPORTED):
            wait_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
            return base.outcomes(request, verdict, blame, words, retry_after_s=wait_s if verdict is Verdict.THROTTLED else None)
        if len(request.messages) == 1:
            return base.outcomes(request, verdict, _certain(blame, request.messages[0]), words)
        named, _ = _failures(request, answer)
        neighbours = base.outcomes(request, Verdict.SPLIT, Blame.NEIGHBOUR, words)
        return [
            named[index] if index in named and named[index].verdict in (Verdict.REJECTED, Verdict.UNSUPPORTED) else neighbour
            for index, neighbour in enumerate(neighbours)
        ]


def _judge(status: int, code: str) -> _Judgement | None:
    """What the refusal of a whole request means; None where it is none, or nothing can be read in it."""
    is_refusal = 400 <= status < 500 and status != 408
    if status != 200 and not is_refusal:
        return None
    undocumented = _REJECTED if is_refusal and code else None
    return _REQUEST_CODES.get(code) or _MESSAGE_CODES.get(code) or _STATUSES.get(status) or undocumented


def _fields(message: Message) -> _Json:
    fields: _Json = {
        "messageId": wire_id(message.attempt_id),
        "from": _address(message.sender),
        "to": [_address(a) for a in message.to],
        "subject": message.subject,
        "charSet": "UTF-8",
    }
    parts = {"htmlBody": message.html, "textBody": message.text}
    copies = {"cc": [_address(a) for a in message.cc], "bcc": [_address(a) for a in message.bcc]}
    fields.update({name: value for name, value in {**parts, **copies}.items() if value})
    if message.reply_to:
        fields["replyTo"] = _address(message.reply_to)
    if message.headers:
        fields["customHeaders"] = [{"name": name, "value": header_value(value)} for name, value in message.headers]
    if message.attachments:
        fields["attachments"] = [_attachment(a) for a in message.attachments]
    if message.tags or message.metadata:
        fields.update(_labels(message))
    return fields


def _address(address: Address) -> _Json:
    named = {"friendlyName": address.name} if address.name else {}
    return {"emailAddress": address.email, **named}


def _attachment(attachment: Attachment) -> _Json:
    fields = {"name": attachment.name, "content": attachment.content, "contentType": attachment.content_type}
    if attachment.content_id:
        fields["contentId"] = attachment.content_id
    return fields


def _labels(message: Message) -> _Json:
    """Metadata and tags as far as SocketLabs takes them; the attempt id is the MessageId, so nobody's metadata may claim it."""
    pairs = [{"key": k, "value": v} for k, v in message.metadata if k and k != "attempt_id" and len(k) + len(v) <= _PAIR_CHARACTERS]
    labels: _Json = {"metadata": pairs[:_METADATA_PAIRS], "tags": []}
    left_bytes = _LABEL_BYTES - len(orjson.dumps(labels))
    for tag in list(dict.fromkeys(filter(None, message.tags)))[:_TAGS]:
        left_bytes -= len(orjson.dumps(tag)) + 1
        if left_bytes >= 0:
            labels["tags"].append(tag)
    return {name: some for name, some in labels.items() if some}


def _taken(request: Request, reply: Reply, answer: _Json, is_whole: bool) -> list[Outcome]:
    """Only failures are listed: who is not among them was accepted, if the list could be read."""
    if is_whole and not answer.get("messageresults"):
        return [_accepted(message) for message in request.messages]
    named, is_readable = _failures(request, answer)
    if not named:
        return base.unknown(request, reply)
    doubts = base.outcomes(request, Verdict.UNKNOWN, Blame.ESP, "the list of failures cannot be read")
    others = [_accepted(message) for message in request.messages] if is_readable else doubts
    return [named.get(index, other) for index, other in enumerate(others)]


def _failures(request: Request, answer: _Json) -> tuple[dict[int, Outcome], bool]:
    """What is said of single mails, by place, and whether all of it could be read."""
    listed = answer.get("messageresults")
    named: dict[int, Outcome] = {}
    is_readable = isinstance(listed, list)
    for item in listed if isinstance(listed, list) else ():
        fields = folded(item) if isinstance(item, dict) else {}
        index = fields.get("index")
        if type(index) is int and 0 <= index < len(request.messages) and index not in named:
            named[index] = _outcome(request.messages[index], fields)
        else:
            is_readable = False
    return named, is_readable


def _outcome(message: Message, fields: _Json) -> Outcome:
    """The verdict on a mail that failed in whole or in part."""
    code = events.text(fields.get("errorcode"))
    if code in _MESSAGE_CODES:
        verdict, blame = _MESSAGE_CODES[code]
        return Outcome(message.attempt_id, verdict, _certain(blame, message), detail=base.cut_detail(code))
    refused = _refused_addresses(fields)
    words = base.cut_detail(f"{code} {' '.join(sorted(set(refused.values())))}") or "no reason given"
    ours = {a.email.lower() for a in (*message.to, *message.cc, *message.bcc)}
    is_clear = code == "Warning" and bool(refused) and (len(ours) == 1 or refused.keys() <= ours)
    if not is_clear:
        return Outcome(message.attempt_id, Verdict.UNKNOWN, Blame.ESP, detail=words)
    if len(ours) == 1 or message.to[0].email.lower() in refused:  # a copy that went out all the same does not reach the recipient
        return Outcome(message.attempt_id, Verdict.REJECTED, Blame.RECIPIENT, detail=words)
    return _accepted(message, words)


def _refused_addresses(fields: _Json) -> dict[str, str]:
    """The code of each address that was not taken."""
    listed = fields.get("addressresults") or fields.get("addressresult")
    results = [folded(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    refused = [result for result in results if result.get("accepted") is False]
    return {events.text(result.get("emailaddress")).lower(): events.text(result.get("errorcode")) for result in refused}


def _accepted(message: Message, words: str = "") -> Outcome:
    return Outcome(message.attempt_id, Verdict.ACCEPTED, None, wire_id(message.attempt_id), words)


def _certain(blame: Blame, message: Message) -> Blame:
    """A blamed recipient is suppressed, so it must be the only one whom the words can mean."""
    return Blame.MESSAGE if blame is Blame.RECIPIENT and base.recipients_of(message) > 1 else blame


def _read(body: bytes) -> _Json:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return folded(answer) if isinstance(answer, dict) else {}
