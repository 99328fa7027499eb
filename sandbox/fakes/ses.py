"""SES v2 as its sender meets it: SendEmail, SendBulkEmail and GetAccount, with requests signed as AWS wants them.

A batch is judged entry by entry: HTTP 200 with one status each, in order. Rules of a mail are in ses_rules.py, of a signature in
ses_signature.py. Errors are named in the header x-amzn-ErrorType. Nothing here knows the product's adapter.
"""

import base64
import os
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from typing import Any

import orjson

from sandbox.fakes import ses_rules as rules
from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail, is_listed
from sandbox.fakes.ses_rules import Refused, Sound
from sandbox.fakes.ses_signature import BadSignature, check_signature

SANDBOX_KEY = "sandbox-ses-credential"  # access key id and secret that the sandbox's world hands out
_JSON = "application/json"
_ERRORS = {
    413: ("RequestEntityTooLargeException", "Request size exceeded the limit."),
    429: ("TooManyRequestsException", "Maximum sending rate exceeded."),
    500: ("InternalServiceErrorException", "The request couldn't be processed."),
    503: ("ServiceUnavailableException", "Service is unavailable."),
}
_STATUSES = {
    **dict.fromkeys(("UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException"), 403),
    "AccessDeniedException": 403,
    "NotFoundException": 404,
    "TooManyRequestsException": 429,
}


class Fake:
    """SES. `key` is "access key:secret"; without one, that of the sandbox's world is expected, so that signatures are always checked."""

    name = "ses"
    max_body_bytes = 60 * 1024 * 1024

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock

    def answer(self, call: Call) -> Answer:
        access_key, _, secret = (call.traits.key or f"{SANDBOX_KEY}:{SANDBOX_KEY}").partition(":")
        try:
            check_signature(call.method, call.path, call.headers, call.body, (access_key, secret), "ses", self._clock())
        except BadSignature as error:
            return _error(_STATUSES.get(error.name, 400), error.name, error.text)
        routes: dict[tuple[str, str], Callable[[Call], Answer]] = {
            ("POST", "/v2/email/outbound-emails"): self._send_one,
            ("POST", "/v2/email/outbound-bulk-emails"): self._send_bulk,
            ("GET", "/v2/email/account"): self._describe,
        }
        handle = routes.get((call.method, call.path))
        if handle is None:
            return _error(404, "UnknownOperationException", "")
        try:
            return handle(call)
        except Refused as refused:
            return _error(_STATUSES.get(refused.name, 400), refused.name, refused.text)

    def refuse(self, status: int) -> Answer:
        name, text = _ERRORS.get(status, ("InternalFailure", "Error."))
        return _error(status, name, text)

    def mail(self, body: bytes, item: int) -> Mail:
        request = orjson.loads(body)
        if "BulkEmailEntries" in request:
            return _mail_of_entry(request, request["BulkEmailEntries"][item])
        metadata = rules.check_tags(request.get("EmailTags"))
        if "Raw" in request["Content"]:
            return _mail_of_raw(base64.b64decode(request["Content"]["Raw"]["Data"]), metadata)
        if "Template" in request["Content"]:
            return _mail_of_template(request, request["Content"]["Template"], {}, metadata)
        simple = request["Content"]["Simple"]
        texts = {name: part.get("Data", "") for name, part in simple["Body"].items()}
        headers = [*_addresses(request, request["Destination"]), *_headers(simple.get("Headers"))]
        files = _attachments(simple.get("Attachments"))
        return Mail(simple["Subject"]["Data"], texts.get("Html", ""), texts.get("Text", ""), headers, metadata, files)

    def _describe(self, call: Call) -> Answer:
        limits = (50_000.0, 500.0) if call.traits.is_approved else (200.0, 1.0)
        used = 0.0 if call.traits.has_credits else limits[0]
        quota = {"Max24HourSend": limits[0], "MaxSendRate": limits[1], "SentLast24Hours": used}
        access = {"SendingEnabled": call.traits.has_send_scope, "ProductionAccessEnabled": call.traits.is_approved}
        account = access | {"EnforcementStatus": "HEALTHY", "SendQuota": quota}
        return Answer(200, orjson.dumps(account), {"Content-Type": _JSON})

    def _send_one(self, call: Call) -> Answer:
        _check_account(call)
        sound = rules.check_email(_parse(call.body))
        _check_identities(sound.sender, sound.recipients, call)
        if call.is_spoiled(0) or any(is_listed(one, call.traits.bad_recipients) for one in sound.recipients):
            raise rules.bad("Illegal address")
        accepted = _accepted(sound, 0)
        return Answer(200, orjson.dumps({"MessageId": accepted.message_id}), {"Content-Type": _JSON}, [accepted])

    def _send_bulk(self, call: Call) -> Answer:
        _check_account(call)
        sender, texts, defaults, entries = rules.check_bulk(_parse(call.body))
        sounds = [rules.check_entry(entry, texts, defaults, sender) for entry in entries]
        _check_identities(sender, [one for sound in sounds for one in sound.recipients], call)
        if any(is_listed(one, call.traits.bad_recipients) for sound in sounds for one in sound.recipients):
            raise rules.bad("Illegal address")
        results: list[dict[str, str]] = []
        accepted: list[Accepted] = []
        for item, sound in enumerate(sounds):
            if call.is_spoiled(item):
                results.append({"Status": "INVALID_PARAMETER", "Error": "Illegal address"})
                continue
            accepted.append(_accepted(sound, item))
            results.append({"Status": "SUCCESS", "MessageId": accepted[-1].message_id})
        return Answer(200, orjson.dumps({"BulkEmailEntryResults": results}), {"Content-Type": _JSON}, accepted)


