"""What a fake ESP is: a pure judge of requests in that ESP's wire format.

A fake decides what is accepted and how the reply reads. It must never write, wait or misbehave itself:
the listener does all three, so that every fake does them alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


def _spares(item: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Traits:
    """What an operator may tell a fake about the account it plays.

    `key`: the only credential taken ("" = any). `bad_recipients` are refused, `inactive` are suppressed at the ESP;
    both hold addresses or "@domain", lower case. `sender_domains`: domains that may send (none = all).
    `templates`: known template ids (none = any of the right form). An account that is not approved yet may write to its own domains
    only, at those ESPs that know such a state.
    """

    key: str = ""
    bad_recipients: frozenset[str] = frozenset()
    inactive: frozenset[str] = frozenset()
    sender_domains: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()
    has_send_scope: bool = True
    has_credits: bool = True
    is_approved: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, read whole. `is_spoiled(item)` says which items the fake shall refuse for no good reason."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    traits: Traits = field(default_factory=Traits)
    is_spoiled: Callable[[int], bool] = _spares


class Accepted(NamedTuple):
    """One email that the fake took: `item` is its place in the request's body."""

    attempt_id: str | None
    message_id: str
    recipient: str
    subject: str
    item: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply, and the emails that were taken with it (a refused request takes none)."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: Sequence[Accepted] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Mail:
    """One email as its recipient would see it; `headers` in order, `metadata` as the sender gave it."""

    subject: str
    html: str
    text: str
    headers: Sequence[tuple[str, str]]
    metadata: Mapping[str, str]
    attachments: Sequence[Attachment] = ()


class FakeEsp(Protocol):
    """One ESP. `max_body_bytes` bounds what is read of a request; more is answered by `refuse(413)`."""

    name: str
    max_body_bytes: int

    def answer(self, call: Call) -> Answer:
        """Judge one request by the real one's rules."""
        ...

    def refuse(self, status: int) -> Answer:
        """The body and headers that the real one sends with this HTTP error status (413, 429, 5xx)."""
        ...

    def mail(self, body: bytes, item: int) -> Mail:
        """Read one email back out of a request that was accepted."""
        ...


def is_listed(address: str, listed: frozenset[str]) -> bool:
    """Whether an address, or its whole domain as "@domain", is in the list."""
    lowered = address.lower()
    return lowered in listed or lowered[lowered.rfind("@") :] in listed
