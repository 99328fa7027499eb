"""Static membership, which only a real Apache Kafka has: a killed worker's successor, and an old process that comes back."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from intake.kafka import KafkaSource
from intake.lanes import Subscription
from mail.errors import Expelled
from mail.record import Record
from sandbox.apache_kafka import ApacheKafka

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
MEMBER = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.intake.test_kafka_takeover import open_source
source = open_source(*sys.argv[2:5])
while True:
    for record in source.poll(500, 0.25):
        print(record.offset, flush=True)
"""


def open_source(servers: str, topic: str, instance: str) -> KafkaSource:
    return KafkaSource(
        Subscription(((topic, "normal"),), ("normal",)),
        bootstrap_servers=servers,
        group_id=f"group-{topic}",
        instance_id=instance,
        offset_reset="earliest",
        max_poll_interval_s=60.0,
    )


@pytest.fixture
def topic(apache_kafka: ApacheKafka) -> str:
    name = f"jobs-{uuid.uuid4().hex[:8]}"
    apache_kafka.create_topics({name: 4})
    producer = Producer({"bootstrap.servers": apache_kafka.bootstrap_servers})
    for number in range(40):
        producer.produce(name, b"x", partition=number % 4)
    assert producer.flush(20) == 0
    return name


def start_member(servers: str, topic: str, instance: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", MEMBER, str(ROOT), servers, topic, instance], cwd=ROOT, stdout=subprocess.PIPE)


@pytest.fixture
def member(apache_kafka: ApacheKafka, topic: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds all partitions and has taken its first record."""
    process = start_member(apache_kafka.bootstrap_servers, topic, "slot-0")
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), "it died"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def poll_count(source: KafkaSource, count: int, limit_s: float) -> list[Record]:
    until_s = time.monotonic() + limit_s
    records: list[Record] = []
    while len(records) < count:
        assert time.monotonic() < until_s, f"only {len(records)} records came"
        records += source.poll(500, 0.25)
    return records


def test_the_successor_of_a_killed_worker_has_its_partitions_back_long_before_the_session_ends(
    apache_kafka: ApacheKafka, topic: str, member: "subprocess.Popen[bytes]"
) -> None:
    os.kill(member.pid, signal.SIGKILL)
    began_s = time.monotonic()
    source = open_source(apache_kafka.bootstrap_servers, topic, "slot-0")
    records = poll_count(source, 40, limit_s=30.0)
    assert time.monotonic() - began_s < 8.0, "the session lasts 15 s"
    assert all(source.owns(record) for record in records)
    source.close()


@pytest.mark.expect_errors
def test_the_older_of_two_processes_with_one_instance_id_is_expelled(apache_kafka: ApacheKafka, topic: str) -> None:
    old = open_source(apache_kafka.bootstrap_servers, topic, "slot-0")
    poll_count(old, 40, limit_s=30.0)
    new = open_source(apache_kafka.bootstrap_servers, topic, "slot-0")
    assert len(poll_count(new, 40, limit_s=30.0)) == 40, "nothing was committed, so all come again"
    until_s = time.monotonic() + 20.0
    with pytest.raises(Expelled):
        while time.monotonic() < until_s:
            old.poll(10, 0.25)
    old.close()
    new.close()


def test_closing_and_coming_back_within_the_session_moves_no_partition(apache_kafka: ApacheKafka, topic: str) -> None:
    first, second = (open_source(apache_kafka.bootstrap_servers, topic, f"slot-{number}") for number in (0, 1))
    until_s = time.monotonic() + 30.0
    while not (first.lag() and second.lag() and len(first.lag()) + len(second.lag()) == 4):
        assert time.monotonic() < until_s, "the partitions were not shared out"
        first.poll(10, 0.1)
        second.poll(10, 0.1)
    before = first.lag().keys()
    first.close()
    successor = open_source(apache_kafka.bootstrap_servers, topic, "slot-0")
    poll_count(successor, 20, limit_s=30.0)
    assert successor.lag().keys() == before
    successor.close()
    second.close()
