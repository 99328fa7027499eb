"""Handing in a storm's orders: records to Kafka, items to the Redis list. What is asked for is noted before it is handed in.

A server that is away is waited for, never given up: an order that was noted will be handed in, perhaps twice.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator

import redis
from confluent_kafka import Producer

from sandbox.world import World
from tests.chaos import sources
from tests.chaos.sources import Order

QUEUE = "email-jobs"
FLUSH_LIMIT_S = 60.0


class Feeder:
    """`asked` counts emails and bad records handed in, `ways` by the way they came; what only repeats counts for nothing."""

    def __init__(self, world: World, seed: int):
        self._orders: Iterator[Order] = sources.make(seed)
        self._list = (world.folder / "wanted.jsonl").open("a", buffering=1)
        self._producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 5, "log_level": 0})
        self._redis = redis.Redis.from_url(world.redis.url, socket_timeout=2.0)
        self._items: deque[bytes] = deque()
        self.asked = 0
        self.ways: Counter[str] = Counter()

    def feed(self, emails: int) -> None:
        """Hand in orders for at least so many emails."""
        until = self.asked + emails
        while self.asked < until:
            self._hand_in(next(self._orders))
        self.serve()

    def serve(self) -> bool:
        """Hand in what had to wait; is there nothing left of that?"""
        self._producer.poll(0)
        try:
            while self._items:
                self._redis.rpush(QUEUE, self._items[0])
                self._items.popleft()
        except redis.RedisError:
            return False
        return True

    def in_queue(self) -> int:
        """Items in the Redis list or in somebody's hand."""
        keys = [QUEUE.encode(), *self._redis.keys(f"{QUEUE}:in-hand:*")]
        return len(self._items) + sum(int(self._redis.llen(key)) for key in keys)  # type: ignore[arg-type]

    def finish(self) -> None:
        """Wait until Kafka has everything."""
        if left := self._producer.flush(FLUSH_LIMIT_S):
            raise TimeoutError(f"Kafka did not take {left} records")

    def close(self) -> None:
        self._list.close()
        self._redis.close()

    def _hand_in(self, order: Order) -> None:
        piece = order.piece
        if not piece.is_repeat:
            for wanted in piece.wanted:
                self._list.write(json.dumps(wanted._asdict()) + "\n")
                self.ways["bad" if wanted.reason else order.way] += 1
            self.asked += len(piece.wanted)
        value = order.value(sources.now())
        if order.way == "redis":
            self._items.append(value)
        else:
            self._producer.produce(piece.topic, value, piece.key)
