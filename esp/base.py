"""The contract of an ESP, and the pure pieces that every ESP needs: waiting times, error texts, outcomes for a whole request.

This module must never do I/O, name an ESP or let an address into an outcome's detail.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from esp.health import Health
from mail.account import Account
from mail.callback import Callback
from mail.event import Event
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LONGEST_WAIT_S = 3600.0
DETAIL_CHARACTERS = 500
TOO_LARGE = (Verdict.UNSUPPORTED, Blame.MESSAGE)  # another ESP may take as much
_READ_CHARACTERS = 2000
_ENVELOPE_BYTES = 512  # about what addresses, ids and field names add
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_PROVIDER = re.compile(r"(?!base$)[a-z][a-z0-9]*")
# Text before and after an at sign in any of its spellings; a quoted local part may hold blanks.
_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s@"'<>(),;:]*)(?:@|\uff20|%40)[^\s@"'<>(),;]*""", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Limits(msgspec.Struct, frozen=True):
    """What one request and one message may hold, and how this ESP's connections and events behave.

    `idle_s`: an idle connection is retired after that long, safely before the ESP closes it.
    `evidence_margin_s`: how far events may trail behind the send before their absence means anything.
    """

    messages_per_request: int
    recipients_per_request: int
    recipients_per_message: int
    request_bytes: int
    message_bytes: int
    idle_s: float = 20.0
    evidence_margin_s: float = 300.0


class Esp(Protocol):
    """One account's way of speaking to its ESP. Every method is pure but for the account it was made with."""

    @property
    def limits(self) -> Limits: ...

    def unsupported(self, message: Message) -> str | None:
        """Why this ESP cannot express the message, or None. Such a message is not given to `prepare`; another ESP takes it."""
        ...

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """The requests that carry these messages, each message in exactly one, within the limits.

        A request's `messages` stand in the order of its body.
        """
        ...

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        """One outcome per message of the request, in its order. Whatever came back, this does not raise."""
        ...

    def health(self) -> Request:
        """A cheap request without messages, whose answer shows whether the account may send."""
        ...

    def read_health(self, reply: Reply | NoReply) -> Health:
        """What that answer says of the account. Whatever came back, this does not raise."""
        ...


@runtime_checkable
class Listener(Protocol):
    """The other direction: an `Esp` that also reads its callbacks. One that never calls back has neither method, which
    `isinstance(esp, Listener)` tells.
    """

    def verify(self, callback: Callback) -> None:
        """Raise BadCallback where the account has a key or secret for its callbacks and this one was not made with it.

        Where a key has to be fetched first (SNS' certificate) and cannot be had now, ConnectionError: later again.
        """
        ...

    def parse_events(self, document: Any) -> list[Event]:
        """The events of a callback's parsed body, a single one or an array, in its order. Pure but for a count of unknown types.

        What has no word of ours is left out; one odd event costs itself only. Raises BadCallback where nothing of the body can
        be read.
        """
        ...


def load(account: Account) -> Esp:
    """The ESP of an account, from the module that bears the provider's name. Raises LookupError where there is none."""
    if not _PROVIDER.fullmatch(account.provider):
        raise LookupError(f"not the name of an ESP: {account.provider!r}")
    try:
        module = importlib.import_module(f"esp.{account.provider}")
    except ModuleNotFoundError as error:
        if error.name != f"esp.{account.provider}":
            raise
        raise LookupError(f"no module esp/{account.provider}.py") from error
    if not hasattr(module, "Esp"):
        raise LookupError(f"esp/{account.provider}.py is not an ESP")
    return cast(Esp, module.Esp(account))


def outcomes(
    request: Request,
    verdict: Verdict,
    blame: Blame | None = None,
    detail: str = "",
    message_id: str = "",
    retry_after_s: float | None = None,
) -> list[Outcome]:
    """The same outcome for every message of a request; `detail` may be an ESP's raw words."""
    words = cut_detail(detail)
    return [Outcome(m.attempt_id, verdict, blame, message_id, words, retry_after_s) for m in request.messages]


def unanswered(request: Request, no_reply: NoReply) -> list[Outcome]:
    """Nobody answered: certainly not taken where no byte has left, unknown otherwise."""
    verdict = Verdict.UNKNOWN if no_reply.has_left else Verdict.UNAVAILABLE
    return outcomes(request, verdict, Blame.NETWORK, no_reply.error)


def unknown(request: Request, reply: Reply) -> list[Outcome]:
    """An answer that says neither yes nor no: a server error, a redirect, something unreadable."""
    return outcomes(request, Verdict.UNKNOWN, Blame.ESP, f"HTTP {reply.status} {text_of(reply.body)}")


def too_large(request: Request, words: str) -> list[Outcome]:
    """More than this ESP takes: less of it in each half, and a mail alone goes to another ESP."""
    is_alone = len(request.messages) == 1
    return outcomes(request, *TOO_LARGE, words) if is_alone else outcomes(request, Verdict.SPLIT, Blame.NEIGHBOUR, words)


def text_of(body: bytes) -> str:
    """The beginning of a body as text, for a detail."""
    return body[: 4 * _READ_CHARACTERS].decode(errors="replace")


