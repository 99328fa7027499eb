"""What Postmark refuses in one message, with its error codes and, where they are known, its texts.

Rules only judge; they must never change a message. The usual message has to be judged in a few microseconds, so addresses
are matched by expression first, and only lists and quoted names are split by hand.
"""

import binascii
import re
from typing import Any, NamedTuple

MAX_RECIPIENTS = 50
MAX_METADATA_FIELDS = 10
MAX_METADATA_KEY = 20
MAX_METADATA_VALUE = 80
MAX_TAG_LENGTH = 1000
MAX_SUBJECT_LENGTH = 2000
MAX_BODY_BYTES = 5 * 1024 * 1024
STREAMS = ("outbound", "broadcast")
_FIELDS = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Subject",
    "HtmlBody",
    "TextBody",
    "ReplyTo",
    "Tag",
    "MessageStream",
    "Metadata",
    "Headers",
    "TrackOpens",
    "TrackLinks",
    "Attachments",
    "TemplateModel",
]
_TEXT = frozenset((str,))
_KNOWN = frozenset(_FIELDS)
_BY_LOWER = {name.lower(): name for name in _FIELDS}
_TEXT_FIELDS = ("Subject", "HtmlBody", "TextBody", "From", "To", "Cc", "Bcc", "ReplyTo", "Tag", "MessageStream")
_FORBIDDEN_TYPES = [
    ".exe",
    ".bat",
    ".bin",
    ".cmd",
    ".com",
    ".cpl",
    ".dll",
    ".js",
    ".lnk",
    ".msi",
    ".pif",
    ".reg",
    ".scr",
    ".vbs",
    ".vbe",
    ".wsf",
    ".wsh",
    ".jar",
    ".hta",
    ".jse",
    ".ps1",
]
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
_LOCAL = r"[^\s@<>(),;:\\\"\[\]]+"
# a display name with punctuation has to be quoted (support article 1180, read 2026-11)
_NAME = r'(?:"(?:[^"\\]|\\.)*"|[^\x00-\x1f"@<>(),;:.\\\[\]]*)'
_MAILBOX = re.compile(rf"\s*(?:{_NAME}\s*<({_LOCAL}@{_DOMAIN})>|({_LOCAL}@{_DOMAIN}))\s*")


class Refused(Exception):
    """This message is not taken: Postmark's ErrorCode and text."""

    def __init__(self, code: int, text: str):
        super().__init__(code, text)
        self.code = code
        self.text = text


class Sound(NamedTuple):
    """What the fake has to know of a message that may be sent. `sender` is its bare address."""

    sender: str
    recipients: list[str]
    subject: str
    metadata: dict[str, str]


