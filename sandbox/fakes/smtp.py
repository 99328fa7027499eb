"""A mail relay as its sender meets it: who may send, to whom, and what a content must look like.

It judges; smtp_listener.py speaks the protocol. A `Call` to it is one mail: its headers are the envelope (`mail-from`, `rcpt-to`
one a line, `body`, `smtputf8`), and the status of an `Answer` is the SMTP code. Rules and texts: RFC 5321, 5322, 3463, 6152, 6531,
and Postfix's own words (postfix.org, 2026-11). Nothing here knows the product's adapter.
"""

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import cast

from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail, Traits, is_listed

MAX_RECIPIENTS = 100
_MAX_BYTES = 25 * 1024 * 1024
_LONGEST_LINE = 998
_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+", re.ASCII)
_UTF8_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
_ONCE = (b"from", b"date", b"to", b"cc", b"subject", b"message-id", b"mime-version", b"reply-to")
_DUE = (b"from", b"date")
_TEXTS = {
    421: b"4.3.2 Service not available, closing transmission channel",
    451: b"4.3.0 Temporary server error. Please try again later",
    452: b"4.3.1 Insufficient system storage",
    454: b"Throttling failure: Maximum sending rate exceeded.",
    550: b"5.7.1 Command rejected",
    552: b"5.3.4 Message size exceeds fixed limit",
    554: b"5.7.1 Transaction failed",
}


class Fake:
    """A relay. With a `key` ("user:password") it wants to be logged in to; without, it takes everybody."""

    name = "smtp"
    max_body_bytes = _MAX_BYTES

    def __init__(self) -> None:
        self._queued = 0

    def answer(self, call: Call) -> Answer:
        """Judge one mail, its envelope having been taken."""
        mail = parse(call.body)
        problem = _content_problem(call) or _parse_problem(mail)
        if problem:
            return Answer(554, b"5.6.0 " + problem)
        self._queued += 1
        accepted = Accepted(
            str(mail["X-Attempt-Id"]) if mail["X-Attempt-Id"] else None,
            str(mail["Message-ID"] or ""),
            call.headers["rcpt-to"].split("\n")[0],
            _decoded(mail["Subject"]),
            0,
        )
        return Answer(250, b"2.0.0 Ok: queued as %012X" % self._queued, accepted=[accepted])

    def refuse(self, status: int) -> Answer:
        """A refusal with a code that a relay has; other ones (an HTTP 503, say) become 451."""
        code = status if status in _TEXTS else {413: 552, 429: 454}.get(status, 451)
        return Answer(code, _TEXTS[code])

    def mail(self, body: bytes, item: int) -> Mail:
        message = parse(body)
        texts = {kind: _text_of(message, kind) for kind in ("html", "plain")}
        files = [_attachment(part) for part in message.walk() if part.get_filename()]
        headers = [(name, _decoded(str(value))) for name, value in message.items()]
        attempt_id = message["X-Attempt-Id"]
        return Mail(
            _decoded(message["Subject"]), texts["html"], texts["plain"], headers, {"attempt_id": attempt_id} if attempt_id else {}, files
        )

    def judge_login(self, username: str, password: str, traits: Traits) -> Answer:
        if traits.key and f"{username}:{password}" != traits.key:
            return Answer(535, b"5.7.8 Error: authentication failed: authentication failure")
        return Answer(235, b"2.7.0 Authentication successful")

    def judge_sender(self, address: str, is_logged_in: bool, is_utf8: bool, traits: Traits) -> Answer:
        if traits.key and not is_logged_in:
            return Answer(530, b"5.7.0 Authentication required")
        if not traits.has_credits:
            return Answer(451, b"Authentication failed: Maximum credits exceeded")
        if problem := _address_problem(address, is_utf8):
            return problem
        domain = address.rpartition("@")[2].lower()
        if traits.sender_domains and domain not in traits.sender_domains:
            return Answer(550, b"5.7.1 Unconfigured Sending Domain <%b>" % domain.encode())
        return Answer(250, b"2.1.0 Ok")

    def judge_recipient(self, address: str, count: int, is_utf8: bool, traits: Traits) -> Answer:
        """`count` recipients have been taken before."""
        spelled = address.encode("utf-8", "replace")
        if count >= MAX_RECIPIENTS:
            return Answer(452, b"4.5.3 Error: too many recipients")
        if not traits.has_send_scope:
            return Answer(554, b"5.7.1 <%b>: Relay access denied" % spelled)
        if problem := _address_problem(address, is_utf8):
            return problem
        if is_listed(address, traits.bad_recipients):
            return Answer(550, b"5.1.1 <%b>: Recipient address rejected: User unknown" % spelled)
        if is_listed(address, traits.inactive):
            return Answer(550, b"5.2.1 <%b>: Recipient address rejected: mailbox disabled" % spelled)
        return Answer(250, b"2.1.5 Ok")


def parse(content: bytes) -> EmailMessage:
    # cast: a policy other than the old one makes EmailMessages
    return cast(EmailMessage, message_from_bytes(content, policy=policy.compat32.clone(message_factory=EmailMessage)))


def _address_problem(address: str, is_utf8: bool) -> Answer | None:
    if not address.isascii() and not is_utf8:
        return Answer(553, b"5.6.7 Must use SMTPUTF8")
    if not (_UTF8_ADDRESS if is_utf8 else _ADDRESS).fullmatch(address):
        return Answer(501, b"5.1.3 Bad address syntax")
    return None


def _content_problem(call: Call) -> bytes | None:
    """What a strict relay finds wrong with a content; None where it is sound."""
    content = call.body
    if not content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r"):
        return b"bare <LF> or <CR> received"
    if max(map(len, content.split(b"\r\n"))) > _LONGEST_LINE:
        return b"line longer than 998 bytes"
    if not content.isascii() and call.headers.get("body") != "8BITMIME":
        return b"8-bit content without BODY=8BITMIME"
    head, _, _ = content.partition(b"\r\n\r\n")
    return _head_problem(head, call.headers.get("smtputf8") == "yes")


def _head_problem(head: bytes, is_utf8: bool) -> bytes | None:
    if not head.isascii() and not is_utf8:
        return b"non-ASCII header without SMTPUTF8"
    names: list[bytes] = []
    for line in head.split(b"\r\n"):
        if line.startswith((b" ", b"\t")) and names:
            continue
        if not _HEADER.match(line):
            return b"not a header"
        names.append(line.partition(b":")[0].strip().lower())
    if missing := [name for name in _DUE if name not in names]:
        return b"no header " + missing[0]
    doubled = [name for name in _ONCE if names.count(name) > 1]
    return b"more than one header " + doubled[0] if doubled else None


def _parse_problem(message: EmailMessage) -> bytes | None:
    for part in message.walk():
        if part.defects:
            return type(part.defects[0]).__name__.encode()
    return None


def _text_of(message: EmailMessage, kind: str) -> str:
    for part in message.walk():
        if part.get_content_type() == f"text/{kind}" and not part.get_filename():
            payload = part.get_payload(decode=True)
            text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
            return text.replace("\r\n", "\n")
    return ""


def _attachment(part: EmailMessage) -> Attachment:
    payload = part.get_payload(decode=True)
    return Attachment(part.get_filename() or "", part.get_content_type(), len(payload) if isinstance(payload, bytes) else 0)


def _decoded(value: object) -> str:
    """A header's words; unfolded, encoded words read."""
    text = str(value) if value else ""
    return re.sub(r"\r?\n", "", str(make_header(decode_header(text))) if "=?" in text else text)
