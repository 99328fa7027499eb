"""A message as MIME (RFC 5322, 2045 to 2047, 2231), built once and by hand, all of it in 7-bit characters.

Only an address whose local part is not ASCII brings other bytes in (SMTPUTF8). It must never let a value begin a new header line,
nor write Bcc, nor read the clock: the same message is always the same bytes.
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import quote

from mail.ids import time_of, wire_id
from mail.message import Address, Attachment, Message

_LINE = 76  # RFC 2045 and 2047
_LONGEST_LINE = 998  # RFC 5322, 2.1.1
_FIRST_WORD_BYTES = 9  # at least, behind a long name
_WORD_BYTES = 45  # of UTF-8 in one encoded word: 60 characters of base64 and 12 around them
_FILE_NAME = 60  # characters on one line
_PIECE = re.compile(r"(?:%..|[^%]){1,20}")  # at most 60 characters, no %XX torn apart
_GLUE = "\r\n "
_LATEST_S = 253_402_300_799.0  # the last second of the year 9999
_OWN_HEADERS = frozenset(
    ("from", "sender", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version", "x-attempt-id", "return-path", "received")
)
_OWN_PREFIXES = ("content-", "dkim-", "resent-")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,126}")
_TOKEN = re.compile(r" *[^ ]+")
_ENCODED_WORD = re.compile(r"=\?[^? ]+\?[bq]\?", re.IGNORECASE)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_MEDIA_TYPE = re.compile(r"(?!message/|multipart/)[\w.+-]+/[\w.+-]+( ?; ?[ -~]+)?", re.ASCII)
_CONTENT_ID = re.compile(r"[!-;=?-~]+")
_ASCII = bytes(range(128))


class Part(NamedTuple):
    """A part of a mail: its header lines, folded already, and its body in transfer encoding, without an end of line behind it."""

    headers: list[str]
    body: bytes


def build(message: Message) -> bytes:
    """The whole mail with CRLF as line ends, the last line included; Bcc belongs to the envelope only."""
    content = _content(message)
    head = "\r\n".join([*_headers(message), "MIME-Version: 1.0", *content.headers])
    return b"%b\r\n\r\n%b%b" % (head.encode("utf-8", "replace"), content.body, b"" if content.body.endswith(b"\r\n") else b"\r\n")


def message_id(message: Message) -> str:
    """Our Message-ID: the attempt's wire id at the sender's domain, in angle brackets."""
    return f"<{wire_id(message.attempt_id)}@{message.sender.email.rpartition('@')[2]}>"


def mailbox(address: Address, glue: str = " ") -> str:
    """An address with its name as a header shows it; `glue` stands between the encoded words of a long name."""
    return f"{_phrase(address.name, glue)} <{address.email}>" if address.name else address.email


def _headers(message: Message) -> list[str]:
    sent_at = datetime.fromtimestamp(min(time_of(message.attempt_id), _LATEST_S), UTC)
    lines = [_addresses("From", (message.sender,))]
    lines += [_addresses(name, addresses) for name, addresses in (("To", message.to), ("Cc", message.cc)) if addresses]
    if message.reply_to:
        lines.append(_addresses("Reply-To", (message.reply_to,)))
    lines += [header("Subject", message.subject), f"Date: {format_datetime(sent_at)}", f"Message-ID: {message_id(message)}"]
    lines.append(f"X-Attempt-Id: {wire_id(message.attempt_id)}")
    return lines + [header(name, value) for name, value in message.headers if _is_callers(name, message)]


def _is_callers(name: str, message: Message) -> bool:
    """Whether the caller may write this header: not those that we write, and no name that is none."""
    lowered = name.lower()
    is_ours = lowered in _OWN_HEADERS or lowered.startswith(_OWN_PREFIXES) or (lowered == "reply-to" and message.reply_to is not None)
    return not is_ours and _HEADER_NAME.fullmatch(name) is not None


def header(name: str, value: str) -> str:
    """An unstructured header, folded; what is not plain ASCII becomes encoded words."""
    value = value.strip()
    if not _is_plain(value):
        return f"{name}: {_encoded(value, _GLUE, taken=len(name) + 2)}"
    if len(name) + 2 + len(value) <= _LINE:
        return f"{name}: {value}"
    folded = _folded(name, value)
    if max(map(len, folded)) > _LONGEST_LINE:
        return f"{name}: {_encoded(value, _GLUE, taken=len(name) + 2)}"
    return "\r\n".join(folded)


def header_value(value: str) -> str:
    """An unstructured header's value in ASCII, on one line, for an ESP that writes the header itself."""
    return value if _is_plain(value) else _encoded(value, " ")


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and not _ENCODED_WORD.search(value)


