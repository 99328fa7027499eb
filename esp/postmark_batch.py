"""Postmark's batch: the body of one request, from the mails that travel in it.

This module must never let a label (tag, metadata) that Postmark does not take stop a mail: such labels stay behind.
Facts: postmarkapp.com support articles 1056, 1125, 1180 and api-evangelist/postmark (2026-08), ActiveCampaign/postmark-skills
(2026-02).
"""

from collections.abc import Sequence
from typing import Any

import orjson

from esp.mime import header_value
from mail.ids import wire_id
from mail.message import Address, Attachment, Message

_TAG_CHARACTERS = 1000
_METADATA_FIELDS, _METADATA_NAME_CHARACTERS, _METADATA_VALUE_CHARACTERS = 10, 20, 80
_Json = dict[str, Any]


def encode(messages: Sequence[Message], stream: str = "") -> bytes:
    """The body of one batch; without a `stream` Postmark takes its default, which is for transactional mail."""
    fields = [_fields(message) for message in messages]
    return orjson.dumps([{**one, "MessageStream": stream} for one in fields] if stream else fields)


def _fields(message: Message) -> _Json:
    fields: _Json = {
        "From": _address(message.sender),
        "To": _addresses(message.to),
        "Subject": message.subject,
        "Metadata": _metadata(message) if message.metadata else {"attempt_id": wire_id(message.attempt_id)},
    }
    if message.html:
        fields["HtmlBody"] = message.html
    if message.text:
        fields["TextBody"] = message.text
    if message.cc or message.bcc or message.reply_to:
        copies = {"Cc": message.cc, "Bcc": message.bcc, "ReplyTo": (message.reply_to,) if message.reply_to else ()}
        fields.update({name: _addresses(addresses) for name, addresses in copies.items() if addresses})
    if message.tags and (tags := [tag for tag in message.tags if 0 < len(tag) <= _TAG_CHARACTERS]):
        fields["Tag"] = tags[0]
    if message.headers:
        fields["Headers"] = [{"Name": name, "Value": header_value(value)} for name, value in message.headers]
    if message.attachments:
        fields["Attachments"] = [_attachment(a) for a in message.attachments]
    return fields


def _attachment(attachment: Attachment) -> _Json:
    fields = {"Name": attachment.name, "Content": attachment.content, "ContentType": attachment.content_type}
    if attachment.content_id:
        fields["ContentID"] = f"cid:{attachment.content_id}"
    return fields


def _addresses(addresses: Sequence[Address]) -> str:
    return _address(addresses[0]) if len(addresses) == 1 else ", ".join([_address(a) for a in addresses])


def _address(address: Address) -> str:
    if not address.name:
        return address.email
    quoted = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address.email}>'


def _metadata(message: Message) -> dict[str, str]:
    """Ours first, then of the caller's as many as Postmark takes; it refuses names that differ only in case."""
    fields = {"attempt_id": wire_id(message.attempt_id)}
    taken = {"attempt_id"}
    for name, value in message.metadata:
        is_fit = 0 < len(name) <= _METADATA_NAME_CHARACTERS and len(value) <= _METADATA_VALUE_CHARACTERS
        if is_fit and name.lower() not in taken and len(fields) < _METADATA_FIELDS:
            fields[name] = value
            taken.add(name.lower())
    return fields
