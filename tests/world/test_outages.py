"""Postgres, Kafka and the ESPs' goodwill go and come back while a whole product works: nothing is lost, nothing doubled, no event
missing, and where it is our own fault the lane stops and says so.

Each server is really stopped; what the fakes took is compared with what was asked for. Kafka is away for KAFKA_AWAY_S seconds, by
default as long as a sweeper needs to try in vain; 600 goes beyond what its client keeps a message for, too.
"""

import json
import os
import signal
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from db import lanes
from sandbox.children import wait_until
from sandbox.fakes.ledger import read_ledger
from sandbox.kafka_mock import KafkaMock
from sandbox.product import Product
from sandbox.world import JOB_TOPICS, World

KAFKA_AWAY_S = float(os.environ.get("KAFKA_AWAY_S", "20"))
PARTS = 4

pytestmark = [pytest.mark.thorough, pytest.mark.world, pytest.mark.timeout(240 + KAFKA_AWAY_S)]

LIMIT_S = 90.0
AWAY_S = 6.0
EVENTS = "email-events"


def job(name: str, **fields: object) -> bytes:
    return json.dumps(
        {"id": name, "type": "welcome-email", "recipient": {"email": recipient(name)}, "data": {"name": "Ada"}, **fields}
    ).encode()


def recipient(name: str) -> str:
    return f"{name}@outages.example"


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


class Shop:
    """The product in its world, and producers before it."""

    def __init__(self, world: World):
        self.world = world
        self.product = Product(world, 2, {"EMAIL_RETRY_DELAY_SECONDS": "1", "WORKER_BATCH_SIZE": "50"})
        self.client = redis.Redis.from_url(world.redis.url, decode_responses=True)
        self._producer = Producer({"bootstrap.servers": world.bootstrap_servers, "log_level": 0})

    def produce(self, wanted: list[str], **fields: object) -> None:
        for name in wanted:
            self._producer.produce("email-jobs", job(name, **fields))
        assert self._producer.flush(10) == 0

    def produce_until_one_waits(self) -> list[str]:
        """One email after the other until one is put off: from then on the edited template is the one in use."""
        produced: list[str] = []
        while not produced or produced[-1] not in self.jobs("retrying"):
            produced.append(f"canary-{len(produced)}")
            self.produce(produced[-1:])
            self.wait(lambda: produced[-1] in self.jobs("sent") | self.jobs("retrying"), "the fate of a canary")
        return produced

    def jobs(self, status: str) -> set[str]:
        return {row[0] for row in self.ask(f"SELECT job_id FROM email_jobs WHERE status = '{status}'")}

    def push(self, wanted: list[str]) -> None:
        self.client.rpush("email-jobs", *map(job, wanted))

    def taken(self) -> Counter[str]:
        """How often each recipient got a mail, by the fakes' own ledgers."""
        return Counter(line["recipient"] for esp in self.world.esp_addresses for line in read_ledger(self.world.ledger(esp)))

    def wait(self, condition: Any, what: str) -> None:
        wait_until(condition, LIMIT_S, what, lambda: self.product.supervisor.tail(4_000))

    def wait_until_sent(self, *groups: list[str]) -> None:
        missing = {recipient(name) for group in groups for name in group}
        self.wait(lambda: missing <= self.taken().keys(), f"{len(missing)} mails")

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(self.product.database()) as database:
            return database.read(statement)

    def do(self, statement: str) -> None:
        with closing(self.product.database()) as database:
            database.run(lambda cursor: cursor.execute(statement))

    def stages(self) -> set[str]:
        """What the processes say that they do, by the supervisor's own dump."""
        before = self.product.supervisor.log.stat().st_size
        os.kill(self.product.supervisor.pid, signal.SIGUSR1)
        expected = len(self.product.state()["members"])

        def found() -> list[dict[str, Any]]:
            with self.product.supervisor.log.open("rb") as log:
                log.seek(before)
                lines = [line for line in log.read().splitlines() if line.startswith(b"{") and line.endswith(b"}")]
            return [line for line in map(json.loads, lines) if line.get("message") == "state"]

        self.wait(lambda: len(found()) >= expected, "a dump of the state")
        return {line["stage"] for line in found()}

    def delivery_pid(self) -> int:
        return next(int(member["pid"]) for member in self.product.state()["members"] if member["name"] == "delivery-1")

    def page(self, path: str) -> str:
        port = json.loads((self.product.state_dir / "exporter.json").read_text())["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refusal:
            return str(refusal.read().decode())

    def tell_fakes(self, **changes: object) -> None:
        body = json.dumps({"esp": "*", **changes}).encode()
        request = urllib.request.Request(f"{self.world.inbox_address.rstrip('/')}/control", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).close()

    def told(self) -> dict[str, set[str]]:
        """The ids of the events `sent` on the events topic, by job."""
        settings = {"bootstrap.servers": self.world.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
        found: dict[str, set[str]] = defaultdict(set)
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition(EVENTS, partition, OFFSET_BEGINNING) for partition in range(JOB_TOPICS[EVENTS])])
            while (message := consumer.poll(2.0)) is not None:
                event = json.loads(message.value() or b"{}")
                if event.get("event") == "sent":
                    found[event["jobId"]].add(event["eventId"])
        return found


