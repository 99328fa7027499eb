"""Jobs through the Redis list, as a producer sees it: the queue's depth, statuses, dead letters, and a Redis that goes and comes back."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer

from sandbox.children import wait_until
from sandbox.fakes.ledger import read_ledger
from sandbox.product import Product
from sandbox.world import World
from tests.conftest import refuse

pytestmark = [pytest.mark.world, pytest.mark.thorough]

QUEUE = "email-jobs"
LIMIT_S = 60.0


def job(name: str, **fields: object) -> bytes:
    return json.dumps(
        {"id": name, "type": "welcome-email", "recipient": {"email": recipient(name)}, "data": {"name": "Ada"}, **fields}
    ).encode()


def recipient(name: str) -> str:
    return f"{name}@redis.example"


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


class Shop:
    """The product in its world, and a producer before it."""

    def __init__(self, world: World):
        self.world = world
        self.product = Product(world, 2)
        self.client = redis.Redis.from_url(world.redis.url, decode_responses=True)

    def push(self, *values: bytes) -> None:
        self.client.rpush(QUEUE, *values)

    def taken(self) -> Counter[str]:
        """How often each recipient got a mail, by the fakes' own ledgers."""
        return Counter(line["recipient"] for esp in self.world.esp_addresses for line in read_ledger(self.world.ledger(esp)))

    def wait_until_sent(self, wanted: list[str]) -> None:
        missing = {recipient(name) for name in wanted}
        wait_until(lambda: missing <= self.taken().keys(), LIMIT_S, "all mails", lambda: self.product.supervisor.tail(4_000))

    def send_by_kafka(self, wanted: list[str]) -> None:
        """By the way that has nothing to do with Redis, and about as fast as ever."""
        producer = Producer({"bootstrap.servers": self.world.bootstrap_servers, "log_level": 0})
        for name in wanted:
            producer.produce(QUEUE, job(name))
        assert producer.flush(10) == 0
        began_s = time.monotonic()
        self.wait_until_sent(wanted)
        assert time.monotonic() - began_s < 20

    def status(self, name: str) -> str | None:
        return self.client.get(f"email:status:0:{name}")  # type: ignore[return-value]

    def in_redis(self) -> int:
        """Items that wait or are in somebody's hand."""
        keys = [QUEUE, *self.client.keys(f"{QUEUE}:in-hand:*")]
        return sum(int(self.client.llen(key)) for key in keys)

    def logged(self, message: str) -> bool:
        return f'"{message}"' in self.product.supervisor.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def shop(server_folder: Path) -> Iterator[Shop]:
    with World(server_folder / "redis-world") as world:
        if world.redis.kind == "fake":
            refuse("fakeredis forgets what it held when it is restarted")
        shop = Shop(world)
        shop.product.prepare()
        yield shop
        shop.client.close()


def test_the_queue_shows_its_depth_until_somebody_takes_from_it(shop: Shop) -> None:
    shop.push(*map(job, names("first", 150)))
    assert shop.client.llen(QUEUE) == 150
    shop.product.start()
    shop.wait_until_sent(names("first", 150))
    wait_until(lambda: shop.in_redis() == 0, LIMIT_S, "an empty queue")


def test_redis_goes_in_the_middle_and_everything_else_goes_on(shop: Shop) -> None:
    shop.push(*map(job, names("second", 150)))
    wait_until(lambda: int(shop.client.llen(QUEUE)) < 150, LIMIT_S, "the first take")
    shop.world.redis.stop()
    shop.send_by_kafka(names("kafka", 100))
    wait_until(lambda: shop.logged("Redis does not do as it is asked: its items wait"), LIMIT_S, "a line about Redis")
    shop.world.redis.start()
    shop.wait_until_sent(names("second", 150))
    shop.push(*map(job, names("third", 20)))
    shop.wait_until_sent(names("third", 20))
    wait_until(lambda: shop.in_redis() == 0, LIMIT_S, "an empty queue")
    assert shop.logged("Redis is back")


def test_redis_hangs_and_everything_else_goes_on(shop: Shop) -> None:
    shop.push(*map(job, names("fourth", 50)))
    shop.world.redis.server.freeze()
    try:
        shop.send_by_kafka(names("hang", 100))
    finally:
        shop.world.redis.server.thaw()
    shop.wait_until_sent(names("fourth", 50))
    assert shop.client.ping()


def test_nothing_is_lost_and_nothing_doubled(shop: Shop) -> None:
    # repeats of what was sent, in case one had been lost in silence and another taken for it
    shop.push(*map(job, names("second", 150)))
    wait_until(lambda: shop.in_redis() == 0, LIMIT_S, "an empty queue")
    by_redis = [*names("first", 150), *names("second", 150), *names("third", 20), *names("fourth", 50)]
    wanted = [*by_redis, *names("kafka", 100), *names("hang", 100)]
    assert shop.taken() == Counter(map(recipient, wanted))
    with closing(shop.product.database()) as database:
        assert dict(database.read("SELECT status, count(*) FROM email_jobs GROUP BY status")) == {"sent": len(wanted)}


def test_a_producer_that_asks_sees_where_its_jobs_stand(shop: Shop) -> None:
    shop.push(job("later", scheduledAt="2099-01-01T00:00:00Z"))
    wait_until(lambda: shop.status("later") == "scheduled", LIMIT_S, "the status of a scheduled job")
    wait_until(lambda: shop.status("third-0") == "sent", LIMIT_S, "the status of a sent job")
    shop.push(json.dumps({"id": "later", "type": "cancel"}).encode())
    wait_until(lambda: shop.status("later") == "cancelled", LIMIT_S, "the status of a cancelled job")
    assert shop.status("nobody-knows-it") is None


def test_dead_letters_are_in_the_list_too(shop: Shop) -> None:
    shop.push(b"no json", job("unknown", template="no-such-template", type="email"), b"[" * 70_000)
    wait_until(lambda: int(shop.client.llen("email-dlq")) == 3, LIMIT_S, "three dead letters")
    listed = map(json.loads, shop.client.lrange("email-dlq", 0, -1))
    letters = {letter.get("value", "row"): letter for letter in listed}
    assert letters["no json"]["source"] == {"topic": "redis:email-jobs", "partition": -1, "offset": -1}
    assert letters["no json"]["reason"] == letters["row"]["reason"] == "not-json"
    assert letters[job("unknown", template="no-such-template", type="email").decode()]["reason"] == "unknown-template"
    with closing(shop.product.database()) as database:
        [(value,)] = database.read("SELECT value FROM dead_letters WHERE id = %(id)s", {"id": letters["row"]["row"]})
    assert bytes(value) == b"[" * 70_000


def test_the_product_stops_clean(shop: Shop) -> None:
    assert shop.product.stop() == 0
    errors = [
        line for line in shop.product.supervisor.log.read_text().splitlines() if '"level": "error"' in line or '"level":"error"' in line
    ]
    assert errors == []
