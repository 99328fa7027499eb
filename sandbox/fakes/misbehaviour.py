"""How a fake ESP is told to fail: by chances, or by an exact script, the same for the same seed.

It only decides; the listener carries a deed out. "Before" means that nothing was accepted, "after" that the mails are in the
ledger although the sender hears otherwise; "unread" that not even the body was read. Chances are drawn once per send request, in
order of arrival.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Annotated, Any, Literal

import msgspec

from sandbox.fakes.contract import Traits

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Kind = Literal[
    "ok",
    "throttle",
    "error_before",
    "error_after",
    "hang_before",
    "hang_after",
    "reset_unread",
    "reset_before",
    "reset_after",
    "drip",
    "drip_headers",
    "malformed",
    "cut",
    "huge",
    "redirect",
    "partial",
    "answer",
]
RetryAfter = Literal["none", "seconds", "date", "past", "fraction", "negative", "garbage", "endless"]
CHANCES = [
    "throttle",
    "error_before",
    "error_after",
    "hang_before",
    "hang_after",
    "reset_unread",
    "reset_before",
    "reset_after",
    "drip",
    "drip_headers",
    "malformed",
    "cut",
    "huge",
    "redirect",
    "partial",
]
_MAX_SCRIPT = 10_000
_RELAYS_OWN = ("connections", "mails_per_connection", "idle_s")


class BadBehaviour(ValueError):
    """What was asked for is not a misbehaviour; the text says why."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a script, for `times` requests. What it leaves out is taken from the behaviour."""

    do: Kind
    status: int | None = None
    retry_after: RetryAfter | None = None
    body: Any = None
    times: Annotated[int, msgspec.Meta(ge=1, le=_MAX_SCRIPT)] = 1


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that can be set for one fake. Chances add up to 1 at most; times in the units their names end with.

    `latency_ms` and `jitter_ms`: from the whole request to the first byte of its reply, with what the fake itself needs.
    `requests_per_s` is the account's rate (0 = any): what comes beyond it in a second is throttled. `connections` at once,
    `mails_per_connection` and `idle_s` are limits of a relay (0 = none), which has SparkPost's unless told otherwise.
    """

    latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    jitter_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    throttle: Chance = 0
    error_before: Chance = 0
    error_after: Chance = 0
    hang_before: Chance = 0
    hang_after: Chance = 0
    reset_unread: Chance = 0
    reset_before: Chance = 0
    reset_after: Chance = 0
    drip: Chance = 0
    drip_headers: Chance = 0
    malformed: Chance = 0
    cut: Chance = 0
    huge: Chance = 0
    redirect: Chance = 0
    partial: Chance = 0
    script: Annotated[tuple[Step | str, ...], msgspec.Meta(max_length=_MAX_SCRIPT)] = ()
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    redirect_status: Literal[301, 302, 303, 307, 308] = 307
    retry_after: RetryAfter = "none"
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1
    hang_s: Annotated[float, msgspec.Meta(gt=0)] = 3600
    drip_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 1
    huge_bytes: Annotated[int, msgspec.Meta(ge=1, le=8 << 30)] = 64 << 20
    partial_share: Chance = 0.2
    requests_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    connections: Annotated[int, msgspec.Meta(ge=0)] = 0
    mails_per_connection: Annotated[int, msgspec.Meta(ge=0)] = 0
    idle_s: Annotated[float, msgspec.Meta(ge=0)] = 0
    down: bool = False
    key: str = ""
    bad_recipients: tuple[str, ...] = ()
    inactive: tuple[str, ...] = ()
    sender_domains: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    has_send_scope: bool = True
    has_credits: bool = True
    is_approved: bool = True

    def traits(self) -> Traits:
        return Traits(
            self.key,
            _lowered(self.bad_recipients),
            _lowered(self.inactive),
            _lowered(self.sender_domains),
            frozenset(self.templates),
            self.has_send_scope,
            self.has_credits,
            self.is_approved,
        )


_CALM = {"smtp": Behaviour(mails_per_connection=100, idle_s=60)}


class Deed(msgspec.Struct, frozen=True):
    """What happens to one request. `body` is only of kind "answer": bytes to send as they are."""

    kind: Kind
    status: int
    retry_after: RetryAfter
    retry_after_s: int
    body: bytes
    is_spoiled: Callable[[int], bool]


class Misbehaviour:
    """The behaviour of one fake now, what is left of its script, and what it has done so far."""

    def __init__(self, name: str, seed: int = 1):
        self._calm = _CALM.get(name, Behaviour())
        self.behaviour = self._calm
        self.traits = Traits()
        self.done: Counter[str] = Counter()
        self._name = name
        self._script: deque[Step] = deque()
        self._second = self._asked = 0
        self._sow(seed)

    def plan(self, changes: Mapping[str, Any]) -> Behaviour:
        """What the behaviour would be after these changes; raises BadBehaviour where they make no sense."""
        if not isinstance(changes, Mapping):
            raise BadBehaviour(f"{self._name}: an object is wanted")
        wanted = {name: value for name, value in changes.items() if name not in ("seed", "calm")}
        now = msgspec.to_builtins(self._calm if changes.get("calm") else self.behaviour) | {"script": []}
        try:
            behaviour = msgspec.convert(now | wanted, Behaviour)
            for step in behaviour.script:
                _step(step)
        except msgspec.ValidationError as error:
            raise BadBehaviour(f"{self._name}: {error}") from error
        if sum(getattr(behaviour, name) for name in CHANCES) > 1 + 1e-9:
            raise BadBehaviour(f"{self._name}: the chances add up to more than 1")
        if self._name != "smtp" and any(getattr(behaviour, name) for name in _RELAYS_OWN):
            raise BadBehaviour(f"{self._name}: {', '.join(_RELAYS_OWN)} are limits of a relay")
        if not isinstance(changes.get("seed", 1), int):
            raise BadBehaviour(f"{self._name}: seed is an integer")
        return behaviour

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set the named fields (`"calm": true` forgets all others first); raises BadBehaviour, nothing changed."""
        self.behaviour = self.plan(changes)
        self.traits = self.behaviour.traits()
        if "script" in changes or changes.get("calm"):
            self._script = deque(map(_step, self.behaviour.script))
        if "seed" in changes:
            self._sow(changes["seed"])

    def next_deed(self, now: float) -> Deed:
        """What happens to the next send request, which comes at the Unix time `now`; a script goes before chances, the account's
        rate before both, and being down before all."""
        drawn, spoil_seed = self._random.random(), self._random.getrandbits(32)
        step = self._next_step(drawn, int(now))
        self.done[step.do] += 1
        return Deed(
            step.do,
            step.status or self.behaviour.status,
            step.retry_after or self.behaviour.retry_after,
            self.behaviour.retry_after_s,
            _as_bytes(step.body),
            self._spoiler(step.do, spoil_seed),
        )

    def delay_s(self, spent_s: float = 0.0) -> float:
        """How long to sit on the next reply, when so long has been spent on it since its request was whole."""
        jitter = self._jitter.uniform(0, self.behaviour.jitter_ms) if self.behaviour.jitter_ms else 0.0
        return max(0.0, (self.behaviour.latency_ms + jitter) / 1000 - spent_s)

    def shown(self) -> dict[str, Any]:
        """The behaviour as JSON, with `script_left` and `done` (requests by kind)."""
        shown: dict[str, Any] = msgspec.to_builtins(self.behaviour)
        shown.pop("script")
        shown["script_left"] = sum(step.times for step in self._script)
        shown["done"] = dict(self.done)
        return shown

    def _sow(self, seed: int) -> None:
        self._random = random.Random(f"{seed}:{self._name}")
        self._jitter = random.Random(f"{seed}:{self._name}:jitter")

    def _next_step(self, drawn: float, second: int) -> Step:
        if self.behaviour.down:
            return Step("error_before")
        if self._is_too_fast(second):
            return Step("throttle")
        if self._script:
            step = self._script.popleft()
            if step.times > 1:
                self._script.appendleft(msgspec.structs.replace(step, times=step.times - 1))
            return step
        return Step(self._kind_at(drawn))

    def _is_too_fast(self, second: int) -> bool:
        """Are this second's requests used up? What is refused counts for nothing."""
        if second != self._second:
            self._second, self._asked = second, 0
        if self.behaviour.requests_per_s and self._asked >= self.behaviour.requests_per_s:
            return True
        self._asked += 1
        return False

    def _kind_at(self, drawn: float) -> Kind:
        reached = 0.0
        for name in CHANCES:
            reached += getattr(self.behaviour, name)
            if drawn < reached:
                return name  # type: ignore[return-value]
        return "ok"

    def _spoiler(self, kind: Kind, seed: int) -> Callable[[int], bool]:
        """In a partial failure item 0 is always refused, the others by share, each the same however often it is asked."""
        if kind != "partial":
            return lambda item: False
        share = self.behaviour.partial_share
        return lambda item: item == 0 or random.Random(seed + item).random() < share


def retry_after_value(form: RetryAfter, seconds: int, now: float) -> str | None:
    """The Retry-After header in one of the forms that servers send, sound or not; None leaves it out."""
    forms = {
        "none": None,
        "seconds": str(seconds),
        "date": formatdate(now + seconds, usegmt=True),
        "past": formatdate(now - 3600, usegmt=True),
        "fraction": f"{seconds}.5",
        "negative": "-1",
        "garbage": "soon, thank you",
        "endless": "99999999999999999999",
    }
    return forms[form]


def _step(step: Step | str) -> Step:
    return msgspec.convert({"do": step}, Step) if isinstance(step, str) else step


def _as_bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _lowered(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(value.lower() for value in values)
