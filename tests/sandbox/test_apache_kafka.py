import os
import subprocess
import threading
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sandbox import kafka_jars
from sandbox.apache_kafka import ApacheKafka
from sandbox.kafka_jars import VERSION, default_cache, fetch_jars, missing_programs


def new_topic(kafka: ApacheKafka, partitions: int = 2) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    kafka.create_topics({name: partitions})
    return name


def produce(kafka: ApacheKafka, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(10) == 0


def static_member(kafka: ApacheKafka, group: str, topic: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "log_level": 0,
            "group.id": group,
            "group.instance.id": "slot-1",
            "session.timeout.ms": 15_000,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic])
    return consumer


@pytest.mark.integration
def test_topics_are_made_once_with_their_partitions(apache_kafka: ApacheKafka) -> None:
    topic = new_topic(apache_kafka, partitions=3)
    apache_kafka.create_topics({topic: 5})
    admin = AdminClient({"bootstrap.servers": apache_kafka.bootstrap_servers})
    assert len(admin.list_topics(topic, timeout=5).topics[topic].partitions) == 3


@pytest.mark.integration
def test_a_topic_is_not_made_by_asking_for_it(apache_kafka: ApacheKafka) -> None:
    admin = AdminClient({"bootstrap.servers": apache_kafka.bootstrap_servers})
    assert "never-made" not in admin.list_topics(timeout=5).topics
    admin.list_topics("never-made", timeout=5)
    assert "never-made" not in admin.list_topics(timeout=5).topics


@pytest.mark.integration
def test_a_static_members_successor_reads_at_once(apache_kafka: ApacheKafka) -> None:
    """What the mock cluster cannot show, and why this server is here: no wait for the session of 15 s."""
    topic, group = new_topic(apache_kafka), uuid.uuid4().hex
    produce(apache_kafka, topic, b"first")
    first = static_member(apache_kafka, group, topic)
    message: Message | None = first.poll(15)
    assert message is not None

    # the first member is still there and has not said goodbye, as after kill -9
    second = static_member(apache_kafka, group, topic)
    taken_over = second.poll(10)
    second.close()
    first.close()
    assert taken_over is not None and taken_over.value() == b"first"


@pytest.mark.integration
def test_a_killed_broker_comes_back_with_what_it_acknowledged(server_folder: Path) -> None:
    if missing_programs():
        pytest.skip("java or mvn is missing")
    with ApacheKafka(server_folder / "killed-kafka", jars=fetch_jars()) as kafka:
        topic = new_topic(kafka, partitions=1)
        produce(kafka, topic, b"kept")
        kafka.kill()
        kafka.start()
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, "group.id": "any"})
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(10)
        consumer.close()
        assert message is not None and message.value() == b"kept"
        assert not list((server_folder / "killed-kafka" / "tmp").glob("hsperfdata*"))


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "email-worker" / f"kafka-{VERSION}"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache() == Path("/home/somebody/.cache/email-worker") / f"kafka-{VERSION}"


class Maven:
    """Fills the folder as Maven does, slowly enough for others to look, and counts how often."""

    def __init__(self, cache: Path):
        self.cache = cache
        self.runs = 0
        self.may_finish = threading.Event()

    def __call__(self, folder: Path, libs: Path) -> None:
        assert VERSION in (folder / "pom.xml").read_text()
        self.runs += 1
        libs.mkdir()
        (libs / "first.jar").touch()
        assert not self.cache.exists(), "another process could see a half-filled cache"
        self.may_finish.wait(5)
        (libs / f"kafka_2.13-{VERSION}.jar").touch()


def test_two_runs_fetch_once_and_never_see_a_half_filled_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "caches" / "kafka"
    maven = Maven(cache)
    monkeypatch.setattr(kafka_jars, "run_maven", maven)
    found: list[set[str]] = []
    runs = [threading.Thread(target=lambda: found.append(set(os.listdir(fetch_jars(cache))))) for _ in range(2)]
    for run in runs:
        run.start()
    maven.may_finish.set()
    for run in runs:
        run.join()
    assert found == [{"first.jar", f"kafka_2.13-{VERSION}.jar"}] * 2
    assert maven.runs == 1
    assert sorted(path.name for path in cache.parent.iterdir()) == ["kafka", "kafka.lock"]


def test_a_failed_fetch_leaves_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(folder: Path, libs: Path) -> None:
        libs.mkdir()
        raise subprocess.CalledProcessError(1, "mvn", output="no route to host")

    monkeypatch.setattr(kafka_jars, "run_maven", fail)
    with pytest.raises(subprocess.CalledProcessError):
        fetch_jars(tmp_path / "kafka")
    assert [path.name for path in tmp_path.iterdir()] == ["kafka.lock"]


def test_maven_is_needed_only_for_the_first_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    assert missing_programs(tmp_path) == ["java", "mvn"]
    (tmp_path / f"kafka_2.13-{VERSION}.jar").touch()
    assert missing_programs(tmp_path) == ["java"]
