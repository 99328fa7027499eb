"""The publisher against the mock cluster, and its reaction to a broken client against a fake one."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from sandbox.kafka_mock import KafkaMock
from sandbox.librdkafka import Api
from tests.waiting import wait_until
from workers.news import publisher as publisher_module
from workers.news.publisher import Pair, Publisher

PAIRS: list[Pair] = [(b"a", b"1"), (None, b"2"), (b"c", b"")]


@pytest.fixture
def topic(kafka_mock: KafkaMock) -> str:
    name = f"events-{uuid.uuid4().hex[:8]}"
    kafka_mock.create_topics({name: 1})
    return name


def open_publisher(cluster: KafkaMock) -> Publisher:
    return Publisher(bootstrap_servers=cluster.bootstrap_servers, client_id="test")


@pytest.fixture
def publisher(kafka_mock: KafkaMock) -> Iterator[Publisher]:
    found = open_publisher(kafka_mock)
    yield found
    found.close()


@pytest.fixture
def lonely(quick_close: None) -> Iterator[Publisher]:
    """A publisher whose brokers are not there."""
    found = Publisher(bootstrap_servers="127.0.0.1:1", client_id="test")
    yield found
    found.close()


@pytest.fixture
def quick_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "CLOSE_LIMIT_S", 0.2)


def read_all(cluster: KafkaMock, topic: str, count: int) -> list[tuple[bytes | None, bytes | None]]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages = consumer.consume(count, 10)
        return [(message.key(), message.value()) for message in messages]
    finally:
        consumer.close()


def serve_until(is_so: Callable[[], object], publisher: Publisher, limit_s: float = 15.0) -> None:
    def serve() -> None:
        publisher.poll()
        time.sleep(0.01)

    wait_until(is_so, limit_s, serve)


def test_messages_arrive_in_order_and_are_reported_once_by_poll(kafka_mock: KafkaMock, publisher: Publisher, topic: str) -> None:
    done: list[bool] = []
    assert publisher.publish(topic, PAIRS, done.append)
    assert done == [], "never from within publish"
    serve_until(lambda: done, publisher)
    publisher.flush(5)
    assert done == [True]
    assert read_all(kafka_mock, topic, 3) == [(b"a", b"1"), (None, b"2"), (b"c", b"")]


def test_no_messages_at_all_are_delivered_by_the_next_poll(publisher: Publisher, topic: str) -> None:
    done: list[bool] = []
    assert publisher.publish(topic, [], done.append)
    assert done == []
    publisher.poll()
    assert done == [True]


def test_flush_waits_for_all_reports(publisher: Publisher, topic: str) -> None:
    done: list[bool] = []
    for _ in range(50):
        publisher.publish(topic, PAIRS, done.append)
    assert publisher.flush(10)
    assert done == [True] * 50


def test_absent_brokers_never_make_the_caller_wait(lonely: Publisher) -> None:
    began_s = time.monotonic()
    done: list[bool] = []
    assert lonely.publish("events", PAIRS, done.append)
    lonely.poll()
    assert time.monotonic() - began_s < 5, "a client without a broker waits for a minute"
    assert not lonely.flush(0.1)
    assert done == []


def test_closing_without_brokers_is_bounded_and_gives_the_rest_up(lonely: Publisher) -> None:
    done: list[bool] = []
    lonely.publish("events", PAIRS, done.append)
    began_s = time.monotonic()
    lonely.close()
    assert time.monotonic() - began_s < 15
    assert done == [False]


def test_a_full_queue_takes_nothing_and_says_so(lonely: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    # the client counts error notes that wait for us as messages, so the numbers leave some room
    monkeypatch.setattr(publisher_module, "QUEUE_MESSAGES", 30)
    done: list[bool] = []
    assert lonely.publish("events", PAIRS * 6, done.append)
    assert not lonely.publish("events", PAIRS * 6, done.append)
    assert lonely.publish("events", PAIRS[:2], done.append)
    lonely.close()
    assert done == [False, False], "nothing is told about what was not taken"


def test_messages_that_fill_the_bytes_of_the_queue_fail_as_a_whole_later(quick_close: None) -> None:
    publisher = Publisher(bootstrap_servers="127.0.0.1:1", client_id="test", client_settings={"queue.buffering.max.kbytes": "1024"})
    done: list[bool] = []
    assert publisher.publish("events", [(None, b"x" * 500_000)] * 5, done.append)
    assert publisher.publish("events", [(None, b"x" * 1_000_000)], done.append)
    assert done == []
    publisher.poll()
    assert done == [False], "the second one took nothing"
    publisher.close()
    assert done == [False, False]


def test_a_message_that_is_too_large_fails_its_call_and_no_other(publisher: Publisher, topic: str) -> None:
    done: list[tuple[str, bool]] = []
    publisher.publish(topic, [(None, b"x" * 5_000_000)], lambda is_delivered: done.append(("large", is_delivered)))
    publisher.publish(topic, PAIRS, lambda is_delivered: done.append(("small", is_delivered)))
    publisher.flush(10)
    assert sorted(done) == [("large", False), ("small", True)]


def test_messages_that_the_broker_refuses_are_a_failed_call(kafka_mock: KafkaMock, publisher: Publisher, topic: str) -> None:
    kafka_mock.push_errors(Api.PRODUCE, [KafkaError.MSG_SIZE_TOO_LARGE])
    done: list[bool] = []
    publisher.publish(topic, PAIRS, done.append)
    serve_until(lambda: done, publisher)
    publisher.publish(topic, PAIRS, done.append)
    serve_until(lambda: len(done) == 2, publisher)
    assert done == [False, True]


def test_trouble_is_logged_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "workers.news.publisher")
    with KafkaMock(tmp_path / "kafka", {"events": 1}) as cluster:
        publisher = open_publisher(cluster)
        done: list[bool] = []
        publisher.publish("events", PAIRS, done.append)
        serve_until(lambda: done, publisher)
        cluster.set_down()
        publisher.publish("events", PAIRS, done.append)
        serve_until(lambda: "does not take messages" in caplog.text, publisher)
        cluster.set_up()
        serve_until(lambda: len(done) == 2, publisher)
        assert done == [True, True], "what waited is delivered after all"
        assert caplog.text.count("Kafka takes messages again") == 1
        publisher.close()


class FakeError:
    def code(self) -> int:
        return KafkaError._FATAL

    def fatal(self) -> bool:
        return True

    def name(self) -> str:
        return "_FATAL"

    def str(self) -> str:
        return "made up"


class FakeProducer:
    """Holds messages until it is purged or told that they arrived."""

    def __init__(self, settings: dict[str, Any], logger: object):
        self.settings = settings
        self.waiting: list[Callable[[object, object], None]] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def produce(self, topic: str, value: bytes, key: bytes | None, on_delivery: Callable[[object, object], None]) -> None:
        self.waiting.append(on_delivery)

    def report(self, error: object) -> None:
        waiting, self.waiting = self.waiting, []
        for on_delivery in waiting:
            on_delivery(error, None)

    def purge(self) -> None:
        self.report(FakeError())

    def flush(self, timeout_s: float) -> int:
        return len(self.waiting)

    def poll(self, timeout_s: float) -> int:
        return 0


def publisher_of_fakes() -> tuple[Publisher, list[FakeProducer]]:
    """A publisher, and the clients that it has made so far."""
    made: list[FakeProducer] = []

    def make_producer(settings: dict[str, Any], logger: object) -> Any:
        made.append(FakeProducer(settings, logger))
        return made[-1]

    return Publisher(bootstrap_servers="127.0.0.1:1", client_id="test", make_producer=make_producer), made


def test_a_fatally_broken_client_is_replaced_and_its_messages_are_told_as_failed() -> None:
    publisher, made = publisher_of_fakes()
    done: list[bool] = []
    publisher.publish("events", PAIRS, done.append)
    made[0].settings["error_cb"](FakeError())
    assert publisher.publish("events", PAIRS, done.append)
    assert done == [False]
    assert len(made) == 2
    made[1].report(None)
    assert done == [False, True]


@pytest.mark.expect_errors
def test_a_real_fatal_error_raises_nothing_and_is_survived(kafka_mock: KafkaMock, publisher: Publisher, topic: str) -> None:
    kafka_mock.push_errors(Api.PRODUCE, [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER])
    done: list[bool] = []
    publisher.publish(topic, PAIRS, done.append)
    serve_until(lambda: done, publisher)
    publisher.publish(topic, PAIRS, done.append)
    serve_until(lambda: len(done) == 2, publisher)
    assert done == [False, True]


def test_one_failed_message_makes_its_whole_call_failed() -> None:
    publisher, made = publisher_of_fakes()
    done: list[bool] = []
    publisher.publish("events", PAIRS, done.append)
    made[0].waiting.pop()(FakeError(), None)
    assert done == []
    made[0].report(None)
    assert done == [False]
