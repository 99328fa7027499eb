"""The Redis list `email-jobs` as a source of records: items are moved in one step into a list of their taker's, and leave that
only once they are rows.

Producers RPUSH, we take from the left. What a taker held when it died goes back to the front of the queue, so an item can come
twice; the ledger notices. Nothing here may ever delete an item that is not a row yet, nor raise while Redis is away.

Each taker registers itself before it moves anything, and again every few seconds. After any error it goes on under a new name
and leaves its list to those who give back: a command that was sent and not answered may still be executed much later, and
would put items into a list that is about to be deleted. Redis 6.2 or later (LMOVE), one shard: a move needs both lists in one.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

import telemetry.log
from mail.record import Record

log = telemetry.log.get("intake.redis_list")

QUEUE = "email-jobs"
IN_HAND = "email-jobs:in-hand:"
TAKERS = "email-jobs:takers"  # sorted set: when each taker was last seen, by Redis' clock
TOPIC = f"redis:{QUEUE}"

PAGE = 50
MOST_BYTES = 8 << 20  # a take stops after the page that passes this: 50 values of 1 MiB at the worst
CONNECT_LIMIT_S, ANSWER_LIMIT_S = 2.0, 5.0
RETRY_S = 1.0
SEEN_EVERY_S = 5.0
DEAD_AFTER_S = 20.0
FORGET_AFTER_S = 3_600.0


def connect(url: str, connect_limit_s: float = CONNECT_LIMIT_S, answer_limit_s: float = ANSWER_LIMIT_S) -> redis.Redis:
    """A client that connects on first use, waits no longer than it is told, and never repeats a command by itself."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=connect_limit_s,
        socket_timeout=answer_limit_s,
        retry=Retry(NoBackoff(), 0),  # redis-py 8 would repeat a move whose answer was lost
        protocol=2,
    )