def folded(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its fields in Postmark's own spelling: names are read without regard to case, unknown ones ignored."""
    if message.keys() <= _KNOWN:
        return message
    return {_BY_LOWER[name.lower()]: value for name, value in message.items() if name.lower() in _BY_LOWER}


def check_message(given: Any, sender_domains: frozenset[str]) -> Sound:
    """Judge one message of /email or /email/batch; raises Refused with the first thing that is wrong."""
    if not isinstance(given, dict):
        raise Refused(402, "Received invalid JSON input.")
    message = folded(given)
    for name in _TEXT_FIELDS:
        value = message.get(name)
        if value is not None and type(value) is not str:
            raise _invalid_field(name)
    sender = _check_sender(message, sender_domains)
    recipients = _recipients(message)
    _check_bodies(message)
    _check_subject_and_tag(message)
    metadata = message.get("Metadata") or {}
    if metadata:
        _check_metadata(metadata)
    if message.get("Headers"):
        _check_headers(message["Headers"])
    if message.get("Attachments"):
        _check_attachments(message["Attachments"])
    _check_stream(message.get("MessageStream") or "outbound")
    _check_tracking(message)
    return Sound(sender, recipients, message.get("Subject") or "", metadata)


def _check_sender(message: dict[str, Any], sender_domains: frozenset[str]) -> str:
    sender = message.get("From") or ""
    match = _MAILBOX.fullmatch(sender)
    if not match:
        raise Refused(300, f"Invalid 'From' address: '{sender}'.")
    address = match[1] or match[2]
    if sender_domains and address.rpartition("@")[2].lower() not in sender_domains:
        text = f"The 'From' address you supplied ({address}) is not a Sender Signature on your account. Please add and confirm this address in order to be able to use it in the 'From' field of your messages."  # noqa: E501
        raise Refused(400, text)
    if message.get("ReplyTo"):
        _addresses(message["ReplyTo"], "ReplyTo")
    return str(address)


def _recipients(message: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name in ("To", "Cc", "Bcc"):
        value = message.get(name)
        if value:
            found += _addresses(value, name)
    if not found:
        raise Refused(300, "Invalid 'To' address: ''.")
    if len(found) > MAX_RECIPIENTS:
        raise Refused(300, f"The message has {len(found)} recipients; To, Cc and Bcc together may have {MAX_RECIPIENTS}.")
    return found


def _addresses(value: str, name: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at <= len(value):
        match = _MAILBOX.match(value, at)
        if not match or value[match.end() : match.end() + 1] not in ("", ","):
            raise _bad_address(value, value[at:].partition(",")[0].strip(), name)
        found.append(match[1] or match[2])
        at = match.end() + 1
    return found


def _bad_address(value: str, part: str, name: str) -> Refused:
    if part and "@" not in part:
        return Refused(300, f"Error parsing '{name}': Illegal email address '{part}'. It must contain the '@' symbol.")
    return Refused(300, f"Invalid '{name}' address: '{value}'.")


def _check_bodies(message: dict[str, Any]) -> None:
    bodies = [message.get("HtmlBody"), message.get("TextBody")]
    if not any(bodies):
        raise Refused(300, "Provide either email TextBody or HtmlBody or both.")
    for body in bodies:
        if body and len(body) * 4 > MAX_BODY_BYTES and len(body.encode()) > MAX_BODY_BYTES:
            raise Refused(300, "A message body may be at most 5 MB.")


def _check_subject_and_tag(message: dict[str, Any]) -> None:
    if len(message.get("Subject") or "") > MAX_SUBJECT_LENGTH:
        raise Refused(300, f"The 'Subject' may have at most {MAX_SUBJECT_LENGTH} characters.")
    if len(message.get("Tag") or "") > MAX_TAG_LENGTH:
        raise Refused(300, f"The 'Tag' may have at most {MAX_TAG_LENGTH} characters.")


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not _TEXT.issuperset(map(type, metadata.values())):
        raise _invalid_field("Metadata")
    if len(metadata) > MAX_METADATA_FIELDS:
        raise Refused(300, f"Invalid metadata content. You may supply at most {MAX_METADATA_FIELDS} fields.")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            text = f"Invalid metadata content. Field names are limited to 20 characters and field values are limited to 80 characters in length. The '{key}' field in your metadata content exceeds these limits."  # noqa: E501
            raise Refused(300, text)
    if len({key.lower() for key in metadata}) < len(metadata):
        raise Refused(300, "Invalid metadata content. Field names must differ in more than case.")


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, list):
        raise _invalid_field("Headers")
    for header in headers:
        if not isinstance(header, dict) or not isinstance(header.get("Name"), str) or not isinstance(header.get("Value"), str):
            raise _invalid_field("Headers")
        if not header["Name"] or any(character in header["Name"] + header["Value"] for character in "\r\n"):
            raise Refused(300, f"Invalid header '{header['Name']}'.")


def _check_attachments(attachments: Any) -> None:
    if not isinstance(attachments, list):
        raise _invalid_field("Attachments")
    for part in attachments:
        if not isinstance(part, dict) or not all(isinstance(part.get(name), str) for name in ("Name", "Content", "ContentType")):
            raise _invalid_field("Attachments")
        if part["Name"].lower().endswith(tuple(_FORBIDDEN_TYPES)):
            raise Refused(411, "Attachment file type not allowed.")
        try:
            binascii.a2b_base64(part["Content"], strict_mode=True)
        except (binascii.Error, ValueError):
            raise _invalid_field("Attachments") from None


def _check_stream(stream: str) -> None:
    if stream == "inbound":
        raise Refused(1236, "The stream provided: 'inbound' does not support sending.")
    if stream not in STREAMS:
        raise Refused(1235, f"The stream provided: '{stream}' does not exist on this server.")


def _check_tracking(message: dict[str, Any]) -> None:
    opens, links = message.get("TrackOpens"), message.get("TrackLinks")
    if opens is not None and type(opens) is not bool:
        raise _invalid_field("TrackOpens")
    if links and links not in ("None", "HtmlAndText", "HtmlOnly", "TextOnly"):
        raise _invalid_field("TrackLinks")


def _invalid_field(name: str) -> Refused:
    return Refused(403, f"Invalid request field(s): '{name}'.")
