"""Text that becomes part of a mail's header: subjects, names, tags, file names and the caller's own headers.

Must let nothing through that could start a new header line or be read as one. ESPs with JSON APIs pass such strings on as they
are, so nobody after us checks again.
"""

import re
import unicodedata
from collections.abc import Mapping

from mail.document import join
from mail.errors import InvalidJob
from mail.limits import MAX_DISPLAY_NAME, MAX_HEADER_NAME, MAX_HEADER_VALUE

# C0, DEL, C1 (with NEL, U+0085) and the two Unicode line ends, which some libraries fold into CR LF
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Marks that turn the reading direction or have no width: the tools of those who forge names. A joiner between two letters
# that are not ASCII is spelling (Persian, Hindi, emoji).
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_HEADER_NAME = re.compile(rf"[!-9;-~]{{1,{MAX_HEADER_NAME}}}")

# Beside X-*: the rest is written by us, by the ESP or by MTAs on the way.
_ALLOWED_HEADERS = frozenset(
    (
        *("in-reply-to", "references", "auto-submitted", "precedence", "importance", "priority", "sensitivity", "keywords"),
        *("comments", "organization", "feedback-id", "thread-topic", "thread-index", "expires", "reply-by"),
        *("list-id", "list-help", "list-archive", "list-owner", "list-post", "list-subscribe"),
        *("list-unsubscribe", "list-unsubscribe-post"),
    )
)
# X-* that steers an SMTP endpoint (recipients, suppression, tracking) or carries our own attempt id.
_STEERING_HEADERS = ("x-smtpapi", "x-msys-api", "x-ses-", "x-pm-", "x-xs", "x-attempt-id")


def refuse_controls(text: str, path: str) -> None:
    """Raise InvalidJob: header-injection for control characters and line ends, invalid-job for NUL."""
    if text.isprintable() or not (found := _CONTROLS.search(text)):
        return
    if "\0" in text:
        raise InvalidJob("invalid-job", f"{path}: holds a NUL character, remove it")
    what = "a line break" if found[0] in "\r\n\x85\u2028\u2029" else "a control character"
    raise InvalidJob("header-injection", f"{path}: holds {what}, remove it")


def read_display_name(text: str, path: str) -> str:
    """A person's name, NFC-normalised and without blanks around it; raises InvalidJob (header-injection, invalid-address, invalid-job)."""
    if len(text) > MAX_DISPLAY_NAME:  # first, because normalising a long run of combining marks takes quadratic time
        raise InvalidJob("invalid-job", f"{path}: must have at most {MAX_DISPLAY_NAME} characters")
    if not text.isascii() or not text.isprintable():
        refuse_controls(text, path)
        if _INVISIBLE.search(text):
            raise InvalidJob("invalid-address", f"{path}: holds invisible or direction-changing characters, remove them")
        text = unicodedata.normalize("NFC", text)
    return text.strip()


def read_subject(text: str, path: str, max_length: int) -> str:
    """A subject as it came; raises InvalidJob (header-injection, invalid-job)."""
    refuse_controls(text, path)
    if len(text) > max_length:
        raise InvalidJob("invalid-job", f"{path}: must have at most {max_length} characters")
    return text


def read_tags(raw: list[str] | None, path: str) -> tuple[str, ...]:
    """Tags without the empty ones; raises InvalidJob (header-injection)."""
    if not raw:
        return ()
    for index, tag in enumerate(raw):
        refuse_controls(tag, f"{path}[{index}]")
    return tuple(tag for tag in raw if tag)


def read_metadata(texts: Mapping[str, str], path: str) -> tuple[tuple[str, str], ...]:
    """Pairs that travel beside the mail where the ESP takes them; raises InvalidJob (header-injection)."""
    for name, value in texts.items():
        refuse_controls(name, path)
        refuse_controls(value, join(path, name))
    return tuple(texts.items())


def read_headers(raw: Mapping[str, str | list[str]] | None, path: str) -> tuple[tuple[str, str], ...]:
    """The caller's headers as pairs, one per value; raises InvalidJob (header-injection, not-allowed, invalid-job)."""
    if not raw:
        return ()
    pairs = []
    for name, values in raw.items():
        _check_header_name(name, path)
        where = join(path, name)
        for value in [values] if isinstance(values, str) else values:
            _check_header_value(value, where)
            pairs.append((name, value))
    return tuple(pairs)


def _check_header_name(name: str, path: str) -> None:
    refuse_controls(name, path)
    where = join(path, name)
    if not _HEADER_NAME.fullmatch(name):
        raise InvalidJob("header-injection", f"{where}: a header name has 1 to {MAX_HEADER_NAME} ASCII characters without blanks or colons")
    lower = name.lower()
    if lower.startswith(_STEERING_HEADERS) or not (lower.startswith("x-") or lower in _ALLOWED_HEADERS):
        raise InvalidJob("not-allowed", f"{where}: this header is written by the sender's side; use the job's own field, or X-...")


def _check_header_value(value: str, path: str) -> None:
    refuse_controls(value, path)
    if len(value) > MAX_HEADER_VALUE:
        raise InvalidJob("invalid-job", f"{path}: must have at most {MAX_HEADER_VALUE} characters")
