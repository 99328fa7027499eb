import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient

from sandbox.children import NotReady, is_listening, spawn_module, wait_until
from sandbox.kafka_mock import KafkaMock, format_topics, obey, parse_topics
from sandbox.librdkafka import Api, MockCluster


@pytest.fixture
def topic(kafka_mock: KafkaMock) -> Iterator[str]:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    kafka_mock.create_topics({name: 4})
    yield name
    kafka_mock.clear_errors(Api.PRODUCE)
    kafka_mock.set_up()
    kafka_mock.set_rtt(0)


def produce(kafka: KafkaMock, topic: str, value: bytes, **settings: object) -> KafkaError | None:
    """Produce one record and wait; the error of its delivery, or none."""
    reports: list[KafkaError | None] = []
    config: dict[str, object] = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 100}
    producer = Producer({**config, **settings})
    producer.produce(topic, value, on_delivery=lambda error, _: reports.append(error))
    producer.flush(10)
    return reports[0]


def read_one(kafka: KafkaMock, topic: str) -> bytes | None:
    """The first record that a fresh consumer group reads."""
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, "group.id": uuid.uuid4().hex}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "session.timeout.ms": 6000})
    consumer.subscribe([topic])
    try:
        message: Message | None = consumer.poll(15)
        return message.value() if message else None
    finally:
        consumer.close()


def test_topics_have_the_partitions_that_were_asked_for(kafka_mock: KafkaMock, topic: str) -> None:
    found = AdminClient({"bootstrap.servers": kafka_mock.bootstrap_servers}).list_topics(topic, timeout=5).topics[topic]
    assert len(found.partitions) == 4


def test_a_group_reads_what_another_process_would_have_produced(kafka_mock: KafkaMock, topic: str) -> None:
    assert produce(kafka_mock, topic, b"hello") is None
    assert read_one(kafka_mock, topic) == b"hello"


def test_a_broker_that_is_down_takes_nothing_and_loses_nothing(kafka_mock: KafkaMock, topic: str) -> None:
    assert produce(kafka_mock, topic, b"before") is None
    kafka_mock.set_down()
    error = produce(kafka_mock, topic, b"during", **{"message.timeout.ms": 300})
    assert error is not None and error.code() == KafkaError._MSG_TIMED_OUT
    kafka_mock.set_up()
    assert read_one(kafka_mock, topic) == b"before"


def test_pushed_errors_are_what_the_client_gets(kafka_mock: KafkaMock, topic: str) -> None:
    kafka_mock.push_errors(Api.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    error = produce(kafka_mock, topic, b"refused")
    assert error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert produce(kafka_mock, topic, b"taken") is None


def test_cleared_errors_are_forgotten(kafka_mock: KafkaMock, topic: str) -> None:
    kafka_mock.push_errors(Api.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 5)
    kafka_mock.clear_errors(Api.PRODUCE)
    assert produce(kafka_mock, topic, b"taken") is None


def test_a_slow_broker_outlasts_a_hasty_client(kafka_mock: KafkaMock, topic: str) -> None:
    kafka_mock.set_rtt(1_000)
    error = produce(kafka_mock, topic, b"late", **{"message.timeout.ms": 300})
    assert error is not None and error.code() == KafkaError._MSG_TIMED_OUT


def test_a_broker_that_is_not_there_is_refused(kafka_mock: KafkaMock) -> None:
    with pytest.raises(ValueError, match="librdkafka refused with error"):
        kafka_mock.set_down(broker=9)


def test_nonsense_is_answered_with_an_error_and_harms_nobody() -> None:
    cluster = MockCluster()
    lines = ["{", "[]", '{"do": "_check"}', '{"do": "set_rtt"}', '{"do": "set_rtt", "broker": 1, "rtt_ms": 0}']
    answers = list(obey(cluster, lines))
    assert ["error" in answer for answer in answers] == [True, True, True, True, False]


def test_run_by_hand_it_makes_its_topics_and_writes_its_address(tmp_path: Path) -> None:
    arguments = ["--topics", "a:3,b:1", "--port-file", str(tmp_path / "address")]
    child = spawn_module("kafka", "sandbox.kafka_mock", arguments, tmp_path)
    try:
        address = child.wait_for_json()["bootstrap_servers"]
        assert (tmp_path / "address").read_text() == address
        topics = AdminClient({"bootstrap.servers": address}).list_topics(timeout=5).topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {"a": 3, "b": 1}
        # its stdin was /dev/null from the start, and it serves all the same
        assert child.is_running()
    finally:
        child.stop()


def test_a_stopped_cluster_is_gone_at_once(tmp_path: Path) -> None:
    with KafkaMock(tmp_path, {"a": 1}) as kafka:
        port = int(kafka.bootstrap_servers.rpartition(":")[2])
        assert is_listening(port)
    wait_until(lambda: not is_listening(port), 2, "the port to close")


def test_what_was_never_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="never started"):
        KafkaMock(tmp_path).set_up()


def test_topics_are_spelled_and_read_the_same_way() -> None:
    topics = {"email-jobs": 8, "odd:name": 1}
    assert parse_topics(format_topics(topics)) == topics
    assert parse_topics("") == {}
