"""What a request to SES v2 holds: one mail as simple content or as raw MIME, or up to 50 through one inline template.

The template is nothing but the placeholders for subject, text and HTML: each mail brings its own words as data. SES neither
escapes what it puts in nor reads it again (docs.aws.amazon.com/ses, "Advanced email personalization" and SendBulkEmail, 2026-11);
words that look like a placeholder travel without a template all the same.
This module must stay pure, and never let a mail leave without its attempt id as a tag.
Facts: botocore sesv2 2019-09-27 (1.44.8, 2026-11).
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from esp import base, mime
from mail.ids import wire_id
from mail.message import Address, Message

TEMPLATE_DATA_CHARACTERS = 262_144
_SURELY_SHORT = 40_000  # characters that JSON cannot escape beyond the limit, six for one
_MOST_HEADERS, _HEADER_NAME, _HEADER_LINE = 15, 126, 996
_MOST_TAGS = 20  # no limit is documented
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PRINTABLE = re.compile(r"[ -~]+")
_Json = dict[str, Any]


def is_batchable(message: Message) -> bool:
    """Whether a template can carry it beside others, word for word."""
    words = (message.subject, message.text, message.html, *(value for _, value in message.headers))
    if not is_simple(message) or any("{{" in text for text in words):
        return False
    characters = sum(map(len, words))
    return characters <= _SURELY_SHORT or len(_template_data(message)) <= TEMPLATE_DATA_CHARACTERS


def is_simple(message: Message) -> bool:
    """Whether SES can put the MIME together itself: no attachments, and headers as it takes them."""
    headers = message.headers
    if message.attachments or len(headers) > _MOST_HEADERS or not message.subject:
        return False
    if len({name.lower() for name, _ in headers}) < len(headers):
        return False
    return all(
        len(name) <= _HEADER_NAME and len(name) + len(value) <= _HEADER_LINE and _PRINTABLE.fullmatch(value) for name, value in headers
    )


def shared(message: Message) -> tuple[object, ...]:
    """What must be the same for all mails of one bulk request."""
    return message.sender, message.reply_to, bool(message.text), bool(message.html)


def encode_one(message: Message, configuration_set: str) -> bytes:
    """The body of SendEmail."""
    fields: _Json = {"Destination": _destination(message), "EmailTags": _tags(message), **_configuration(configuration_set)}
    if is_simple(message):
        fields |= {**_sender(message), "Content": {"Simple": _simple(message)}}
    else:  # From and Reply-To stand in the MIME
        fields["Content"] = {"Raw": {"Data": b64encode(mime.build(message)).decode()}}
    return orjson.dumps(fields)


def encode_bulk(messages: Sequence[Message], configuration_set: str) -> bytes:
    """The body of SendBulkEmail, for mails that share what `shared` tells."""
    first = messages[0]
    content = {"Subject": "{{subject}}"}
    content |= {"Text": "{{text}}"} if first.text else {}
    content |= {"Html": "{{html}}"} if first.html else {}
    fields: _Json = {
        **_sender(first),
        "DefaultContent": {"Template": {"TemplateContent": content, "TemplateData": "{}"}},
        "BulkEmailEntries": [_entry(message) for message in messages],
        **_configuration(configuration_set),
    }
    return orjson.dumps(fields)


def _entry(message: Message) -> _Json:
    fields: _Json = {
        "Destination": _destination(message),
        "ReplacementTags": _tags(message),
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": _template_data(message)}},
    }
    if message.headers:
        fields["ReplacementHeaders"] = _headers(message)
    return fields


def _template_data(message: Message) -> str:
    words = {"subject": message.subject, "text": message.text, "html": message.html}
    return orjson.dumps({name: text for name, text in words.items() if text}).decode()


def _simple(message: Message) -> _Json:
    body = {name: _content(text) for name, text in (("Text", message.text), ("Html", message.html)) if text}
    fields: _Json = {"Subject": _content(message.subject), "Body": body}
    if message.headers:
        fields["Headers"] = _headers(message)
    return fields


def _content(text: str) -> _Json:
    return {"Data": text, "Charset": "UTF-8"}


def _headers(message: Message) -> list[_Json]:
    return [{"Name": name, "Value": value} for name, value in message.headers]


def _sender(message: Message) -> _Json:
    fields: _Json = {"FromEmailAddress": mime.mailbox(message.sender)}
    if message.reply_to:
        fields["ReplyToAddresses"] = [mime.mailbox(message.reply_to)]
    return fields


def _destination(message: Message) -> _Json:
    groups: dict[str, tuple[Address, ...]] = {"ToAddresses": message.to, "CcAddresses": message.cc, "BccAddresses": message.bcc}
    return {name: [mime.mailbox(address) for address in addresses] for name, addresses in groups.items() if addresses}


def _tags(message: Message) -> list[_Json]:
    """Ours first, then of the caller's as many as SES takes; a name counts once."""
    tags = {"attempt_id": wire_id(message.attempt_id)}
    labels = [("tag", tag) for tag in message.tags[:1]]
    for name, value in (*message.metadata, *labels):
        if name not in tags and len(tags) < _MOST_TAGS and _TAG.fullmatch(name) and _TAG.fullmatch(value):
            tags[name] = value
    return [{"Name": name, "Value": value} for name, value in tags.items()]


def _configuration(name: str) -> _Json:
    return {"ConfigurationSetName": name} if name else {}


def words_bytes(message: Message) -> int:
    """About what a mail adds to a bulk body."""
    return base.words_bytes(message) + sum(len(name) + len(value) + 30 for name, value in message.headers)
