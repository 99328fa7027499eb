"""The parts of a SendGrid message that are the same for everybody: contents and attachments; and how errors are noted.

The same sources and duties as sendgrid_rules.py, which judges the rest.
"""

import binascii
from collections.abc import Iterable
from typing import Any

_MAX_ERRORS = 50
_HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message."
_TEXT = frozenset((str,))
_PART_KEYS = frozenset(("type", "value"))
_ATTACHMENT_KEYS = frozenset(["content", "type", "filename", "disposition", "content_id"])


class Errors:
    """The errors of one request, in SendGrid's shape; bounded, since a request can have thousands."""

    def __init__(self) -> None:
        self.found: list[dict[str, str | None]] = []
        self.sender_refused = False

    def add(self, field: str | None, text: str, help_anchor: str | None = None) -> None:
        if len(self.found) < _MAX_ERRORS:
            self.found.append({"message": text, "field": field, "help": _HELP + help_anchor if help_anchor else None})


def check_content(message: dict[str, Any], has_template: bool, errors: Errors) -> None:
    content = message.get("content")
    if content is None and has_template:
        return
    if not isinstance(content, list) or not content:
        text = (
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one defined content block."
        )
        errors.add("content", text, "content")
        return
    for place, part in enumerate(content):
        _check_part(part, f"content.{place}", errors)
    _check_order([part.get("type") for part in content if isinstance(part, dict)], errors)


def _check_part(part: Any, field: str, errors: Errors) -> None:
    if not isinstance(part, dict):
        errors.add(field, f"Invalid type. Expected: object, given: {type_name(part)}.")
        return
    check_keys(part, _PART_KEYS, field + ".", errors)
    if not isinstance(part.get("type"), str) or not part["type"]:
        errors.add(f"{field}.type", "Your content type must be a string with length of at least one character.", "content.type")
    elif any(character in part["type"] for character in ";\r\n"):
        errors.add(f"{field}.type", "Cannot contain ';', or CRLF characters.", "content.type")
    if not isinstance(part.get("value"), str) or not part["value"]:
        errors.add(f"{field}.value", "The content value must be a string at least one character in length.", "content.value")


def _check_order(types: list[Any], errors: Errors) -> None:
    ranks = [{"text/plain": 0, "text/html": 1}.get(type_, 2) for type_ in types if isinstance(type_, str)]
    if ranks != sorted(ranks):
        text = "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: text/plain needs to be first, followed by text/html, followed by any other content."  # noqa: E501
        errors.add("content", text, "content")


def check_attachments(message: dict[str, Any], errors: Errors) -> None:
    for place, part in enumerate(listed(message.get("attachments"), "attachments", errors)):
        field = f"attachments.{place}"
        if not isinstance(part, dict):
            errors.add(field, f"Invalid type. Expected: object, given: {type_name(part)}.")
            continue
        check_keys(part, _ATTACHMENT_KEYS, field + ".", errors)
        if not isinstance(part.get("content"), str) or not part["content"]:
            errors.add(
                f"{field}.content", "The attachment content must be a string at least one character in length.", "attachments.content"
            )
        elif not _is_base64(part["content"]):
            errors.add(f"{field}.content", "The attachment content must be base64 encoded.", "attachments.content")
        if not isinstance(part.get("filename"), str) or not part["filename"]:
            errors.add(f"{field}.filename", "filename is required.", "attachments.filename")
        _check_type(part, f"{field}.type", errors)
        if part.get("disposition", "attachment") not in ("attachment", "inline"):
            text = f'The disposition of your attachment can be either "inline" or "attachment". You provided {part["disposition"]}.'
            errors.add(f"{field}.disposition", text, "attachments.disposition")


def _check_type(part: dict[str, Any], field: str, errors: Errors) -> None:
    """The "errors" page of mail send names what a type may not hold; the text is that of sendgrid/sendgrid-go issue 450."""
    type_ = part.get("type", "application/octet-stream")
    if not isinstance(type_, str) or not type_:
        errors.add(field, "The attachment type must be a string and at least one character in length.", "attachments.type")
    elif any(character in type_ for character in ";,\r\n"):
        errors.add(field, "The attachment type cannot contain ';', or CRLF characters.", "attachments.type")


def check_keys(given: dict[str, Any], known: Iterable[str], prefix: str, errors: Errors) -> None:
    for name in given.keys() - known:
        errors.add(prefix + name, f"Additional property {name} is not allowed.")


def listed(value: Any, field: str, errors: Errors) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        errors.add(field, f"Invalid type. Expected: array, given: {type_name(value)}.")
        return []
    return value


def is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and _TEXT.issuperset(map(type, value.values()))


def _is_base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return False
    return True


def type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return names.get(type(value), "object")
