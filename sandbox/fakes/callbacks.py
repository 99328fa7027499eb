"""What a fake ESP reports back: the shape of a happening, and of the builder that words it as that ESP would.

A builder is a class `Callbacks` in `<esp>_callbacks.py` beside the fake, found by name. It knows the real callbacks from their
documentation only: it must never import anything of the adapters in `esp/`, whose misunderstanding would confirm itself.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from sandbox.fakes.ledger import Line

Choice = TypeVar("Choice")
Kind = Literal[
    "processed",
    "dropped",
    "deferred",
    "delivered",
    "hard_bounce",
    "soft_bounce",
    "block",
    "late_bounce",
    "open",
    "machine_open",
    "click",
    "complaint",
    "unsubscribe",
]


class Happening(NamedTuple):
    """Something that happened to one accepted mail at the Unix time `at`; `number` tells it from the mail's others.

    `user_agent`, `ip` and `url` are set where somebody opened or clicked.
    """

    kind: Kind
    at: float
    line: Line
    number: int
    user_agent: str = ""
    ip: str = ""
    url: str = ""

    @property
    def identity(self) -> str:
        """The same for a repeat, different for anything else; 64 hexadecimal digits."""
        line = self.line
        parts = (line["provider"], line["message_id"], line["recipient"], str(line["attempt_id"]), self.kind, str(self.number))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of several words for the same kind; a repeat has the same."""
        return choices[int(self.identity[:8], 16) % len(choices)]


class Post(NamedTuple):
    """One HTTP POST of a callback, as the ingress would hand it on."""

    headers: Mapping[str, Sequence[str]]
    body: bytes


class CallbackBuilder(Protocol):
    """One ESP's callbacks, signed with keys or passwords of its own making."""

    def settings(self) -> dict[str, str]:
        """The settings with which the product believes these callbacks."""
        ...

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        """The callbacks that report these; what this ESP never reports is in none of them."""
        ...


def load(esp: str, folder: Path | None = None) -> CallbackBuilder | None:
    """The builder of this ESP with fresh keys, or None where nobody wrote one.

    `folder` is where it may keep what settings name as files; without one, a folder of its own that goes with it.
    """
    name = f"sandbox.fakes.{esp}_callbacks"
    if importlib.util.find_spec(name) is None:
        return None
    builder: CallbackBuilder = importlib.import_module(name).Callbacks(folder)
    return builder
