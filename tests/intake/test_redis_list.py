"""The Redis list against a real own_redis: no item is ever out of every list before it is acknowledged, whatever breaks in between."""

import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from intake import redis_list
from intake.redis_list import FORGET_AFTER_S, IN_HAND, MOST_BYTES, PAGE, QUEUE, TAKERS, TOPIC, RedisList, examine
from sandbox.children import wait_until
from sandbox.redis import Redis

PLACE = "worker@host/intake-0"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def client(own_redis: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as made:
        made.flushdb()
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def taker(own_redis: Redis, clock: Clock) -> Iterator[RedisList]:
    made = RedisList(own_redis.url, PLACE, "boot-1", clock)
    yield made
    made.close()


def successor(own_redis: Redis, clock: Clock, place: str = PLACE, incarnation: str = "boot-2") -> RedisList:
    return RedisList(own_redis.url, place, incarnation, clock)


def push(client: redis.Redis, count: int, first: int = 0) -> list[bytes]:
    values = [b"job-%d" % number for number in range(first, first + count)]
    client.rpush(QUEUE, *values)
    return values


def everything(client: redis.Redis) -> list[bytes]:
    """All items in whichever list, those in hand after those that wait."""
    hands = sorted(key for key in client.keys(IN_HAND + "*"))
    return [value for key in [QUEUE.encode(), *hands] for value in client.lrange(key, 0, -1)]


def values_of(records: list[redis_list.Record]) -> list[bytes]:
    return [record.value or b"" for record in records]


def test_items_come_in_the_order_of_their_producers_and_stay_in_hand_until_acknowledged(taker: RedisList, client: redis.Redis) -> None:
    values = push(client, 130)
    assert values_of(taker.take(120)) == values[:120]
    assert client.llen(QUEUE) == 10
    assert client.lrange(IN_HAND + taker.name, 0, -1) == values[:120]
    taker.acknowledge()
    assert everything(client) == values[120:]
    assert values_of(taker.take(120)) == values[120:]
    taker.acknowledge()
    assert everything(client) == []
    assert taker.take(120) == []


@pytest.mark.parametrize("limit", [0, 1, 2, PAGE, PAGE + 1, PAGE + 2, 3 * PAGE])
def test_a_take_is_never_larger_than_its_limit(taker: RedisList, client: redis.Redis, limit: int) -> None:
    values = push(client, 2 * PAGE)
    assert values_of(taker.take(limit)) == values[:limit]
    assert everything(client) == values[limit:] + values[:limit]


def test_a_take_is_bounded_in_bytes_too(taker: RedisList, client: redis.Redis) -> None:
    for number in range(3 * PAGE):
        client.rpush(QUEUE, b"%d" % number + bytes(1 << 18))
    taken = sum(map(len, values_of(taker.take(3 * PAGE))))
    assert MOST_BYTES <= taken < MOST_BYTES + PAGE * (1 << 18) + 1_000


def test_a_record_says_where_it_came_from_and_has_the_same_name_when_it_comes_again(taker: RedisList, client: redis.Redis) -> None:
    client.rpush(QUEUE, b"one", b"two", b"one")
    one, two, again = taker.take(10)
    assert one.topic == TOPIC == "redis:email-jobs"
    assert one.source == {"topic": TOPIC, "partition": -1, "offset": -1}
    assert one.name == again.name != two.name
    assert one.standing is None


def test_the_successor_in_a_slot_gets_what_the_dead_had_in_hand_at_once_and_in_order(
    taker: RedisList, client: redis.Redis, own_redis: Redis, clock: Clock
) -> None:
    values = push(client, 2 * PAGE + 30)
    taker.take(2 * PAGE + 7)
    heir = successor(own_redis, clock)
    assert heir.give_back() == 2 * PAGE + 7
    assert client.lrange(QUEUE, 0, -1) == values
    assert values_of(heir.take(500)) == values
    heir.close()


def test_another_hosts_items_are_left_alone_while_it_is_seen_and_given_back_when_it_is_not(
    taker: RedisList, client: redis.Redis, own_redis: Redis, clock: Clock
) -> None:
    values = push(client, 5)
    taker.take(3)
    other = successor(own_redis, clock, place="worker@elsewhere/intake-0")
    assert other.give_back() == 0
    # so long ago by Redis' own clock that it must be dead
    client.zincrby(TAKERS, -redis_list.DEAD_AFTER_S - 5, taker.name)
    assert other.give_back() == 0, "it looked a moment ago"
    clock.now_s += redis_list.SEEN_EVERY_S
    assert other.give_back() == 3
    assert client.lrange(QUEUE, 0, -1) == values
    other.close()


def test_one_who_stores_for_long_keeps_being_seen(taker: RedisList, client: redis.Redis, clock: Clock) -> None:
    push(client, 1)
    taker.take(1)
    client.zincrby(TAKERS, -redis_list.DEAD_AFTER_S - 5, taker.name)
    before = client.zscore(TAKERS, taker.name)
    clock.now_s += redis_list.SEEN_EVERY_S
    taker.keep_alive()
    after = client.zscore(TAKERS, taker.name)
    assert before is not None and after is not None and after > before + redis_list.DEAD_AFTER_S
    taker.acknowledge()
    assert everything(client) == []


def test_one_who_was_taken_for_dead_deletes_nothing_that_is_not_its_own(
    taker: RedisList, client: redis.Redis, own_redis: Redis, clock: Clock
) -> None:
    values = push(client, 4)
    taker.take(4)
    heir = successor(own_redis, clock)
    heir.give_back()
    assert values_of(heir.take(2)) == values[:2]
    taker.acknowledge()
    assert sorted(everything(client)) == values
    heir.close()


def test_the_dead_are_forgotten_when_their_hands_are_empty_and_not_before(client: redis.Redis, own_redis: Redis, clock: Clock) -> None:
    now_s = client.time()[0]
    client.zadd(TAKERS, {"gone/x.0": now_s - FORGET_AFTER_S - 5, "full/x.0": now_s - FORGET_AFTER_S - 5, "late/x.0": now_s - 60})
    client.rpush(IN_HAND + "full/x.0", b"item")
    heir = successor(own_redis, clock)
    assert heir.give_back() == 1
    names = client.zrange(TAKERS, 0, -1)
    assert b"gone/x.0" not in names
    assert b"full/x.0" in names and b"late/x.0" in names
    clock.now_s += redis_list.SEEN_EVERY_S
    heir.give_back()
    assert b"full/x.0" not in client.zrange(TAKERS, 0, -1)
    heir.close()


def test_a_redis_that_is_away_is_an_empty_list_said_once_and_taken_up_again(
    server_folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with Redis(server_folder / "redis-that-goes") as own_redis:
        if own_redis.kind == "fake":
            pytest.skip("fakeredis forgets")
        taker = RedisList(own_redis.url, PLACE, "boot-1", clock)
        with redis.Redis.from_url(own_redis.url) as client:
            values = push(client, 6)
            assert values_of(taker.take(4)) == values[:4]
        own_redis.stop()
        taker.acknowledge()
        for _ in range(5):
            clock.now_s += redis_list.RETRY_S
            assert taker.take(4) == []
            assert taker.give_back() == 0
            taker.keep_alive()
            taker.acknowledge()
        own_redis.start()
        clock.now_s += redis_list.RETRY_S
        # not acknowledged, so all come again
        assert taker.give_back() == 4
        assert values_of(taker.take(10)) == values
        taker.acknowledge()
        with redis.Redis.from_url(own_redis.url) as client:
            assert everything(client) == []
        taker.close()
    said = [record.getMessage() for record in caplog.records if record.name == "intake.redis_list"]
    assert said == ["Redis does not do as it is asked: its items wait", "Redis is back", "gave back what a dead taker had in hand"]


def test_while_it_rests_after_a_failure_redis_is_not_asked(clock: Clock) -> None:
    taker = RedisList("redis://127.0.0.1:1/0", PLACE, "boot-1", clock)
    taker.take(1)
    name = taker.name
    taker.take(1)
    assert taker.name == name, "no second try, so no second change of name"
    clock.now_s += redis_list.RETRY_S
    taker.take(1)
    assert taker.name != name


def test_a_command_that_is_executed_after_its_client_gave_up_costs_nothing(
    own_redis: Redis, client: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen Redis reads later what was sent to it: the moves of a client that went on long ago."""
    if own_redis.kind == "fake":
        pytest.skip("fakeredis has no queue of its own")
    monkeypatch.setattr(redis_list, "connect", partial(redis_list.connect, answer_limit_s=0.2))
    taker = RedisList(own_redis.url, PLACE, "boot-1", clock)
    values = push(client, 9)
    assert len(taker.take(1)) == 1
    taker.acknowledge()
    before = taker.name
    own_redis.server.freeze()
    try:
        assert taker.take(4) == []
    finally:
        own_redis.server.thaw()
    wait_until(lambda: client.llen(IN_HAND + before) > 0, 5, "the late move")
    assert taker.name != before
    clock.now_s += redis_list.RETRY_S
    taker.take(2)
    taker.acknowledge()
    clock.now_s += redis_list.SEEN_EVERY_S
    taker.give_back()
    left = values_of(taker.take(100))
    assert sorted(left) == sorted([values[1], *values[4:]]), "0 was acknowledged, 1 was moved late, 2 and 3 were acknowledged"
    taker.close()


def test_an_acknowledgement_that_is_lost_brings_the_items_again_and_loses_none(
    own_redis: Redis, client: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taker = RedisList(own_redis.url, PLACE, "boot-1", clock)
    values = push(client, 3)
    taker.take(3)

    def fail(*names: str) -> int:
        raise redis.ConnectionError("the answer was lost")

    with monkeypatch.context() as broken:
        broken.setattr(taker._client, "unlink", fail)
        taker.acknowledge()
    clock.now_s += redis_list.RETRY_S
    assert taker.take(10) == []
    assert taker.give_back() == 3
    assert values_of(taker.take(10)) == values
    taker.close()


def test_a_key_that_is_no_list_stops_nothing_but_itself(taker: RedisList, client: redis.Redis, clock: Clock) -> None:
    client.set(QUEUE, "a mistake")
    assert taker.take(5) == []
    client.delete(QUEUE)
    clock.now_s += redis_list.RETRY_S
    values = push(client, 2)
    assert values_of(taker.take(5)) == values


def test_no_command_is_repeated_behind_our_back() -> None:
    """The client library would, and a move that was executed without an answer would be executed again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        met: list[bytes] = []

        def hang_up() -> None:
            while True:
                connection, _ = listener.accept()
                met.append(connection.recv(1_000))
                connection.close()
                if b"done" in met[-1]:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        client = redis_list.connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        with pytest.raises(redis.RedisError):
            client.lmove("a", "b", "LEFT", "RIGHT")
        client.close()
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"done")
            thread.join(10)
    assert len(met) == 2


def test_examine_says_how_much_waits_or_what_is_wrong(own_redis: Redis, client: redis.Redis) -> None:
    push(client, 3)
    assert examine(own_redis.url) == (None, 3)
    assert everything(client) == [b"job-0", b"job-1", b"job-2"]
    client.delete(QUEUE)
    client.set(QUEUE, "a mistake")
    assert "wrong kind" in str(examine(own_redis.url).problem)
    assert "ConnectionError" in str(examine("redis://:secret@127.0.0.1:1/0").problem)
    assert "secret" not in str(examine("redis://:secret@127.0.0.1:1/0").problem)
