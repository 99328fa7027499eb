"""What SES v2 refuses in one mail and in a batch, with the names of its errors.

Rules only judge; they must never change a request. Sources: the members and limits of botocore's model sesv2 2019-09-27, the SES
developer guide's quotas, and error texts in public issues (read 2026-11).
"""

import base64
import binascii
import re
from email import message_from_bytes, policy
from typing import Any, NamedTuple

import orjson

MAX_RECIPIENTS = 50
MAX_ENTRIES = 50
MAX_RAW_BYTES = 40 * 1024 * 1024
MAX_TEMPLATE_DATA = 262_144
MAX_HEADERS = 15
_LONGEST_LINE = 1_000
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
_LOCAL = r"[^\s@<>(),;:\\\"\[\]]+"
_NAME = r'(?:"(?:[^"\\]|\\.)*"|[^"<>@,;:\\\[\]()]*)'
_MAILBOX = re.compile(rf"\s*(?:{_NAME}\s*<({_LOCAL}@{_DOMAIN})>|({_LOCAL}@{_DOMAIN}))\s*", re.ASCII).fullmatch
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}").fullmatch
_HEADER_NAME = re.compile(r"[!-9;-@A-~]{1,126}").fullmatch
_HEADER_VALUE = re.compile(r"[ -~]{1,995}").fullmatch
_HEADERS_OF_FIELDS = frozenset({"from", "to", "cc", "bcc", "subject", "reply-to", "date", "message-id", "return-path", "mime-version"})


class Refused(Exception):
    """The request is not taken: an error's name and text."""

    def __init__(self, name: str, text: str):
        super().__init__(name, text)
        self.name = name
        self.text = text


class Sound(NamedTuple):
    """What the fake has to know of a mail that may be sent. `sender` is its bare address."""

    sender: str
    recipients: list[str]
    subject: str
    attempt_id: str | None


def check_email(request: dict[str, Any]) -> Sound:
    """Judge a SendEmail request; raises Refused with the first thing that is wrong."""
    content = _object(request.get("Content"), "Content")
    chosen = [name for name in ("Simple", "Raw", "Template") if content.get(name) is not None]
    if len(chosen) != 1 or chosen[0] == "Template":
        raise bad("Exactly one of Simple, Raw or Template is required (this fake knows no stored templates).")
    recipients = _recipients(request.get("Destination"))
    tags = check_tags(request.get("EmailTags"))
    check_configuration(request)
    if chosen[0] == "Raw":
        sender, subject = _check_raw(_object(content["Raw"], "Raw"), request.get("FromEmailAddress"))
    else:
        sender, subject = check_sender(request), _check_simple(_object(content["Simple"], "Simple"))
    return Sound(sender, recipients, subject, tags.get("attempt_id"))


def check_bulk(request: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, str], list[Any]]:
    """Judge what concerns a whole SendBulkEmail request: sender, template, default data and entries."""
    sender = check_sender(request)
    check_configuration(request)
    check_tags(request.get("DefaultEmailTags"))
    template = _object(_object(request.get("DefaultContent"), "DefaultContent").get("Template"), "Template")
    content = _object(template.get("TemplateContent"), "TemplateContent")
    texts = {name: content[name] for name in ("Subject", "Text", "Html") if content.get(name) is not None}
    if not texts.get("Subject") or len(texts) < 2 or not all(isinstance(text, str) for text in texts.values()):
        raise bad("TemplateContent needs a Subject and a Text or an Html part.")
    entries = request.get("BulkEmailEntries")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_ENTRIES:
        raise bad(f"BulkEmailEntries must have 1 to {MAX_ENTRIES} entries.")
    return sender, texts, template_data(template.get("TemplateData")), entries


def check_entry(entry: Any, texts: dict[str, str], defaults: dict[str, str], sender: str) -> Sound:
    """Judge one entry of a batch. One malformed address refuses them all (SendBulkTemplatedEmail, v1)."""
    fields = _object(entry, "BulkEmailEntry")
    recipients = _recipients(fields.get("Destination"))
    tags = check_tags(fields.get("ReplacementTags"))
    check_headers(fields.get("ReplacementHeaders"))
    return Sound(sender, recipients, fill(texts["Subject"], defaults | replacement_data(fields)), tags.get("attempt_id"))


def replacement_data(entry: dict[str, Any]) -> dict[str, str]:
    content = entry.get("ReplacementEmailContent") or {}
    return template_data(
        _object(_object(content, "ReplacementEmailContent").get("ReplacementTemplate") or {}, "").get("ReplacementTemplateData")
    )


