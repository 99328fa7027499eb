"""Templates by way of Redis: fewer questions to the database, the same answers, and never a wait."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from mail.decode import decode
from mail.job import Job
from mail.limits import DecodeLimits
from mail.template import Template
from sandbox.children import wait_until
from sandbox.redis import Redis
from tests.workers.ledger_world import job_bytes
from workers.news import redis_link
from workers.news.redis_link import RedisLink
from workers.steps import shelf, template_cache
from workers.steps.shelf import Shelf
from workers.steps.template_cache import TemplateCache

WELCOME = Template("welcome-email", "v1", "welcome-email", "Hi {{ name }}", "<p>ü</p>", "text", ("name",), True)


@pytest.fixture
def client(own_redis: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as made:
        made.flushdb()
        yield made


@pytest.fixture
def link(own_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisLink]:
    monkeypatch.setattr(template_cache, "ANSWER_LIMIT_S", 5.0)
    made = RedisLink(own_redis.url)
    yield made
    made.close()


def jobs() -> list[Job]:
    return [item for item in decode(job_bytes("j"), DecodeLimits()) if isinstance(item, Job)]


def test_what_one_worker_read_another_finds(link: RedisLink, client: redis.Redis, own_redis: Redis) -> None:
    first, second = Shelf(TemplateCache(link)), Shelf(TemplateCache(link))
    assert first.missing(jobs()) == ["welcome-email"]
    first.put(["welcome-email"], {"welcome-email": WELCOME})
    wait_until(lambda: client.exists("email:template:welcome-email") == 1, 5, "the entry")
    assert second.missing(jobs()) == []
    assert second.take("welcome-email") == WELCOME
    assert second.missing(jobs()) == [], "it is not asked again at once"


def test_an_entry_lives_for_seconds_only(link: RedisLink, client: redis.Redis) -> None:
    TemplateCache(link).keep({"welcome-email": WELCOME})
    wait_until(lambda: client.exists("email:template:welcome-email") == 1, 5, "the entry")
    assert 0 < int(client.pttl("email:template:welcome-email")) <= template_cache.LIFE_S * 1_000  # type: ignore[arg-type]
    wait_until(lambda: client.exists("email:template:welcome-email") == 0, 5, "the end of the entry")


@pytest.mark.parametrize("stored", [b"", b"{}", b"\xff", b'{"name": 1}', b"null"])
def test_what_cannot_be_read_is_a_miss(stored: bytes, link: RedisLink, client: redis.Redis) -> None:
    client.set("email:template:welcome-email", stored)
    assert TemplateCache(link).read(["welcome-email", "other"]) == {}


def test_a_template_that_does_not_exist_is_not_remembered(link: RedisLink, client: redis.Redis) -> None:
    held = Shelf(TemplateCache(link))
    held.put(["welcome-email", "no-such"], {"welcome-email": WELCOME})
    wait_until(lambda: client.exists("email:template:welcome-email") == 1, 5, "the entry")
    assert client.keys("email:template:*") == [b"email:template:welcome-email"]


def test_a_redis_that_hangs_is_a_miss_soon_and_is_not_asked_while_the_line_rests(
    own_redis: Redis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "ANSWER_LIMIT_S", 0.2)
    hanging = RedisLink(own_redis.url)
    cache = TemplateCache(hanging)
    assert cache.read(["welcome-email"]) == {}
    own_redis.server.freeze()
    try:
        began_s = time.monotonic()
        assert cache.read(["welcome-email"]) == {}
        assert time.monotonic() - began_s < 15, "frozen for ever"
        wait_until(lambda: hanging.is_resting, 5, "a rest")
        began_s = time.monotonic()
        for _ in range(100):
            assert cache.read(["welcome-email"]) == {}
        assert time.monotonic() - began_s < 10, "each would wait for a fifth of a second"
    finally:
        own_redis.server.thaw()
    hanging.close()


def test_a_question_goes_before_what_waits(link: RedisLink, client: redis.Redis) -> None:
    order: list[str] = []
    gate, entered = threading.Event(), threading.Event()

    def wait(_: redis.Redis) -> None:
        entered.set()
        gate.wait(5)

    link.send(wait, 1)
    assert entered.wait(5)
    link.send(lambda c: order.append("told"), 1)
    asking = threading.Thread(target=lambda: link.ask(lambda c: order.append("asked"), 5.0))
    asking.start()
    wait_until(lambda: len(link._errands) == 2, 5, "the question")
    gate.set()
    wait_until(lambda: len(order) == 2, 5, "both")
    asking.join()
    assert order == ["asked", "told"]


def test_without_redis_every_template_is_read_from_the_store() -> None:
    held = Shelf()
    assert held.missing(jobs()) == ["welcome-email"]
    held.put(["welcome-email"], {"welcome-email": WELCOME})
    assert held.take("welcome-email") == WELCOME


def test_a_shelf_that_grew_absurd_is_emptied_and_what_is_needed_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "NAMES_MOST", 3)
    held = Shelf()
    held.put(["welcome-email"], {"welcome-email": WELCOME})
    held.put(["a", "b", "c"], {})
    assert held.missing(jobs()) == ["welcome-email"]
