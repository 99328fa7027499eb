"""SendGrid's personalizations: the body of one request, from the mails that share it.

A batch of different mails travels as substitutions: every mail's subject, text and HTML are the values of tags that nobody can
guess, since they are made after the words are fixed. This module must never let one mail's words reach another, nor raise over
a label (tag, metadata) that SendGrid does not take: such labels stay behind.
Facts: twilio/sendgrid-oai tsg_mail_v3 (2026-01-22), sendgrid/docs (2021-06); an event's own fields: django-anymail (2026-07),
Jericho/StrongGrid (2026-03).
"""

import re
import secrets
from collections.abc import Sequence
from enum import Enum
from typing import Any

import orjson

from esp.base import words_bytes
from esp.mime import header_value
from mail.ids import wire_id
from mail.message import Address, Attachment, Message

SUBSTITUTION_BYTES = 10_000  # of one personalization, tags and values
_CUSTOM_ARGS_BYTES = 10_000
_CATEGORIES, _CATEGORY_CHARACTERS = 10, 255
# Custom args come back beside the fields of an event, where one of these names would be taken for the event's own.
_EVENT_FIELDS = frozenset(
    (
        *("asm_group_id", "attempt", "bounce_classification", "category", "cert_err", "email", "event", "ip", "mc_stats", "newsletter"),
        *("phase_id", "pool", "post_type", "reason", "response", "send_at", "smtp-id", "status", "timestamp", "tls", "type"),
        *("url", "url_offset", "useragent"),
    )
)
_EVENT_PREFIXES = ("marketing_campaign_", "sg_", "singlesend_", "template")
_SPECIALS = re.compile(r"[][()<>@,;:.\"\\]")  # RFC 5322, 3.2.3
_TOKEN_BYTES = 8
_TAG_BYTES = 2 * _TOKEN_BYTES + 3
Json = dict[str, Any]


class Manner(Enum):
    """How a mail's words travel."""

    SUBSTITUTED = "substituted"
    TEMPLATED = "templated"
    VERBATIM = "verbatim"


def manner_of(message: Message, template_id: str) -> Manner:
    if words_bytes(message) + 3 * _TAG_BYTES <= SUBSTITUTION_BYTES:
        return Manner.SUBSTITUTED
    # A template has both parts, so a mail that lacks one would arrive with an empty one.
    has_both = bool(message.text and message.html)
    return Manner.TEMPLATED if template_id and has_both else Manner.VERBATIM


def common(message: Message, manner: Manner) -> tuple[object, ...]:
    """What two mails must have the same to share a request."""
    return (
        manner,
        message.sender,
        message.reply_to,
        message.tags,
        message.attachments,
        bool(message.text),
        bool(message.html),
        _brings_unsubscribe(message) if message.headers else False,
        (message.subject, message.text, message.html) if manner is Manner.VERBATIM else None,
    )


def encode(messages: Sequence[Message], manner: Manner, template_id: str) -> bytes:
    """The body of one request for mails that have in common what they must."""
    if manner is Manner.VERBATIM or len(messages) == 1:  # alone it needs no tags
        words, personalizations = _verbatim(messages)
    elif manner is Manner.SUBSTITUTED:
        words, personalizations = _substituted(messages)
    else:
        words, personalizations = _templated(messages, template_id)
    return orjson.dumps({"personalizations": personalizations, **_common_fields(messages[0]), **words})


def _verbatim(messages: Sequence[Message]) -> tuple[Json, list[Json]]:
    first = messages[0]
    return _content(first.subject, first.text, first.html), [_envelope(m) for m in messages]


def _substituted(messages: Sequence[Message]) -> tuple[Json, list[Json]]:
    subject, text, html = _fresh_tags()
    personalizations = [_envelope(m) for m in messages]
    for personalization, message in zip(personalizations, messages, strict=True):
        personalization["substitutions"] = {subject: message.subject, text: message.text, html: message.html}
    return _content(subject, text if messages[0].text else "", html if messages[0].html else ""), personalizations