def _check_account(call: Call) -> None:
    if not call.traits.has_send_scope:
        raise Refused("AccessDeniedException", "User is not authorized to perform: ses:SendEmail")
    if not call.traits.has_credits:
        raise Refused("TooManyRequestsException", "Daily message quota exceeded.")


def _check_identities(sender: str, recipients: list[str], call: Call) -> None:
    """Who sends must be verified; as long as the account is in SES' sandbox, whoever gets it too."""
    verified = call.traits.sender_domains
    asked = [sender] if call.traits.is_approved else [sender, *recipients]
    strangers = [one for one in asked if verified and one.rpartition("@")[2].lower() not in verified]
    if strangers:
        text = f"Email address is not verified. The following identities failed the check in region US-EAST-1: {', '.join(strangers)}"
        raise Refused("MessageRejected", text)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        raise Refused("SerializationException", "The request's body is no JSON object.")
    return request


def _accepted(sound: Sound, item: int) -> Accepted:
    digits = os.urandom(20).hex()
    message_id = f"0100019{digits[:9]}-{digits[9:17]}-{digits[17:21]}-4{digits[21:24]}-a{digits[24:27]}-{digits[27:39]}-000000"
    return Accepted(sound.attempt_id, message_id, sound.recipients[0], sound.subject, item)


def _mail_of_entry(request: dict[str, Any], entry: dict[str, Any]) -> Mail:
    tags = rules.check_tags(request.get("DefaultEmailTags")) | rules.check_tags(entry.get("ReplacementTags"))
    return _mail_of_template(request, request["DefaultContent"]["Template"], entry, tags)


def _mail_of_template(request: dict[str, Any], template: dict[str, Any], entry: dict[str, Any], tags: dict[str, str]) -> Mail:
    """`entry` is that of a batch; its headers replace those of the template."""
    texts, defaults = rules.check_template(template)
    data = defaults | rules.replacement_data(entry)
    filled = {name: rules.fill(text, data) for name, text in texts.items()}
    own = {name.lower(): (name, value) for name, value in _headers(template.get("Headers")) + _headers(entry.get("ReplacementHeaders"))}
    headers = [*_addresses(request, entry.get("Destination") or request["Destination"]), *own.values()]
    files = _attachments(template.get("Attachments"))
    return Mail(filled["Subject"], filled.get("Html", ""), filled.get("Text", ""), headers, tags, files)


def _mail_of_raw(content: bytes, metadata: dict[str, str]) -> Mail:
    message = message_from_bytes(content, policy=policy.default)
    parts = {kind: message.get_body((kind,)) for kind in ("html", "plain")}
    texts = {kind: str(part.get_content()).replace("\r\n", "\n") if part else "" for kind, part in parts.items()}
    files = [
        Attachment(part.get_filename() or "", part.get_content_type(), len(part.get_payload(decode=True) or b""))
        for part in message.walk()
        if part.get_filename()
    ]
    headers = [(name, str(value)) for name, value in message.items()]
    return Mail(str(message["Subject"] or ""), texts["html"], texts["plain"], headers, metadata, files)


def _addresses(request: dict[str, Any], destination: dict[str, Any]) -> list[tuple[str, str]]:
    groups = [("From", [request["FromEmailAddress"]]), ("Reply-To", request.get("ReplyToAddresses"))]
    groups += [(name, destination.get(f"{name}Addresses")) for name in ("To", "Cc", "Bcc")]
    return [(name, ", ".join(mailboxes)) for name, mailboxes in groups if mailboxes]


def _headers(headers: list[dict[str, str]] | None) -> list[tuple[str, str]]:
    return [(header["Name"], header["Value"]) for header in headers or []]


def _attachments(parts: list[dict[str, str]] | None) -> list[Attachment]:
    return [
        Attachment(part["FileName"], part.get("ContentType", "application/octet-stream"), len(rules.decoded(part["RawContent"], "")))
        for part in parts or []
    ]


def _error(status: int, name: str, text: str) -> Answer:
    return Answer(status, orjson.dumps({"message": text}), {"Content-Type": _JSON, "x-amzn-ErrorType": name})