@pytest.fixture(scope="module")
def shop(server_folder: Path) -> Iterator[Shop]:
    with World(server_folder / "outages-world") as world:
        shop = Shop(world)
        shop.product.prepare()
        shop.product.start()
        yield shop
        assert shop.product.stop() == 0
        shop.client.close()


def assert_sent_once(shop: Shop, *groups: list[str]) -> None:
    taken = shop.taken()
    assert [name for group in groups for name in group if taken[recipient(name)] != 1] == []


def test_postgres_is_restarted_without_a_word_and_work_goes_on(shop: Shop) -> None:
    shop.produce(names("restart", 400))
    shop.push(names("restart-redis", 100))
    shop.wait(lambda: len(shop.taken()) >= 50, "the first mails")
    for _ in range(3):
        shop.world.postgres.restart("immediate")
        time.sleep(0.3)  # the pace of the outages; nothing is awaited by it
    shop.wait_until_sent(names("restart", 400), names("restart-redis", 100))
    assert_sent_once(shop, names("restart", 400), names("restart-redis", 100))


def test_postgres_is_away_and_a_worker_dies_meanwhile(shop: Shop) -> None:
    pids = {member["name"]: member["pid"] for member in shop.product.state()["members"]}
    shop.produce(names("away", 300))
    shop.wait(lambda: f"{recipient('away-0')}" in shop.taken(), "the first mail")
    shop.world.postgres.stop("immediate")
    shop.produce(names("away-too", 100))
    shop.push(names("away-redis", 50))
    shop.wait(lambda: "waiting for the store" in shop.stages(), "a heartbeat that says what it waits for")
    os.kill(shop.delivery_pid(), signal.SIGKILL)
    shop.wait(lambda: shop.product.state()["members"] and shop.delivery_pid() not in (0, pids["delivery-1"]), "a successor")
    shop.world.postgres.start()
    doubted = {row[0] for row in shop.ask("SELECT recipient_email FROM email_jobs WHERE status = 'uncertain'")}
    wanted = [*names("away", 300), *names("away-too", 100), *names("away-redis", 50)]
    shop.wait_until_sent([name for name in wanted if recipient(name) not in doubted])
    assert_sent_once(shop, [name for name in wanted if recipient(name) not in doubted])
    after = {member["name"]: member["pid"] for member in shop.product.state()["members"]}
    assert {name for name in pids if after[name] != pids[name]} == {"delivery-1"}, "nobody else died"
    shop.wait(lambda: shop.ask("SELECT count(*) FROM email_jobs WHERE status = 'sending'") == [(0,)], "every answer on record")


def test_kafka_is_away_and_rows_and_redis_go_on_and_no_event_is_missing(shop: Shop) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    shop.produce(names("scheduled", 50), scheduledAt=soon)
    shop.wait(lambda: shop.ask("SELECT count(*) FROM email_jobs WHERE status = 'scheduled'") == [(50,)], "fifty rows")
    kafka = cast(KafkaMock, shop.world.kafka)
    kafka.set_down()
    began_s = time.monotonic()
    try:
        for part in range(PARTS):
            shop.push(names(f"no-kafka-{part}", 50))
            shop.wait_until_sent(names("scheduled", 50), names(f"no-kafka-{part}", 50))
            until_s = began_s + KAFKA_AWAY_S * (part + 1) / PARTS
            wait_until(lambda until_s=until_s: time.monotonic() > until_s, KAFKA_AWAY_S, "some time")  # type: ignore[misc]
        assert shop.ask("SELECT count(*) > 0 FROM outbox") == [(True,)]
        assert "email_outbox_rows" in shop.page("/metrics")
    finally:
        kafka.set_up()
    shop.produce(names("kafka-again", 50))
    shop.wait_until_sent(names("kafka-again", 50))
    away = [name for part in range(PARTS) for name in names(f"no-kafka-{part}", 50)]
    wanted = [*names("scheduled", 50), *away, *names("kafka-again", 50)]
    assert_sent_once(shop, wanted)
    shop.wait(lambda: shop.ask("SELECT count(*) FROM outbox") == [(0,)], "an outbox that is empty again")
    told = shop.told()
    assert [name for name in wanted if len(told[name]) != 1] == [], "each event with its one id, however often it was told"