def _templated(messages: Sequence[Message], template_id: str) -> tuple[Json, list[Json]]:
    personalizations = [_envelope(m) for m in messages]
    for personalization, message in zip(personalizations, messages, strict=True):
        personalization["dynamic_template_data"] = {"subject": message.subject, "text": message.text, "html": message.html}
    return {"template_id": template_id}, personalizations


def _fresh_tags() -> tuple[str, str, str]:
    """Tags for subject, text and HTML: no mail can contain them, so none can be changed by another's."""
    token = secrets.token_hex(_TOKEN_BYTES)
    return f"-{token}s-", f"-{token}t-", f"-{token}h-"


def _common_fields(message: Message) -> Json:
    fields: Json = {"from": _address(message.sender)}
    if message.reply_to:
        fields["reply_to"] = _address(message.reply_to)
    if tags := [tag for tag in dict.fromkeys(message.tags) if 0 < len(tag) <= _CATEGORY_CHARACTERS and tag.isascii()]:
        fields["categories"] = tags[:_CATEGORIES]
    if message.attachments:
        fields["attachments"] = [_attachment(a) for a in message.attachments]
    if _brings_unsubscribe(message):  # with its own tracking SendGrid would add a second List-Unsubscribe
        fields["tracking_settings"] = {"subscription_tracking": {"enable": False}}
    return fields


def _attachment(attachment: Attachment) -> Json:
    fields = {"content": attachment.content, "type": attachment.content_type, "filename": attachment.name}
    fields["disposition"] = attachment.disposition
    if attachment.content_id:
        fields["content_id"] = attachment.content_id
    return fields


def _content(subject: str, text: str, html: str) -> Json:
    # the order is prescribed, and an empty part is refused
    parts = [{"type": kind, "value": value} for kind, value in (("text/plain", text), ("text/html", html)) if value]
    return {"subject": subject, "content": parts}


def _envelope(message: Message) -> Json:
    has_one = len(message.to) == 1 and not message.cc and not message.bcc
    fields: Json = {"to": [_recipient(message.to[0])]} if has_one else _distinct_recipients(message)
    fields["custom_args"] = _custom_args(message) if message.metadata else {"attempt_id": wire_id(message.attempt_id)}
    if message.headers:
        # "you must ensure these are properly encoded if they contain unicode characters"
        fields["headers"] = {name: header_value(value) for name, value in message.headers}
    return fields


def _distinct_recipients(message: Message) -> Json:
    """An address may stand only once in a personalization: its first place counts."""
    seen: set[str] = set()
    fields: Json = {}
    for field, addresses in (("to", message.to), ("cc", message.cc), ("bcc", message.bcc)):
        fresh: dict[str, Address] = {}
        for address in addresses:
            if address.email.lower() not in seen:
                fresh.setdefault(address.email.lower(), address)
        seen.update(fresh)
        if fresh:
            fields[field] = [_recipient(address) for address in fresh.values()]
    return fields


def _recipient(address: Address) -> Json:
    """Of a recipient (not of the sender) SendGrid puts the name into the header as it is. What is not quoted there is read as
    addresses: the mail is taken, and dropped as "Invalid" (sendgrid/sendgrid-python issue 291, sendgrid/sendgrid-ruby issue 394).
    """
    if not _SPECIALS.search(address.name):
        return _address(address)
    quoted = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return {"email": address.email, "name": f'"{quoted}"'}


def _address(address: Address) -> Json:
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def _custom_args(message: Message) -> dict[str, str]:
    """Ours first, then of the caller's as many as fit."""
    args = {"attempt_id": wire_id(message.attempt_id)}
    size_bytes = len(orjson.dumps(args))
    for name, value in message.metadata:
        more_bytes = len(orjson.dumps({name: value}))
        is_ours = name in args or name in _EVENT_FIELDS or name.startswith(_EVENT_PREFIXES)
        if not is_ours and size_bytes + more_bytes <= _CUSTOM_ARGS_BYTES:
            args[name] = value
            size_bytes += more_bytes
    return args


def _brings_unsubscribe(message: Message) -> bool:
    return "list-unsubscribe" in [name.lower() for name, _ in message.headers]
