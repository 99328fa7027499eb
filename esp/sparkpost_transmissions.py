"""SparkPost's transmissions: the body of one request, from the mails that share it.

Different mails travel together as substitution data: the content is nothing but variables, and each recipient brings their values.
SparkPost does not look into a value for more of its template language, so a text with `{{` in it arrives as it is. Its links are
not rewritten either: mails that travel this way report opens, not clicks. Mails of the very same words, large ones and single ones
have their words in the content, with substitutions off there; headers, the subject among them, pass through the template engine
even then, so theirs are variables always.
This module must never let one mail's words reach another, nor put a stranger's text where SparkPost reads its template language.
Facts: SparkPost/developers.sparkpost.com transmissions, recipient-lists, template-language (2026-06-23).
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

import orjson

from esp.base import size_bytes, words_bytes
from esp.mime import header_value
from mail.ids import wire_id
from mail.message import Address, Attachment, Message

SUBSTITUTION_BYTES = 100_000  # "100KB" of one recipient, as JSON
METADATA_BYTES = 10_000  # "10KB", transmission and recipient together
_TAGS = 10  # a recipient's; any over the limit are ignored
_SURELY_FITS_BYTES = 16_000  # even if escaping makes six bytes of each
# Addresses that no check of SparkPost can find fault with. The others travel alone: the answer to many counts who was refused, and
# names nobody.
_PLAIN = re.compile(r"[A-Za-z0-9_%+-]+(?:\.[A-Za-z0-9_%+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}")
Json = dict[str, Any]


class Manner(Enum):
    """How a mail's words travel."""

    SUBSTITUTED = "substituted"
    VERBATIM = "verbatim"
    ALONE = "alone"


def manner_of(message: Message) -> Manner:
    has_one = len(message.to) == 1 and not message.cc and not message.bcc
    if not has_one or not _PLAIN.fullmatch(message.to[0].email):
        return Manner.ALONE
    raw_bytes = words_bytes(message) + sum([size_bytes(value) for _, value in message.headers])
    is_small = raw_bytes <= _SURELY_FITS_BYTES or (
        raw_bytes <= SUBSTITUTION_BYTES and len(orjson.dumps(_values(message, Manner.SUBSTITUTED))) <= SUBSTITUTION_BYTES
    )
    return Manner.SUBSTITUTED if is_small else Manner.VERBATIM


def common(message: Message, manner: Manner) -> tuple[object, ...]:
    """What two mails must have the same to share a request."""
    return (
        manner,
        message.sender,
        message.reply_to,
        message.attachments,
        bool(message.text),
        bool(message.html),
        tuple([name for name, _ in message.headers]),
        (message.text, message.html) if manner is Manner.VERBATIM else None,
        message.attempt_id if manner is Manner.ALONE else None,
    )


def encode(messages: Sequence[Message], manner: Manner) -> bytes:
    """The body of one request for mails that have in common what they must."""
    first = messages[0]
    if len(messages) == 1 and manner is Manner.SUBSTITUTED:
        manner = Manner.VERBATIM
    body: Json = {
        # Without it SparkPost would write an unsubscribe header of its own into every mail that needs none and beside any that has one.
        "options": {"transactional": True, "perform_substitutions": manner is Manner.SUBSTITUTED},
        "content": _content(first, manner),
    }
    if manner is Manner.ALONE:
        body |= {"metadata": _metadata(first), "substitution_data": _values(first, manner)}
        body["recipients"] = [_copy(address, first) for address in recipients(first)]
    else:
        body["recipients"] = [_recipient(message, manner) for message in messages]
    return orjson.dumps(body)


def recipients(message: Message) -> list[Address]:
    """Each address once, in the order To, Cc, Bcc: each is an envelope of its own, so a second would be a second mail."""
    unique: dict[str, Address] = {}
    for address in (*message.to, *message.cc, *message.bcc):
        unique.setdefault(address.email.lower(), address)
    return list(unique.values())


def _content(message: Message, manner: Manner) -> Json:
    is_substituted = manner is Manner.SUBSTITUTED
    content: Json = {"from": _named(message.sender), "subject": _expression("subject")}
    parts = {"text": message.text, "html": message.html}
    content |= {name: _expression(name) if is_substituted else words for name, words in parts.items() if words}
    headers = {name: _expression(_variable(n)) for n, (name, _) in enumerate(message.headers)}
    if message.cc:
        headers["CC"] = _spelled(message.cc)
    if headers:
        content["headers"] = headers
    if message.reply_to:
        content["reply_to"] = _spelled((message.reply_to,))
    if message.attachments:
        content |= _attachments(message.attachments)
    return content


def _attachments(attachments: Sequence[Attachment]) -> Json:
    """An image with a content id is shown in its place; SparkPost knows no content ids of other files."""
    images = [a for a in attachments if is_inline_image(a)]
    files = [a for a in attachments if not is_inline_image(a)]
    groups = {
        "attachments": [{"name": a.name, "type": a.content_type, "data": a.content} for a in files],
        "inline_images": [{"name": a.content_id, "type": a.content_type, "data": a.content} for a in images],
    }
    return {name: group for name, group in groups.items() if group}


def is_inline_image(attachment: Attachment) -> bool:
    return bool(attachment.content_id) and attachment.content_type.lower().startswith("image/")


def _recipient(message: Message, manner: Manner) -> Json:
    fields: Json = {
        "address": _named(message.to[0]),
        "metadata": _metadata(message),
        "substitution_data": _values(message, manner),
    }
    if message.tags:
        fields["tags"] = _tags(message)
    return fields


def _copy(address: Address, message: Message) -> Json:
    """One of several recipients: everybody sees the same To, whomever the copy is for."""
    has_one = len(message.to) == 1 and not message.cc and not message.bcc
    to = _named(address) if has_one else {"email": address.email, "header_to": _spelled(message.to)}
    return {"address": to, "tags": _tags(message)} if message.tags else {"address": to}


def _values(message: Message, manner: Manner) -> Json:
    """The values of the variables; a recipient's own win over any metadata of the same name."""
    values = {"subject": message.subject, **{_variable(n): header_value(value) for n, (_, value) in enumerate(message.headers)}}
    return {**values, "text": message.text, "html": message.html} if manner is Manner.SUBSTITUTED else values


def _expression(variable: str) -> str:
    return "{{{" + variable + "}}}"


def _variable(place: int) -> str:
    return f"header_{place}"


def _named(address: Address) -> Json:
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def _spelled(addresses: Sequence[Address]) -> str:
    """As they stand in a header, which SparkPost encodes itself."""
    return ", ".join([_mailbox(a) for a in addresses])


def _mailbox(address: Address) -> str:
    if not address.name:
        return address.email
    quoted = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address.email}>'


def _tags(message: Message) -> list[str]:
    return [tag for tag in dict.fromkeys(message.tags) if tag][:_TAGS]


def _metadata(message: Message) -> dict[str, str]:
    """Ours first, then of the caller's as many as fit."""
    fields = {"attempt_id": wire_id(message.attempt_id)}
    left_bytes = METADATA_BYTES - len(orjson.dumps(fields))
    for name, value in message.metadata:
        more_bytes = len(orjson.dumps({name: value}))
        if name and name not in fields and more_bytes <= left_bytes:
            fields[name] = value
            left_bytes -= more_bytes
    return fields