def template_data(text: Any) -> dict[str, str]:
    if text is None:
        return {}
    if not isinstance(text, str) or len(text) > MAX_TEMPLATE_DATA:
        raise bad(f"Template data must be a string of at most {MAX_TEMPLATE_DATA} characters.")
    try:
        data = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        raise bad("Template data is not valid JSON.") from None
    return {str(name): str(value) for name, value in _object(data, "TemplateData").items()}


def fill(text: str, data: dict[str, str]) -> str:
    """Simple substitution, once, without escaping; what has no value would be a rendering failure, here an empty text."""
    return re.sub(r"\{\{ *([A-Za-z0-9_-]+) *\}\}", lambda found: data.get(found[1], ""), text)


def check_sender(request: dict[str, Any]) -> str:
    sender = address(request.get("FromEmailAddress"), "FromEmailAddress")
    for reply_to in _list(request.get("ReplyToAddresses"), "ReplyToAddresses"):
        address(reply_to, "ReplyToAddresses")
    return sender


def check_tags(tags: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for tag in _list(tags, "EmailTags"):
        name, value = _object(tag, "MessageTag").get("Name"), tag.get("Value")
        if not (isinstance(name, str) and isinstance(value, str) and _TAG(name) and _TAG(value)):
            raise bad("Tag names and values may have 1 to 256 letters, digits, underscores and dashes.")
        if name in found:
            raise bad(f"Duplicate tag name {name}.")
        found[name] = value
    return found


def check_headers(headers: Any) -> None:
    given = _list(headers, "Headers")
    if len(given) > MAX_HEADERS:
        raise bad(f"At most {MAX_HEADERS} headers may be given.")
    for header in given:
        name, value = _object(header, "MessageHeader").get("Name"), header.get("Value")
        if not (isinstance(name, str) and isinstance(value, str) and _HEADER_NAME(name) and _HEADER_VALUE(value)):
            raise bad("A header's name or value has characters or a length that are not allowed.")
        if name.lower() in _HEADERS_OF_FIELDS:
            raise bad(f"The header {name} cannot be set here.")


def check_configuration(request: dict[str, Any]) -> None:
    name = request.get("ConfigurationSetName")
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)):
        raise bad("Invalid configuration set name.")


def address(value: Any, field: str) -> str:
    """The bare address of a mailbox; raises Refused."""
    if not isinstance(value, str) or not value:
        raise bad(f"{field}: Missing final '@domain'")
    if not value.isascii():
        raise bad(f"{field}: Domain contains control or whitespace, or the text is not 7-bit ASCII")
    match = _MAILBOX(value)
    if not match:
        raise bad(f"{field}: Illegal address")
    return match[1] or match[2]


def bad(text: str) -> Refused:
    return Refused("BadRequestException", text)


def _recipients(destination: Any) -> list[str]:
    fields = _object(destination, "Destination")
    found = [address(one, name) for name in ("ToAddresses", "CcAddresses", "BccAddresses") for one in _list(fields.get(name), name)]
    if not found:
        raise bad("Missing required field Destination: at least one recipient is needed.")
    if len(found) > MAX_RECIPIENTS:
        raise bad(f"Recipient count exceeds {MAX_RECIPIENTS}.")
    return found


def _check_simple(simple: dict[str, Any]) -> str:
    subject = _object(simple.get("Subject"), "Subject").get("Data")
    body = _object(simple.get("Body"), "Body")
    parts = [_object(body[name], name).get("Data") for name in ("Text", "Html") if body.get(name) is not None]
    if not isinstance(subject, str) or not parts or not all(isinstance(part, str) and part for part in parts):
        raise bad("Simple content needs a Subject and a Text or Html body with Data.")
    check_headers(simple.get("Headers"))
    return subject


def _check_raw(raw: dict[str, Any], sender_field: Any) -> tuple[str, str]:
    try:
        content = base64.b64decode(str(raw.get("Data")), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("SerializationException", "Raw.Data is not base64") from None
    if len(content) > MAX_RAW_BYTES:
        raise bad("Message length is more than 41943040 bytes long.")
    if b"\r\n\r\n" not in content or max(map(len, content.split(b"\r\n"))) > _LONGEST_LINE:
        raise bad("The raw message has no body, or a line of more than 1000 characters.")
    message = message_from_bytes(content, policy=policy.default)
    if any(part.defects for part in message.walk()):
        raise bad("The raw message is not formatted properly.")
    senders: tuple[Any, ...] = message["From"].addresses if message["From"] else ()
    if not senders and not sender_field:
        raise bad("Missing required header 'From'.")
    return (address(sender_field, "FromEmailAddress") if sender_field else senders[0].addr_spec), str(message["Subject"] or "")


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad(f"Missing or malformed field {name}.")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("SerializationException", f"{name} is not a list")
    return value