def cut_detail(text: str) -> str:
    """An ESP's words without addresses and control characters, at most 500 characters."""
    head = text[:_READ_CHARACTERS]
    if len(text) > _READ_CHARACTERS:  # the last word may be half an address
        head = head.rpartition(" ")[0]
    return _ADDRESS.sub("[address]", _UNPRINTABLE.sub(" ", head)).strip()[:DETAIL_CHARACTERS]


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """What a Retry-After header asks for (seconds or an HTTP date), clamped to [0, 3600]; None where it says nothing usable."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return _clamped(float(value))
    try:
        moment = parsedate_to_datetime(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _clamped(aware.timestamp() - now_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def until_s(epoch: str | None, now_s: float) -> float | None:
    """The wait until a moment given in Unix seconds, clamped to [0, 3600]; None where it says nothing usable."""
    if epoch is None or not _SECONDS.fullmatch(epoch.strip()):
        return None
    return _clamped(float(epoch) - now_s)


def bodies(
    messages: Sequence[Message],
    limits: Limits,
    own_bytes: Callable[[Message], int],
    encode: Callable[[Sequence[Message]], bytes],
    shared_bytes: int = 0,
) -> Iterator[tuple[tuple[Message, ...], bytes]]:
    """Cut messages, in their order, into requests within the limits, and encode each.

    `own_bytes` is what a message adds to a body and `shared_bytes` what all have in common, both before escaping; a body that
    escaping makes too large is halved. Encoding a whole request at once costs a fifth of encoding mail by mail.
    """
    for run in _runs(messages, limits, own_bytes, limits.request_bytes - shared_bytes):
        yield from _halved(run, limits.request_bytes, encode)


def _runs(messages: Sequence[Message], limits: Limits, own_bytes: Callable[[Message], int], room_bytes: int) -> Iterator[list[Message]]:
    run: list[Message] = []
    bytes_so_far = recipients_so_far = 0
    for message in messages:
        own = own_bytes(message) + _ENVELOPE_BYTES
        bytes_so_far += own
        recipients_so_far += recipients_of(message)
        is_over = bytes_so_far > room_bytes or recipients_so_far > limits.recipients_per_request
        if run and (is_over or len(run) == limits.messages_per_request):
            yield run
            run, bytes_so_far, recipients_so_far = [], own, recipients_of(message)
        run.append(message)
    if run:
        yield run


def _halved(
    run: Sequence[Message], limit_bytes: int, encode: Callable[[Sequence[Message]], bytes]
) -> Iterator[tuple[tuple[Message, ...], bytes]]:
    body = encode(run)
    if len(body) <= limit_bytes or len(run) == 1:
        yield tuple(run), body
        return
    half = len(run) // 2
    yield from _halved(run[:half], limit_bytes, encode)
    yield from _halved(run[half:], limit_bytes, encode)


def size_bytes(text: str) -> int:
    """The length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def content_bytes(message: Message) -> int:
    """The bytes of what a message says and carries, attachments in base64 as they travel."""
    return words_bytes(message) + attachments_bytes(message)


def words_bytes(message: Message) -> int:
    """Subject, text and HTML."""
    return size_bytes(message.subject) + size_bytes(message.html) + size_bytes(message.text)


def attachments_bytes(message: Message) -> int:
    return sum([len(a.content) for a in message.attachments]) if message.attachments else 0


def recipients_of(message: Message) -> int:
    """To, Cc and Bcc together."""
    return len(message.to) + len(message.cc) + len(message.bcc)


def is_about_recipient(message: Message, words: str) -> bool:
    """Do an ESP's words about a bad address mean the message's recipient, and not another To, Cc or Bcc?"""
    return recipients_of(message) == 1 or is_named(message, words)


def is_named(message: Message, words: str) -> bool:
    """Does the address of the message's recipient stand in an ESP's words?"""
    named = {found.lower().rstrip(".") for found in _ADDRESS.findall(words[:_READ_CHARACTERS])}
    return message.to[0].email.lower() in named


def _clamped(wait_s: float) -> float:
    return min(max(wait_s, 0.0), LONGEST_WAIT_S)


class Sought(msgspec.Struct, frozen=True):
    """An uncertain attempt that an ESP shall be asked about; its id tells when it was made. `recipient` is the message's first To."""

    attempt_id: str
    recipient: str


class Search(msgspec.Struct, frozen=True):
    """One question to an ESP's own records, and the attempts that its answer speaks of. Its request carries no messages."""

    request: Request
    attempts: tuple[Sought, ...]


@runtime_checkable
class Finder(Protocol):
    """An `Esp` that can also be asked what it took. One whose ESP keeps no searchable records has neither method, which
    `isinstance(esp, Finder)` tells.
    """

    def find(self, attempts: Sequence[Sought]) -> list[Search]:
        """The questions that settle these attempts; one that the ESP's records no longer reach is in none of them."""
        ...

    def read_found(self, search: Search, reply: Reply | NoReply) -> dict[str, bool]:
        """By attempt id: True = the ESP took it, False = its records are read whole and do not know it.

        An attempt of which neither is certain (no answer, an error, more than one page) is left out. False proves nothing by
        itself: no ESP says how late its records are (2026-11), and some leave mail out of them. It only adds to the silence of the
        webhooks, for an attempt that is older than `Limits.evidence_margin_s`. Whatever came back, this does not raise.
        """
        ...
