"""Attachments of both wire formats: names that are safe in a header, base64 that is base64.

Must never fetch anything: content comes with the job or not at all.
"""

import binascii
import re
from typing import Any

import msgspec

from mail.errors import InvalidJob
from mail.header_text import refuse_controls
from mail.limits import MAX_FILE_NAME
from mail.message import Attachment

_CONTENT_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}( ?; ?[ -~]{1,200})?", re.ASCII)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")  # visible ASCII without angle brackets
_DISPOSITIONS = ("attachment", "inline")


class AttachmentKeys(msgspec.Struct, frozen=True):
    """How a wire format calls the fields of an attachment."""

    name: str
    content_type: str
    content_id: str
    content: str = "content"
    disposition: str = "disposition"


TEMPLATE_JOB_KEYS = AttachmentKeys("name", "contentType", "contentId")
CONTENT_REQUEST_KEYS = AttachmentKeys("filename", "type", "content_id")


def read_attachments(raw: list[dict[str, Any]] | None, keys: AttachmentKeys, path: str) -> tuple[Attachment, ...]:
    """The attachments of one email; raises InvalidJob (invalid-job, header-injection)."""
    if not raw:
        return ()
    return tuple([_read_attachment(one, keys, f"{path}[{index}]") for index, one in enumerate(raw)])


def _read_attachment(raw: dict[str, Any], keys: AttachmentKeys, path: str) -> Attachment:
    return Attachment(
        name=_read_name(_text(raw, keys.name, path), f"{path}.{keys.name}"),
        content_type=_read_content_type(_text(raw, keys.content_type, path), f"{path}.{keys.content_type}"),
        content=_read_base64(_text(raw, keys.content, path), f"{path}.{keys.content}"),
        disposition=_read_disposition(_text(raw, keys.disposition, path), f"{path}.{keys.disposition}"),
        content_id=_read_content_id(_text(raw, keys.content_id, path), f"{path}.{keys.content_id}"),
    )


def _text(raw: dict[str, Any], key: str, path: str) -> str:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidJob("invalid-job", f"{path}.{key}: must be a string")
    return value or ""


def _read_name(text: str, path: str) -> str:
    refuse_controls(text, path)
    if not text or len(text) > MAX_FILE_NAME:
        raise InvalidJob("invalid-job", f"{path}: must have 1 to {MAX_FILE_NAME} characters")
    return text


def _read_content_type(text: str, path: str) -> str:
    refuse_controls(text, path)
    if text and not _CONTENT_TYPE.fullmatch(text):
        raise InvalidJob("invalid-job", f"{path}: must be a media type such as application/pdf")
    return text or "application/octet-stream"


def _read_base64(text: str, path: str) -> str:
    try:
        size = len(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:  # binascii.Error, or a character outside ASCII
        raise InvalidJob("invalid-job", f"{path}: must be base64 (standard alphabet, padded, no line breaks)") from None
    if not size:
        raise InvalidJob("invalid-job", f"{path}: is empty")
    return text


def _read_disposition(text: str, path: str) -> str:
    if text and text not in _DISPOSITIONS:
        raise InvalidJob("invalid-job", f"{path}: must be attachment or inline")
    return text or "attachment"


def _read_content_id(text: str, path: str) -> str:
    refuse_controls(text, path)
    if text and not _CONTENT_ID.fullmatch(text):
        raise InvalidJob("invalid-job", f"{path}: must be visible ASCII without angle brackets")
    return text
