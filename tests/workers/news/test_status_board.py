"""The board: what producers read there, that it never goes backwards, and the copies of dead letters."""

import base64
import json
import threading
from collections.abc import Iterator
from itertools import permutations

import pytest
import redis

from db.outbox import Posting
from mail.event import STATUS_RANK
from mail.ids import new_id
from mail.job import Cancel
from sandbox.children import wait_until
from sandbox.redis import Redis
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.news import status_board
from workers.news.redis_link import RedisLink
from workers.news.status_board import Shown, StatusBoard, shorten
from workers.steps.letter import EXPIRED, REPEAT, SENT, Fate

DAY_S = 24 * 3600


@pytest.fixture
def client(own_redis: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as made:
        made.flushdb()
        yield made


@pytest.fixture
def link(own_redis: Redis) -> RedisLink:
    return RedisLink(own_redis.url)


@pytest.fixture
def board(link: RedisLink) -> StatusBoard:
    return StatusBoard(link, "email-dlq")


def dead_letter(value: str | bytes, **fields: object) -> str:
    letter = {
        "id": new_id(),
        "reason": "not-json",
        "error": "value",
        "source": {},
        "at": "now",
        "attempts": 0,
        "jobId": None,
        "index": None,
    }
    if isinstance(value, bytes):
        return json.dumps(letter | {"value": base64.b64encode(value).decode(), "encoding": "base64"} | fields)
    return json.dumps(letter | {"value": value} | fields)


def posting(topic: str, *texts: str) -> Posting:
    return Posting(new_id(), topic, tuple([None] * len(texts)), texts)


def shown_after(board: StatusBoard, client: redis.Redis, *statuses: str) -> str | None:
    """What a producer reads after these were told in this order."""
    job = new_id()
    for status in statuses:
        board.show([Shown(7, job, status)])
    board.close()
    return client.get(f"email:status:7:{job}")  # type: ignore[return-value]


def test_a_producer_finds_the_status_for_a_day(board: StatusBoard, client: redis.Redis) -> None:
    board.show([Shown(0, "j-1", "sent"), Shown(42, "j-1", "pending")])
    board.close()
    assert client.get("email:status:0:j-1") == "sent"
    assert client.get("email:status:42:j-1") == "pending"
    assert DAY_S - 10 < int(client.ttl("email:status:0:j-1")) <= DAY_S  # type: ignore[arg-type]


@pytest.mark.parametrize("order", list(permutations(["pending", "uncertain", "sent", "delivered"])))
def test_whatever_the_order_of_the_writers_the_last_status_wins(order: tuple[str, ...], board: StatusBoard, client: redis.Redis) -> None:
    assert shown_after(board, client, *order) == "delivered"


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (("scheduled", "cancelled"), "cancelled"),
        (("retrying", "cancelled"), "cancelled"),
        (("sent", "cancelled"), "sent"),
        (("uncertain", "cancelled"), "uncertain"),
        (("retrying", "retrying", "sent"), "sent"),
        (("pending", "retrying"), "retrying"),
        (("dead", "pending"), "dead"),
        (("dead", "sent"), "sent"),
        (("uncertain", "dead"), "dead"),
        (("dead", "delivered"), "delivered"),
    ],
)
def test_what_is_known_gives_way_only_to_what_is_known_better(
    statuses: tuple[str, ...], shown: str, board: StatusBoard, client: redis.Redis
) -> None:
    assert shown_after(board, client, *statuses) == shown


def test_statuses_after_a_send_have_the_ranks_of_the_rows() -> None:
    ranks = [status_board._RANKS[status] for status in sorted(STATUS_RANK, key=lambda status: STATUS_RANK[status])]
    assert ranks == sorted(ranks)
    assert min(ranks) > status_board._UNSENT


def test_a_batch_shows_what_has_a_status_and_its_cancels(board: StatusBoard, client: redis.Redis) -> None:
    batch = letters_of(*(record_of(job_bytes(f"b-{number}")) for number in range(5)))
    elsewhere = Fate("pending", goes_elsewhere=True)
    for letter, fate in zip(batch.letters, [SENT, EXPIRED, REPEAT, elsewhere, None], strict=True):
        letter.fate = fate
    batch.cancels.append(Cancel(3, "c-1"))
    board.show_batch(batch)
    board.close()
    found = {key: client.get(key) for key in client.keys("email:status:*")}
    assert found == {"email:status:0:b-0": "sent", "email:status:0:b-1": "expired", "email:status:3:c-1": "cancelled"}


def test_thousands_of_statuses_are_told_in_pages(board: StatusBoard, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_board, "KEYS_MOST", 10)
    board.show([Shown(0, f"p-{number}", "sent") for number in range(95)])
    board.close()
    assert len(client.keys("email:status:0:p-*")) == 95


def test_dead_letters_are_copied_oldest_first_and_nothing_else_is(board: StatusBoard, client: redis.Redis) -> None:
    letters = [dead_letter(f"value {number}") for number in range(120)]
    board.keep_dead_letters([posting("email-events", '{"event":"sent"}'), posting("email-dlq", *letters)])
    board.close()
    assert client.lrange("email-dlq", 0, -1) == letters


def test_the_list_keeps_the_newest(board: StatusBoard, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_board, "DEAD_LETTERS_KEPT", 10)
    letters = [dead_letter(f"value {number}") for number in range(25)]
    for start in range(0, 25, 5):
        board.keep_dead_letters([posting("email-dlq", *letters[start : start + 5])])
    board.close()
    assert client.lrange("email-dlq", 0, -1) == letters[-10:]


@pytest.mark.parametrize("value", ["x" * 65_536, "ä" * 32_768, "\n" * 65_536, b"\xff" * 65_536, "x", ""])
def test_a_value_of_64_kib_stays_in_the_letter(value: str | bytes) -> None:
    text = dead_letter(value)
    assert shorten(text) == text


@pytest.mark.parametrize("value", ["x" * 65_537, "ä" * 32_769, "\n" * 65_537, b"\xff" * 65_537, "x" * 3_000_000])
def test_a_larger_value_is_only_named_by_its_row(value: str | bytes) -> None:
    text = dead_letter(value)
    letter = json.loads(text)
    short = json.loads(shorten(text))
    assert short["row"] == letter["id"]
    assert "value" not in short and "encoding" not in short
    assert {key: short[key] for key in ("reason", "error", "source", "at", "attempts")} == {
        key: letter[key] for key in ("reason", "error", "source", "at", "attempts")
    }


def test_without_redis_nothing_is_told_and_nothing_fails() -> None:
    board = StatusBoard(None, "email-dlq")
    board.show([Shown(0, "j", "sent")])
    board.show_batch(letters_of(record_of(job_bytes("j"))))
    board.keep_dead_letters([posting("email-dlq", dead_letter("x"))])
    board.close()


def test_a_redis_that_is_away_costs_a_worker_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    callers: set[str] = set()

    def connect(connection: redis.Connection) -> None:
        callers.add(threading.current_thread().name)
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.Connection, "connect", connect)
    board = StatusBoard(RedisLink("redis://127.0.0.1:1/0"), "email-dlq")
    for number in range(1_000):
        board.show([Shown(0, f"a-{number}", "sent")])
    wait_until(lambda: bool(callers), 10, "the first try")
    board.close()
    assert callers == {"redis-link"}, "the worker's own thread never waits for Redis"
