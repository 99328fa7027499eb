"""What the Kafka tests share: a mock cluster, a producer, sources with short sessions."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from intake.kafka import KafkaSource
from intake.lanes import Subscription
from mail.record import Record
from sandbox.kafka_mock import KafkaMock

READY_LIMIT_S = 30.0


class Topic:
    """A topic of its own in the cluster, with a group of its own."""

    def __init__(self, cluster: KafkaMock, partitions: int = 1, name: str = ""):
        self.cluster = cluster
        self.name = name or f"jobs-{uuid.uuid4().hex[:8]}"
        self.group = f"group-{self.name.strip('^')}"
        cluster.create_topics({self.name: partitions})

    def produce(self, values: list[bytes | None], partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.cluster.bootstrap_servers, "linger.ms": 1})
        for value in values:
            producer.produce(self.name, value, partition=partition)
        assert producer.flush(10) == 0

    def committed(self, partition: int = 0) -> int:
        """The group's committed offset; negative = none. Asked by a client that is no member."""
        reader = Consumer({"bootstrap.servers": self.cluster.bootstrap_servers, "group.id": self.group})
        try:
            return int(reader.committed([TopicPartition(self.name, partition)], timeout=10)[0].offset)
        finally:
            reader.close()


@contextmanager
def source_of(topic: Topic, subscription: Subscription | None = None, **changes: Any) -> Iterator[KafkaSource]:
    """A member of the topic's group."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": topic.cluster.bootstrap_servers,
        "group_id": topic.group,
        "instance_id": f"instance-{uuid.uuid4().hex[:8]}",
        "offset_reset": "earliest",
        "max_poll_interval_s": 60.0,
        "client_settings": {"session.timeout.ms": "6000"},
    }
    source = KafkaSource(subscription or Subscription(((topic.name, "normal"),), ("normal",)), **arguments | changes)
    try:
        yield source
    finally:
        source.close()


def poll_until(source: KafkaSource, is_enough: Callable[[list[Record]], object], limit: int = 500) -> list[Record]:
    """Polls until the records so far are enough; fails after READY_LIMIT_S."""
    records: list[Record] = []
    until_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < until_s:
        records += source.poll(limit, 0.25)
        if is_enough(records):
            return records
    raise AssertionError(f"only {len(records)} records came")


def poll_count(source: KafkaSource, count: int) -> list[Record]:
    """Polls until so many records came."""
    return poll_until(source, lambda records: len(records) >= count)
