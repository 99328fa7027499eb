"""What an ESP said about a message: a closed set of verdicts, and whose fault it was. Outcomes are values, never exceptions."""

from enum import StrEnum

import msgspec

from mail.message import Message


class Verdict(StrEnum):
    """What is known about one message after its request.

    ACCEPTED: the ESP took it. REJECTED: it will never take it. SPLIT: not taken because of a neighbour in the same request.
    THROTTLED: not taken, come back later. UNAVAILABLE: certainly not taken. UNSUPPORTED: this ESP cannot express it.
    MISCONFIGURED: not taken because of our account or key. UNKNOWN: it may have been taken; never send it again blindly.
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SPLIT = "split"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED = "unsupported"
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown"


class Blame(StrEnum):
    """Whose fault a refusal was: it decides between suppression, dead letter, bisection, breaker and waiting."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    NEIGHBOUR = "neighbour"
    ESP = "esp"
    NETWORK = "network"
    DEPENDENCY = "dependency"
    US = "us"


# Certainly not taken, and another ESP may do better.
FAILOVER_VERDICTS = frozenset({Verdict.THROTTLED, Verdict.UNAVAILABLE, Verdict.UNSUPPORTED, Verdict.MISCONFIGURED})


class Outcome(msgspec.Struct, frozen=True):
    """The verdict on one attempt. `detail` is the ESP's own words, cut to 500 characters, without addresses.

    `message_id` is the ESP's id where it took the message. `retry_after_s` is what the ESP asked for, already clamped to [0, 3600].
    """

    attempt_id: str
    verdict: Verdict
    blame: Blame | None = None
    message_id: str = ""
    detail: str = ""
    retry_after_s: float | None = None


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to an ESP and the messages that travel in it, in the order in which the reply speaks of them."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    messages: tuple[Message, ...] = ()

    def __repr__(self) -> str:
        # headers hold the key, the body addresses
        return f"Request({self.method} {self.url}, {len(self.messages)} messages, {len(self.body)} bytes)"


class Reply(msgspec.Struct, frozen=True):
    """What came back, whole: header names in lower case, body capped by the reader."""

    status: int
    headers: dict[str, str]
    body: bytes


class NoReply(msgspec.Struct, frozen=True):
    """Nobody answered. `has_left` tells whether any byte of the request may have reached the ESP: then the verdict is UNKNOWN."""

    has_left: bool
    error: str