class RedisList:
    """`place` names the slot that takes (one living process at most), `incarnation` the process in it."""

    def __init__(self, url: str, place: str, incarnation: str, clock: Callable[[], float] = time.monotonic):
        self._client = connect(url)
        self._place = place
        self._incarnation = incarnation
        self._clock = clock
        self._names_used = 0
        self._seen_at_s = float("-inf")
        self._looked_at_s = float("-inf")
        self._retry_at_s = float("-inf")
        self._holds = 0
        self._is_away = False

    @property
    def name(self) -> str:
        """Under which this taker is known now; "<place>/<incarnation>.<n>"."""
        return f"{self._place}/{self._incarnation}.{self._names_used}"

    def take(self, limit: int) -> list[Record]:
        """At most `limit` items, moved into our hand; none also while Redis is away. Acknowledge them before you take again."""
        values: list[bytes] = self._ask(lambda: self._move(limit)) or []
        self._holds = len(values)
        return [record_of(value) for value in values]

    def acknowledge(self) -> None:
        """All that was taken is on record. Where Redis does not hear this, the items come again."""
        if self._holds:
            self._ask(lambda: self._client.unlink(IN_HAND + self.name))
            self._holds = 0

    def give_back(self) -> int:
        """Put what dead takers had in hand back to the front of the queue; looks every few seconds. Returns how many items."""
        if self._clock() - self._looked_at_s < SEEN_EVERY_S:
            return 0
        moved: int | None = self._ask(self._empty_dead_hands)
        if moved is None:
            return 0
        self._looked_at_s = self._clock()
        if moved:
            log.warning("gave back what a dead taker had in hand", items=moved)
        return moved

    def keep_alive(self) -> None:
        """Called while items are in hand for long: nobody may think that we are dead."""
        self._ask(lambda: None)

    def close(self) -> None:
        self._client.close()

    # -- one conversation ----------------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], Any]) -> Any:
        """Do it under a name that is known; None where Redis is away, after which we have another name."""
        if self._clock() < self._retry_at_s:
            return None
        try:
            self._register()
            answer = work()
        except RedisError as error:
            self._change_name(error)
            return None
        if self._is_away:
            self._is_away = False
            log.info("Redis is back")
        return answer

    def _register(self) -> None:
        if self._clock() - self._seen_at_s >= SEEN_EVERY_S:
            self._client.zadd(TAKERS, {self.name: self._now_s()})
            self._seen_at_s = self._clock()

    def _change_name(self, error: RedisError) -> None:
        self._names_used += 1
        self._holds = 0
        self._seen_at_s = self._looked_at_s = float("-inf")
        self._retry_at_s = self._clock() + RETRY_S
        if not self._is_away:
            self._is_away = True
            log.warning("Redis does not do as it is asked: its items wait", kind=type(error).__name__)

    def _now_s(self) -> int:
        seconds, _ = self._client.time()
        return int(seconds)

    # -- moving --------------------------------------------------------------------------------------------------------

    def _move(self, limit: int) -> list[bytes]:
        """The first one alone: an empty queue is asked for often."""
        values: list[bytes] = []
        size = 0
        for page in _pages(limit):
            moved = self._move_page(QUEUE, IN_HAND + self.name, page)
            values += moved
            size += sum(map(len, moved))
            if len(moved) < page or size >= MOST_BYTES:
                break
        return values

    def _move_page(self, source: str, target: str, count: int, ends: tuple[str, str] = ("LEFT", "RIGHT")) -> list[bytes]:
        with self._client.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.lmove(source, target, *ends)
            return [value for value in pipeline.execute() if value is not None]

    def _empty_dead_hands(self) -> int:
        now_s = self._now_s()
        dead = dict(self._dead_takers(now_s))
        held = self._count_held(list(dead))
        moved = sum(self._empty_hand(name) for name, count in held.items() if count)
        if gone := [name for name, seen_s in dead.items() if not held[name] and seen_s < now_s - FORGET_AFTER_S]:
            self._client.zrem(TAKERS, *gone)
        return moved

    def _dead_takers(self, now_s: int) -> Iterator[tuple[str, float]]:
        """Who was not seen for long, and all who had our place before us. One who lives after all only has its items come twice."""
        takers: Any = self._client.zrange(TAKERS, 0, -1, withscores=True)  # bytes and floats; its type says more
        for raw_name, seen_s in takers:
            name = raw_name.decode()
            is_ours = name.startswith(f"{self._place}/")
            if name != self.name and (is_ours or seen_s < now_s - DEAD_AFTER_S):
                yield name, seen_s

    def _count_held(self, names: list[str]) -> dict[str, int]:
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(IN_HAND + name)
            return dict(zip(names, pipeline.execute(), strict=True))

    def _empty_hand(self, name: str) -> int:
        """Newest first to the front, so that the order stays as it was."""
        moved = 0
        while count := len(self._move_page(IN_HAND + name, QUEUE, PAGE, ("RIGHT", "LEFT"))):
            moved += count
            if count < PAGE:
                break
        return moved


class Condition(NamedTuple):
    """What a Redis says when it is asked: `problem` is None where it serves; `waiting` are the items of the queue."""

    problem: str | None
    waiting: int = 0


def examine(url: str) -> Condition:
    """Ask a Redis once whether it can serve as our queue."""
    client = connect(url)
    try:
        waiting = client.llen(QUEUE)
        client.lmove(f"{IN_HAND}nobody", f"{IN_HAND}nobody")  # nothing is there; a Redis before 6.2 does not know the command
    except RedisError as error:
        return Condition(f"does not serve as a queue: {type(error).__name__}: {error}"[:300])
    finally:
        client.close()
    return Condition(None, int(waiting))


def record_of(value: bytes) -> Record:
    """A list has no offsets: the fingerprint of a value names it, so that one that comes again after a crash has the same name."""
    fingerprint = int.from_bytes(sha256(value).digest()[:6])
    return Record(value, "normal", TOPIC, offset=fingerprint, stored_source={"topic": TOPIC, "partition": -1, "offset": -1})


def _pages(limit: int) -> Iterable[int]:
    if limit <= 0:
        return
    yield 1
    left = limit - 1
    while left > 0:
        yield min(PAGE, left)
        left -= PAGE
