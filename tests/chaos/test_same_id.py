"""The same id twice at the same instant: ten thousand pairs, in opposite order on two partitions, through two workers.

Both workers meet the same keys at the same time and in opposite order, batch after batch: whoever comes second must see the
winner, and a deadlock may cost a try, but nobody may notice.
"""

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from db.connection import Database
from sandbox.apache_kafka import ApacheKafka
from sandbox.children import wait_until
from sandbox.kafka_jars import missing_programs
from sandbox.product import WAITING, Product
from sandbox.world import World
from tests.chaos.report import servers
from tests.chaos.run import read_rows, read_taken
from tests.conftest import postgres_programs, refuse

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PAIRS = 10_000
BLOCK = 100  # ids of a block come in opposite order, blocks in the same: so both workers are always at the same ids
TOPIC = "pairs"
LIMIT_S = 240.0
SETTINGS = {
    "KAFKA_TOPIC_EMAIL_JOBS": TOPIC,
    # patterns that match nothing: with the partitions of other topics to share out, one worker might get both of ours
    "KAFKA_TOPIC_EMAIL_JOBS_HIGH": "^no-such-high",
    "KAFKA_TOPIC_EMAIL_JOBS_BULK": "^no-such-bulk",
    "EXPRESS_WORKERS": "0",
    "WORKER_BATCH_SIZE": str(BLOCK),
    "LOG_LEVEL": "info",
}


def produce_pairs(servers: str) -> None:
    """Each id once on either partition."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 3 * PAIRS, "log_level": 0})
    for first in range(0, PAIRS, BLOCK):
        for step in range(BLOCK):
            producer.produce(TOPIC, value_of(first + step), partition=0)
            producer.produce(TOPIC, value_of(first + BLOCK - 1 - step), partition=1)
    assert producer.flush(60) == 0


def value_of(number: int) -> bytes:
    job = f"pair-{number:05}"
    return json.dumps({"id": job, "type": "welcome-email", "recipient": {"email": f"{job}@example.org"}, "data": {"name": "Ada"}}).encode()


def wait_until_read(database: Database, admin: AdminClient, group: str) -> None:
    """Until every id has a fate and both partitions are committed to their ends."""

    def fates() -> tuple[Any, ...]:
        return database.read(
            "SELECT count(*) FILTER (WHERE status <> ALL(%(waiting)s)), count(*) FILTER (WHERE status = ANY(%(waiting)s)) FROM email_jobs",
            {"waiting": list(WAITING)},
        )[0]

    def are_all_read() -> bool:
        return fates() == (PAIRS, 0) and committed(admin, group) == [PAIRS, PAIRS]

    def how_far() -> str:
        ended, waiting = fates()
        return f"{ended} of {PAIRS} have a fate, {waiting} wait, committed {committed(admin, group)}"

    wait_until(are_all_read, LIMIT_S, "every pair to be read", how_far, every_s=0.1)


def committed(admin: AdminClient, group: str) -> list[int]:
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(TOPIC, partition) for partition in (0, 1)])
    answer = admin.list_consumer_group_offsets([wanted])[group].result(10)
    return [each.offset for each in sorted(answer.topic_partitions, key=lambda each: int(each.partition))]


def is_shared_out(admin: AdminClient, group: str) -> bool:
    """Has each of the two workers one partition?"""
    try:
        answer = admin.describe_consumer_groups([group])[group].result(10)
    except KafkaException:  # the first member has only just made the group
        return False
    shares = [[each for each in member.assignment.topic_partitions if each.topic == TOPIC] for member in answer.members]
    return sorted(map(len, shares)) == [1, 1]


def test_ten_thousand_pairs_in_opposite_order_are_sent_once_and_nobody_complains(server_folder: Path) -> None:
    if missing := missing_programs():
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    with World(server_folder / "same-id", kafka="apache", postgres_programs=postgres_programs()) as world:
        print(f"\n{servers(world)}", flush=True)
        assert isinstance(world.kafka, ApacheKafka)
        world.kafka.create_topics({TOPIC: 2})
        product = Product(world, 2, SETTINGS)
        product.prepare()
        product.start()
        admin = AdminClient({"bootstrap.servers": world.bootstrap_servers, "log_level": 0})
        group = product.settings.kafka_group_id
        wait_until(lambda: is_shared_out(admin, group), 60.0, "one partition for each worker")
        produce_pairs(world.bootstrap_servers)
        with closing(product.database()) as database:
            wait_until_read(database, admin, group)
            assert product.stop() == 0
            rows = read_rows(database)
            by_worker = dict(database.read("SELECT owner, count(*) FROM email_attempts GROUP BY owner"))
        taken = Counter(line.recipient for line in read_taken(world))
    assert len(taken) == PAIRS
    assert [recipient for recipient, count in taken.items() if count > 1] == []
    assert Counter(job.status for job in rows.jobs) == {"sent": PAIRS}
    assert {attempt.state for attempt in rows.attempts} == {"accepted"}
    assert dict(rows.dead_letters) == {}
    assert find_complaints(product) == []
    assert len(by_worker) == 2 and min(by_worker.values()) > PAIRS / 20, f"they did not work side by side: {by_worker}"


def find_complaints(product: Product) -> list[str]:
    """Errors and tracebacks, and every word about a store that did not answer."""
    lines = product.supervisor.log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"level": "error"' in line or "Traceback" in line or "the store" in line]
