"""Postmark as its sender meets it: POST /email, POST /email/batch, GET /server, and GET /messages/outbound to look up what it took.
The two endpoints of templates answer as those of a server without any; bulk sending and the administration are not played (404).

A batch is judged item by item: HTTP 200 with one result each, in order; only what concerns the whole request is an error status.
Rules and texts: Postmark's API pages and support articles, its SDKs' own patterns, and error bodies in public issues
(read 2026-11); the rules of a message are in postmark_rules.py. Nothing here knows the product's adapter.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import getaddresses
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail, is_listed
from sandbox.fakes.postmark_rules import Refused, Sound, check_message, folded

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_TEST_TOKEN = "POSTMARK_API_TEST"
_MAX_BATCH = 500
_MAX_PAGE, _MAX_REACH = 500, 10_000
_SEARCHABLE = 50_000
_BATCH_LIMIT_BYTES = 50 * 1024 * 1024
_MESSAGE_LIMIT_BYTES = 10 * 1024 * 1024
_INACTIVE_ONES = "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
_SERVER = {
    "ID": 1,
    "Name": "Sandbox",
    "ApiTokens": [],
    "Color": "blue",
    "SmtpApiActivated": True,
    "RawEmailEnabled": False,
    "DeliveryType": "Live",
    "ServerLink": "https://postmarkapp.com/servers/1/streams",
    "InboundAddress": "sandbox@inbound.postmarkapp.com",
    "InboundHash": "sandbox",
    "InboundSpamThreshold": 0,
    "PostFirstOpenOnly": False,
    "TrackOpens": False,
    "TrackLinks": "None",
    "IncludeBounceContentInHook": False,
    "EnableSmtpApiErrorHooks": False,
}
_CODES = {
    413: (0, "The request is too large."),
    429: (429, "Rate limit exceeded."),
    500: (0, "Internal server error."),
    503: (100, "Maintenance mode. Please try again later."),
}


class _Taken(NamedTuple):
    """A mail as the search knows it."""

    message_id: str
    recipients: tuple[str, ...]
    at: str
    message: dict[str, Any]


class Fake:
    """Postmark. Each item that is taken has a MessageID (a UUID) of its own; the newest 50,000 can be searched for."""

    name = "postmark"
    max_body_bytes = _BATCH_LIMIT_BYTES

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._taken: deque[_Taken] = deque(maxlen=_SEARCHABLE)

    def answer(self, call: Call) -> Answer:
        refusal = self._refuse_token(call)
        if refusal:
            return refusal
        routes = {
            "/email": ("POST", self._send_one),
            "/email/batch": ("POST", self._send_batch),
            "/email/withTemplate": ("POST", self._send_one_by_template),
            "/email/batchWithTemplates": ("POST", self._send_batch_by_templates),
            "/server": ("GET", self._describe),
            "/messages/outbound": ("GET", self._search),
        }
        path = call.path.partition("?")[0]
        if path not in routes:
            return Answer(404)
        method, handle = routes[path]
        if call.method != method:
            return Answer(405)
        return self._refuse_headers(call) or handle(call)

    def refuse(self, status: int) -> Answer:
        code, text = _CODES.get(status, (0, "Error."))
        return _error(status, code, text)

    def mail(self, body: bytes, item: int) -> Mail:
        loaded = orjson.loads(body)
        message = folded(loaded[item] if isinstance(loaded, list) else loaded)
        named = [(name, message[key]) for name, key in _HEADERS if message.get(key)]
        custom = [(header["Name"], header["Value"]) for header in message.get("Headers") or ()]
        return Mail(
            message.get("Subject") or "",
            message.get("HtmlBody") or "",
            message.get("TextBody") or "",
            [*named, *custom],
            message.get("Metadata") or {},
            [_attachment(part) for part in message.get("Attachments") or ()],
        )

    def _refuse_token(self, call: Call) -> Answer | None:
        token = call.headers.get("X-Postmark-Server-Token")
        if not token:
            text = "No Account or Server API tokens were supplied in the HTTP headers. Please add a header for either X-Postmark-Server-Token or X-Postmark-Account-Token."  # noqa: E501
            return _error(401, 10, text)
        if call.traits.key and token not in (call.traits.key, _TEST_TOKEN):
            return _error(401, 10, "Request does not contain a valid Server token.")
        return None

    def _refuse_headers(self, call: Call) -> Answer | None:
        if "application/json" not in call.headers.get("Accept", "").lower():
            return _error(415, 409, "The 'Accept' header of this request must be 'application/json'.")
        if call.method == "POST" and call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return _error(415, 409, "The 'Content-Type' header of this request must be 'application/json'.")
        if call.method == "POST" and not call.traits.has_credits:
            return _error(422, 405, "Not allowed to send: this account has run out of credits.")
        if call.method == "POST" and not call.traits.has_send_scope:
            return _error(422, 413, "You may not send email on this account.")
        return None

    def _describe(self, call: Call) -> Answer:
        return Answer(200, orjson.dumps(_SERVER), _JSON)

    def _search(self, call: Call) -> Answer:
        """Newest first; of the filters it knows recipient and metadata_<name>, and it passes over what it does not know."""
        query = dict(parse_qsl(call.path.partition("?")[2], keep_blank_values=True))
        count, offset = query.get("count", ""), query.get("offset", "")
        is_page = count.isdigit() and offset.isdigit() and 1 <= int(count) <= _MAX_PAGE and int(count) + int(offset) <= _MAX_REACH
        if not is_page:
            return _error(422, 403, "Parameters 'count' and 'offset' are required: at most 500, and together at most 10000.")
        found = [mail for mail in reversed(self._taken) if _is_asked_for(mail, query)]
        page = islice(found, int(offset), int(offset) + int(count))
        return Answer(200, orjson.dumps({"TotalCount": len(found), "Messages": [_listed(mail) for mail in page]}), _JSON)

    def _send_one(self, call: Call) -> Answer:
        message = _parse(call.body)
        if not isinstance(message, dict):
            return _INVALID_JSON
        if len(call.body) > _MESSAGE_LIMIT_BYTES:
            return self.refuse(413)
        accepted: list[Accepted] = []
        reply = self._take(message, 0, call, self._submitted_at(), accepted)
        return Answer(422 if reply["ErrorCode"] else 200, orjson.dumps(reply), _JSON, accepted)

    def _send_batch(self, call: Call) -> Answer:
        messages = _parse(call.body)
        if not isinstance(messages, list):
            return _INVALID_JSON
        if len(messages) > _MAX_BATCH:
            return _too_many(len(messages))
        accepted: list[Accepted] = []
        submitted_at = self._submitted_at()
        sizes_matter = len(call.body) > _MESSAGE_LIMIT_BYTES
        replies = []
        for item, message in enumerate(messages):
            if sizes_matter and len(orjson.dumps(message)) > _MESSAGE_LIMIT_BYTES:
                replies.append({"ErrorCode": 300, "Message": "The message is larger than 10 MB."})
            else:
                replies.append(self._take(message, item, call, submitted_at, accepted))
        return Answer(200, orjson.dumps(replies), _JSON, accepted)

    def _send_one_by_template(self, call: Call) -> Answer:
        message = _parse(call.body)
        if not isinstance(message, dict):
            return _INVALID_JSON
        return Answer(422, orjson.dumps(_refuse_template(message)), _JSON)

    def _send_batch_by_templates(self, call: Call) -> Answer:
        batch = _parse(call.body)
        messages = batch.get("Messages") if isinstance(batch, dict) else None
        if not isinstance(messages, list):
            return _INVALID_JSON
        if len(messages) > _MAX_BATCH:
            return _too_many(len(messages))
        return Answer(200, orjson.dumps([_refuse_template(message) for message in messages]), _JSON)

    def _take(self, message: Any, item: int, call: Call, submitted_at: str, accepted: list[Accepted]) -> dict[str, Any]:
        """The result of one message; where it is taken, it is added to `accepted` (unless the test token only asks)."""
        try:
            sound = check_message(message, call.traits.sender_domains)
            spoken = _refuse_recipients(sound, call, item)
        except Refused as refused:
            return {"ErrorCode": refused.code, "Message": refused.text}
        message_id = _new_message_id()
        to = message.get("To") or message.get("to")
        reply = {"To": to, "SubmittedAt": submitted_at, "MessageID": message_id, "ErrorCode": 0, "Message": spoken}
        if not to:
            reply.pop("To")
        if call.headers["X-Postmark-Server-Token"] == _TEST_TOKEN:
            return reply | {"Message": "Test job accepted"}
        self._taken.append(_Taken(message_id, tuple(sound.recipients), submitted_at, _kept(message)))
        accepted.append(Accepted(sound.metadata.get("attempt_id"), message_id, sound.recipients[0], sound.subject, item))
        return reply

    def _submitted_at(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def _refuse_recipients(sound: Sound, call: Call, item: int) -> str:
    """The "Message" of a success; raises Refused where nobody is left who may be written to."""
    traits = call.traits
    if call.is_spoiled(item):
        raise Refused(300, f"Error parsing 'To': Illegal email address '{sound.recipients[0]}'. It must contain the '@' symbol.")
    own = sound.sender.rpartition("@")[2].lower()
    if not traits.is_approved and any(address.rpartition("@")[2].lower() != own for address in sound.recipients):
        text = "While your account is pending approval, all recipient addresses must share the same domain as the 'From' address."
        raise Refused(412, text)
    if traits.bad_recipients and any(is_listed(address, traits.bad_recipients) for address in sound.recipients):
        raise Refused(300, f"Invalid 'To' address: '{sound.recipients[0]}'.")
    inactive = [address.lower() for address in sound.recipients if is_listed(address, traits.inactive)] if traits.inactive else []
    if not inactive:
        return "OK"
    listed = ", ".join(inactive)
    if len(inactive) == len(sound.recipients):
        text = f"You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: {listed}. {_INACTIVE_ONES}"
        raise Refused(406, text)
    sound.recipients[:] = [address for address in sound.recipients if address.lower() not in inactive]
    return f"Message OK, but will not deliver to these inactive addresses: {listed}. {_INACTIVE_ONES}"


def _is_asked_for(mail: _Taken, query: dict[str, str]) -> bool:
    wanted = {name.removeprefix("metadata_"): value for name, value in query.items() if name.startswith("metadata_")}
    recipient = query.get("recipient", "").lower()
    is_to = not recipient or recipient in [address.lower() for address in mail.recipients]
    metadata = mail.message.get("Metadata") or {}
    return is_to and all(metadata.get(name) == value for name, value in wanted.items())


def _kept(given: dict[str, Any]) -> dict[str, Any]:
    """What the search shows of a message: all but its bodies and the contents of its attachments."""
    message = folded(given)
    kept = {name: value for name, value in message.items() if name not in ("HtmlBody", "TextBody", "Headers", "Attachments")}
    return kept | {"Attachments": [part["Name"] for part in message.get("Attachments") or ()]}


def _listed(mail: _Taken) -> dict[str, Any]:
    message = mail.message
    people = {name: [_person(one) for one in getaddresses([message.get(name) or ""]) if one[1]] for name in ("To", "Cc", "Bcc")}
    return people | {
        "MessageID": mail.message_id,
        "MessageStream": message.get("MessageStream") or "outbound",
        "Recipients": list(mail.recipients),
        "ReceivedAt": mail.at,
        "From": message["From"],
        "Subject": message.get("Subject") or "",
        "Attachments": message["Attachments"],
        "Status": "Sent",
        "TrackOpens": bool(message.get("TrackOpens")),
        "TrackLinks": message.get("TrackLinks") or "None",
        "Metadata": message.get("Metadata") or {},
        "Tag": message.get("Tag") or "",
        "Sandboxed": False,
    }


def _person(pair: tuple[str, str]) -> dict[str, str | None]:
    return {"Email": pair[1], "Name": pair[0] or None}


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _error(status: int, code: int, text: str) -> Answer:
    return Answer(status, orjson.dumps({"ErrorCode": code, "Message": text}), _JSON)


def _too_many(count: int) -> Answer:
    return _error(422, 410, f"You may send at most {_MAX_BATCH} messages in a batch; {count} were given.")


def _refuse_template(message: Any) -> dict[str, Any]:
    """The result of a message that names a template: none is there, since nobody stores any."""
    fields = {name.lower(): value for name, value in message.items()} if isinstance(message, dict) else {}
    if not fields.get("templateid") and not fields.get("templatealias"):
        return {"ErrorCode": 403, "Message": "Either a 'TemplateId' or a 'TemplateAlias' must be given."}
    if not isinstance(fields.get("templatemodel"), dict):
        return {"ErrorCode": 403, "Message": "Invalid request field(s): 'TemplateModel'."}
    return {"ErrorCode": 1101, "Message": "The template was not found on this server, or is not active."}


def _new_message_id() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _attachment(part: dict[str, str]) -> Attachment:
    padding = part["Content"].count("=", -2)
    return Attachment(part["Name"], part["ContentType"], len(part["Content"]) * 3 // 4 - padding)


_INVALID_JSON = _error(422, 402, "Received invalid JSON input.")
_HEADERS = (
    ("From", "From"),
    ("To", "To"),
    ("Cc", "Cc"),
    ("Bcc", "Bcc"),
    ("Reply-To", "ReplyTo"),
    ("Subject", "Subject"),
    ("X-PM-Tag", "Tag"),
)