def test_a_template_is_broken_by_an_edit_and_the_lane_stops_until_it_is_mended(shop: Shop) -> None:
    shop.produce(names("rendered", 1))
    shop.wait_until_sent(names("rendered", 1))
    shop.do("UPDATE email_templates SET html_content = '<p>{{ nobody_gives_this }}</p>' WHERE name = 'welcome-email'")
    canaries = shop.produce_until_one_waits()
    shop.produce(names("broken", 900))
    shop.wait(lambda: shop.product.state()["stopped_lanes"] == ["normal"], "a lane that is stopped")
    health = shop.page("/health")
    assert "template welcome-email: missing-variables" in health
    assert '"status": "failing"' in health
    shop.wait(lambda: 'email_lane_stopped{lane="normal"} 1.0' in shop.page("/metrics"), "an alarm")
    assert "no process is up" not in shop.page("/health/ready")
    assert shop.ask("SELECT count(*) FROM dead_letters") == [(0,)]
    shop.produce(names("express", 5), priority="high")
    shop.do("UPDATE email_templates SET html_content = '<p>mended</p>' WHERE name = 'welcome-email'")
    shop.wait(lambda: shop.product.state()["stopped_lanes"] == [], "a lane that goes on by itself")
    shop.wait_until_sent(names("broken", 900), canaries)
    assert_sent_once(shop, names("broken", 900), canaries)
    assert shop.ask("SELECT count(*) FROM dead_letters") == [(0,)]


def test_every_esp_refuses_our_credentials_and_the_lane_stops_until_they_are_mended(shop: Shop) -> None:
    shop.tell_fakes(key="another key than ours")
    shop.produce(names("refused", 200))
    shop.wait(lambda: shop.product.state()["stopped_lanes"] == ["normal"], "a lane that is stopped")
    assert "refuse" in shop.page("/health")
    assert shop.ask("SELECT count(*) FROM dead_letters") == [(0,)]
    shop.tell_fakes(key="")
    shop.wait_until_sent(names("refused", 200))
    assert_sent_once(shop, names("refused", 200))


def test_the_log_shouts_once_for_each_stop_with_the_way_out_and_holds_no_address(shop: Shop) -> None:
    lines = [json.loads(line) for line in shop.product.supervisor.log.read_text().splitlines() if line.startswith("{")]
    shouts = [line for line in lines if line["message"].startswith("a lane is stopped")]
    assert [shout["level"].lower() for shout in shouts] == ["error", "error"]
    assert all("manage.py lanes resume normal" in shout["way_out"] for shout in shouts)
    assert "outages.example" not in shop.product.supervisor.log.read_text()


def test_an_operator_stops_a_lane_and_others_go_on(shop: Shop) -> None:
    with closing(shop.product.database()) as database:
        database.run(lambda cursor: lanes.pause(cursor, "normal", "ada", "let me look"))
    shop.wait(lambda: shop.product.state()["stopped_lanes"] == ["normal"], "a lane that is stopped")
    shop.produce(names("held", 20))
    shop.push(names("held-redis", 20))
    shop.wait(
        lambda: shop.ask("SELECT count(*) FROM email_jobs WHERE status = 'pending' AND starts_with(job_id, 'held-redis')") == [(20,)],
        "rows",
    )
    assert not any(address.startswith("held") for address in shop.taken())
    assert '"status": "ok"' in shop.page("/health"), "what a person did on purpose is no alarm"
    with closing(shop.product.database()) as database:
        assert database.run(lambda cursor: lanes.resume(cursor, "normal"))
    shop.wait_until_sent(names("held", 20), names("held-redis", 20))
    assert_sent_once(shop, names("held", 20), names("held-redis", 20))