def _folded(name: str, value: str) -> list[str]:
    """Broken before blanks, so that unfolding gives the very same value."""
    lines, line = [], f"{name}:"
    for token in _TOKEN.findall(f" {value}"):
        if len(line) + len(token) > _LINE and not line.endswith(":"):
            lines.append(line)
            line = ""
        line += token
    return [*lines, line]


def _encoded(text: str, glue: str, taken: int = 0) -> str:
    """RFC 2047: as many encoded words as it takes, none ending within a character; of the first line so much is `taken`."""
    data = text.encode("utf-8", "replace")
    words, start, room = [], 0, max(_WORD_BYTES - taken, _FIRST_WORD_BYTES)
    while start < len(data):
        end, room = min(start + room, len(data)), _WORD_BYTES
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b64encode(data[start:end]).decode()}?=")
        start = end
    return glue.join(words)


def _addresses(name: str, addresses: Sequence[Address]) -> str:
    return f"{name}: " + f",{_GLUE}".join([mailbox(address, _GLUE) for address in addresses])


def _phrase(name: str, glue: str) -> str:
    if not _is_plain(name):
        return _encoded(name, glue)
    if _ATOMS.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _content(message: Message) -> Part:
    """Text and HTML as alternatives, pictures beside the HTML that shows them, other files behind both."""
    beside = [a for a in message.attachments if a.content_id and message.html]
    behind = [a for a in message.attachments if not (a.content_id and message.html)]
    parts = [_text("plain", message.text)] if message.text or not message.html else []
    if message.html:
        html = _text("html", message.html)
        parts.append(_multipart(message, "related", [html, *map(_file, beside)], '; type="text/html"') if beside else html)
    content = parts[0] if len(parts) == 1 else _multipart(message, "alternative", parts)
    return _multipart(message, "mixed", [content, *map(_file, behind)]) if behind else content


def _multipart(message: Message, kind: str, parts: Iterable[Part], parameters: str = "") -> Part:
    # "=_" can be in neither quoted-printable nor base64, and nobody knew the id when the words were written
    boundary = f"=_{message.attempt_id.replace('-', '')}_{kind}"
    pieces = [b"--%b\r\n%b\r\n\r\n%b" % (boundary.encode(), "\r\n".join(p.headers).encode("utf-8", "replace"), p.body) for p in parts]
    body = b"\r\n".join([*pieces, b"--%b--\r\n" % boundary.encode()])
    return Part([f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"{parameters}'], body)


def _text(kind: str, text: str) -> Part:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    data = lines.replace("\n", "\r\n").encode("utf-8", "replace")
    encoding, body = _transfer(data, is_short=max(map(len, lines.split("\n"))) <= _LONGEST_LINE)
    return Part([f"Content-Type: text/{kind}; charset=utf-8", f"Content-Transfer-Encoding: {encoding}"], body)


def _transfer(data: bytes, is_short: bool) -> tuple[str, bytes]:
    """The shortest encoding that survives every server on the way."""
    if is_short and data.isascii() and b"\0" not in data:
        return "7bit", data
    beyond_ascii = len(data.translate(None, _ASCII))
    if beyond_ascii * 6 > len(data):
        return "base64", _wrapped(b64encode(data))
    spelled = binascii.b2a_qp(data, istext=True)
    # it breaks lines as the first line end of the data does, and with a bare LF where there is none
    return "quoted-printable", spelled if b"\n" in data else spelled.replace(b"\n", b"\r\n")


def _file(attachment: Attachment) -> Part:
    media_type = attachment.content_type if _MEDIA_TYPE.fullmatch(attachment.content_type) else "application/octet-stream"
    disposition = "inline" if attachment.disposition == "inline" else "attachment"
    headers = [
        f"Content-Type: {media_type}",
        f"Content-Disposition: {disposition}{_file_name(attachment.name)}",
        "Content-Transfer-Encoding: base64",
    ]
    if _CONTENT_ID.fullmatch(attachment.content_id):
        headers.append(f"Content-ID: <{attachment.content_id}>")
    return Part(headers, _wrapped(attachment.content.encode()))


def _file_name(name: str) -> str:
    """RFC 2183, and RFC 2231 where the name is long or not ASCII: in numbered pieces."""
    if not name:
        return ""
    if name.isascii() and name.isprintable() and len(name) <= _FILE_NAME:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n filename="{escaped}"'
    spelled = quote(name.encode("utf-8", "replace"), safe="")
    if len(spelled) <= _FILE_NAME:
        return f";\r\n filename*=utf-8''{spelled}"
    pieces = _PIECE.findall(spelled)
    first, rest = f";\r\n filename*0*=utf-8''{pieces[0]}", enumerate(pieces[1:], start=1)
    return first + "".join([f";\r\n filename*{number}*={piece}" for number, piece in rest])


def _wrapped(text: bytes) -> bytes:
    """Base64 in lines of 76."""
    return b"\r\n".join([text[start : start + _LINE] for start in range(0, len(text), _LINE)])
