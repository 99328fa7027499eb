"""What SES v2 refuses in one mail and in a batch, with the names of its errors.

Rules only judge; they must never change a request. Sources: the members and limits of botocore's model sesv2 2019-09-27, the SES
developer guide's quotas, and error texts in public issues (read 2026-11).
"""

import base64
import binascii
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, NamedTuple

import orjson

MAX_RECIPIENTS = 50
MAX_ENTRIES = 50
MAX_RAW_BYTES = 40 * 1024 * 1024
MAX_TEMPLATE_DATA = 262_144
MAX_TEMPLATE_BYTES = 1024 * 1024
MAX_HEADERS = 15
MAX_HEADER_LINE = 996
MAX_FILE_NAME = 255
MAX_LABEL = 78  # of an attachment's type and content id
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
    if len(chosen) != 1:
        raise bad("Exactly one of Simple, Raw or Template is required.")
    tags = check_tags(request.get("EmailTags"))
    check_configuration(request)
    if chosen[0] == "Raw":
        message = _check_raw(_object(content["Raw"], "Raw"))
        sender, found = _sender_of_raw(message, request.get("FromEmailAddress")), _recipients_of_raw(message, request.get("Destination"))
        return Sound(sender, found, str(message["Subject"] or ""), tags.get("attempt_id"))
    recipients, sender = _recipients(request.get("Destination")), check_sender(request)
    if chosen[0] == "Simple":
        return Sound(sender, recipients, _check_simple(_object(content["Simple"], "Simple")), tags.get("attempt_id"))
    texts, data = check_template(content["Template"])
    return Sound(sender, recipients, fill(texts["Subject"], data), tags.get("attempt_id"))


def check_bulk(request: dict[str, Any]) -> tuple[str, dict[str, str], dict[str, str], list[Any]]:
    """Judge what concerns a whole SendBulkEmail request: sender, template, default data and entries."""
    sender = check_sender(request)
    check_configuration(request)
    check_tags(request.get("DefaultEmailTags"))
    texts, data = check_template(_object(request.get("DefaultContent"), "DefaultContent").get("Template"))
    entries = request.get("BulkEmailEntries")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_ENTRIES:
        raise bad(f"BulkEmailEntries must have 1 to {MAX_ENTRIES} entries.")
    return sender, texts, data, entries


def check_template(value: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Judge an inline template, of a mail or of a batch: its texts and its data. A stored one is not there: nobody stores any."""
    template = _object(value, "Template")
    if template.get("TemplateName") or template.get("TemplateArn"):
        raise Refused("NotFoundException", f"Template {template.get('TemplateName') or template['TemplateArn']} does not exist")
    content = _object(template.get("TemplateContent"), "TemplateContent")
    texts = {name: content[name] for name in ("Subject", "Text", "Html") if content.get(name) is not None}
    if not texts.get("Subject") or len(texts) < 2 or not all(isinstance(text, str) for text in texts.values()):
        raise bad("TemplateContent needs a Subject and a Text or an Html part.")
    if len(orjson.dumps(content)) > MAX_TEMPLATE_BYTES:
        raise bad(f"TemplateContent may have {MAX_TEMPLATE_BYTES} bytes.")
    check_headers(template.get("Headers"))
    check_attachments(template.get("Attachments"))
    return texts, template_data(template.get("TemplateData"))


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
        if len(name) + len(value) > MAX_HEADER_LINE:
            raise bad(f"A header's name and value may have {MAX_HEADER_LINE} characters together.")
        if name.lower() in _HEADERS_OF_FIELDS:
            raise bad(f"The header {name} cannot be set here.")


def check_attachments(attachments: Any) -> None:
    for one in _list(attachments, "Attachments"):
        part = _object(one, "Attachment")
        name, labels = part.get("FileName"), [part[key] for key in ("ContentType", "ContentId") if part.get(key) is not None]
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_FILE_NAME:
            raise bad(f"An attachment's FileName may have 1 to {MAX_FILE_NAME} characters.")
        if not all(isinstance(label, str) and 1 <= len(label) <= MAX_LABEL for label in labels):
            raise bad(f"An attachment's ContentType and ContentId may have 1 to {MAX_LABEL} characters.")
        if part.get("ContentDisposition", "ATTACHMENT") not in ("ATTACHMENT", "INLINE"):
            raise bad("An attachment's ContentDisposition is ATTACHMENT or INLINE.")
        if part.get("ContentTransferEncoding", "BASE64") not in ("BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"):
            raise bad("An attachment's ContentTransferEncoding is BASE64, QUOTED_PRINTABLE or SEVEN_BIT.")
        decoded(part.get("RawContent"), "RawContent")


def decoded(value: Any, name: str) -> bytes:
    """What a member of type blob holds."""
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("SerializationException", f"{name} is not base64") from None


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
    check_attachments(simple.get("Attachments"))
    files = [part["RawContent"] for part in simple.get("Attachments") or ()]
    if sum(len(text.encode()) for text in (subject, *parts, *files)) > MAX_RAW_BYTES:
        raise bad(f"Message length is more than {MAX_RAW_BYTES} bytes long.")
    return subject


def _check_raw(raw: dict[str, Any]) -> EmailMessage:
    content = decoded(raw.get("Data"), "Raw.Data")
    if len(content) > MAX_RAW_BYTES:
        raise bad(f"Message length is more than {MAX_RAW_BYTES} bytes long.")
    if b"\r\n\r\n" not in content or max(map(len, content.split(b"\r\n"))) > _LONGEST_LINE:
        raise bad("The raw message has no body, or a line of more than 1000 characters.")
    message: EmailMessage = message_from_bytes(content, policy=policy.default)
    if any(part.defects for part in message.walk()):
        raise bad("The raw message is not formatted properly.")
    return message


def _sender_of_raw(message: EmailMessage, field: Any) -> str:
    senders: tuple[Any, ...] = message["From"].addresses if message["From"] else ()
    if not senders and not field:
        raise bad("Missing required header 'From'.")
    return address(field, "FromEmailAddress") if field else str(senders[0].addr_spec)


def _recipients_of_raw(message: EmailMessage, destination: Any) -> list[str]:
    """Those of the request; without any, those of the mail's own headers."""
    if destination:
        return _recipients(destination)
    groups = [[one.addr_spec for one in message[name].addresses] for name in ("To", "Cc", "Bcc") if message[name]]
    return _recipients({"ToAddresses": [one for group in groups for one in group]})


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
