"""What may become a header: which names a job may set, and no control character anywhere.

ESPs pass header text through as it comes, so a line break in a name or a subject would be a header of its own. Everything that
becomes a header is checked here once more, after rendering, whatever the decoder has checked before.
"""

import re
from collections.abc import Iterable

from mail.errors import RenderError
from mail.message import Message

MAX_HEADER_CHARS = 998  # RFC 5322, 2.1.1

# C0 and C1 with DEL, and the two separators that Unicode and some mailers take for line ends
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322, 3.6.8: printable ASCII without the colon
# Set by us, by the ESP or on the way
_OWN = frozenset({
    "to", "cc", "bcc", "from", "sender", "reply-to", "subject", "date", "message-id", "return-path", "received", "mime-version",
    "delivered-to", "authentication-results", "received-spf", "domainkey-signature", "x-attempt-id",
})  # fmt: skip
# Read by an ESP as orders about the whole request, recipients included
_ORDERS = frozenset({"x-smtpapi", "x-msys-api", "x-sg-id", "x-sg-eid"})
_FORBIDDEN_PREFIXES = ("content-", "dkim-", "arc-", "resent-")


def check_message(message: Message) -> None:
    """Raises RenderError: `header-injection` for control characters and for headers that are not the job's to set,
    `render-error` for an empty or overlong subject.
    """
    _check_text("the subject", message.subject)
    if not message.subject.strip():
        raise RenderError("render-error", "the subject is empty")
    if len(message.subject) > MAX_HEADER_CHARS:
        raise RenderError("render-error", f"the subject is longer than {MAX_HEADER_CHARS} characters")
    _check_addresses(message)
    _check_headers(message.headers)
    for attachment in message.attachments:
        for text in (attachment.name, attachment.content_type, attachment.disposition, attachment.content_id):
            _check_text("an attachment", text)


def _check_addresses(message: Message) -> None:
    reply_to = (message.reply_to,) if message.reply_to else ()
    for address in (message.sender, *reply_to, *message.to, *message.cc, *message.bcc):
        _check_text("an address", address.email)
        _check_text("a name", address.name)


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        _check_text("a header's name", name)
        if not _NAME.fullmatch(name):
            raise RenderError("header-injection", "a header's name has 1 to 76 printable ASCII characters and no colon")
        if not is_allowed(name):
            raise RenderError("header-injection", f"a job may not set the header {name}")
        _check_text(f"the header {name}", value)
        if len(value) > MAX_HEADER_CHARS:
            raise RenderError("render-error", f"the header {name} is longer than {MAX_HEADER_CHARS} characters")


def is_allowed(name: str) -> bool:
    """Whether a job may set the header of this name; case does not matter."""
    lowered = name.lower()
    return lowered not in _OWN | _ORDERS and not lowered.startswith(_FORBIDDEN_PREFIXES)


def _check_text(what: str, text: str) -> None:
    if _CONTROL.search(text):
        raise RenderError("header-injection", f"{what} holds a line break or another control character")
