"""The line to Redis for what may be lost: it never makes its caller wait, and never holds more than its bound."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sandbox.children import wait_until
from sandbox.redis import Redis
from workers.news import redis_link
from workers.news.redis_link import RedisLink

LIMIT_S = 10.0


@pytest.fixture
def client(own_redis: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as made:
        made.flushdb()
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(redis_link, "ANSWER_LIMIT_S", 0.2)


def push(value: str) -> redis_link.Work:
    return lambda client: client.rpush("told", value)


def told(client: redis.Redis) -> list[str]:
    return [value.decode() for value in client.lrange("told", 0, -1)]


def test_errands_are_run_in_their_order(own_redis: Redis, client: redis.Redis) -> None:
    link = RedisLink(own_redis.url)
    for number in range(100):
        link.send(push(str(number)), 1)
    link.close()
    assert told(client) == [str(number) for number in range(100)]


def test_nobody_waits_for_a_redis_that_hangs_and_what_fits_is_told_when_it_answers(
    own_redis: Redis, client: redis.Redis, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    link = RedisLink(own_redis.url)
    link.send(push("before"), 1)
    wait_until(lambda: told(client) == ["before"], LIMIT_S, "the first errand")
    own_redis.server.freeze()
    try:
        began_s = time.monotonic()
        for number in range(1_000):
            link.send(push(f"during {number}"), 1)
        assert time.monotonic() - began_s < 30, "each would wait for two seconds"
        wait_until(lambda: link.is_resting, LIMIT_S, "a rest")
    finally:
        own_redis.server.thaw()
    wait_until(lambda: len(set(told(client))) == 1_001, LIMIT_S, "all errands")
    link.close()
    said = [record.getMessage() for record in caplog.records if record.name == "workers.news.redis_link"]
    assert said == ["Redis does not take what it is told: statuses there may be old", "Redis takes what it is told again"]


def test_what_was_not_taken_is_told_when_redis_is_back(server_folder: Path, quick: None) -> None:
    with Redis(server_folder / "redis-link-back") as away:
        away.stop()
        link = RedisLink(away.url)
        for value in ("first", "second"):
            link.send(push(value), 1)
        wait_until(lambda: link.is_resting, LIMIT_S, "a rest")
        away.start()
        with redis.Redis.from_url(away.url) as client:
            wait_until(lambda: len(told(client)) == 2, LIMIT_S, "both errands")
            assert told(client) == ["first", "second"]
        link.close()


def test_what_does_not_fit_is_forgotten_oldest_first(own_redis: Redis, client: redis.Redis, quick: None) -> None:
    link = RedisLink(own_redis.url)
    gate, entered = threading.Event(), threading.Event()

    def wait(_: redis.Redis) -> None:
        entered.set()
        gate.wait(LIMIT_S)

    link.send(wait, 1)
    assert entered.wait(LIMIT_S)
    third = redis_link.MOST_BYTES // 3
    for number in range(5):
        link.send(push(str(number)), third)
    link.send(push("too large ever"), redis_link.MOST_BYTES + 1)
    gate.set()
    link.close()
    assert told(client) == ["2", "3", "4"]


def test_an_errand_that_redis_refuses_does_not_stand_in_the_way(own_redis: Redis, client: redis.Redis, quick: None) -> None:
    client.set("text", "no list")
    link = RedisLink(own_redis.url)
    link.send(lambda c: c.rpush("text", "x"), 1)
    link.send(push("next"), 1)
    wait_until(lambda: told(client) == ["next"], LIMIT_S, "the next errand")
    link.close()
    assert client.get("text") == b"no list"


@pytest.mark.expect_errors
def test_an_errand_with_a_bug_costs_itself_only(own_redis: Redis, client: redis.Redis) -> None:
    link = RedisLink(own_redis.url)
    link.send(lambda c: 1 / 0, 1)
    link.send(push("next"), 1)
    link.close()
    assert told(client) == ["next"]


def test_closing_is_bounded_whatever_redis_does(quick: None) -> None:
    link = RedisLink("redis://127.0.0.1:1/0")
    link.send(push("never"), 1)
    began_s = time.monotonic()
    link.close()
    assert time.monotonic() - began_s < redis_link.CLOSE_LIMIT_S + 15
    link.send(push("after the end"), 1)


def test_without_an_errand_there_is_no_thread() -> None:
    before = threading.active_count()
    RedisLink("redis://127.0.0.1:1/0").close()
    assert threading.active_count() == before
