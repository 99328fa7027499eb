"""How soon is a killed worker replaced? `python -m bench.takeover --kills 100`: kill -9 after kill -9 on Apache Kafka, under traffic.

For each kill: when the supervisor had forked the successor, when that had its partitions, when it had read its first message and
opened the attempt (so "read" is told a little too late), and when the ESP had its first email. Needs java, and mvn once.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from bench import sample, table
from db import templates
from db.connection import Database
from mail.ids import from_wire
from sandbox.children import wait_until
from sandbox.fakes.ledger import read_ledger
from sandbox.kafka_jars import missing_programs
from sandbox.product import Product
from sandbox.world import JOB_TOPICS, World

TOPICS = ("email-jobs", "email-jobs-high", "email-jobs-bulk")
EVERY_S = 0.1  # a record into each partition
LIMIT_S = 60.0
_ATTEMPTS = "SELECT id, owner, EXTRACT(EPOCH FROM opened_at)::float8 FROM email_attempts ORDER BY opened_at"
_NEWEST = "SELECT count(*) FROM email_attempts WHERE owner LIKE %(place)s AND state <> 'open' AND opened_at > to_timestamp(%(since)s)"


class Kill(NamedTuple):
    """One killed process: its slot and the moment, Unix seconds."""

    slot: int
    at_s: float


class Traffic:
    """A trickle of jobs into every partition, kept up by whoever waits."""

    def __init__(self, servers: str, emails: int):
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 1, "log_level": 0})
        self._jobs = sample.jobs(emails, "take")
        self._next_at_s = 0.0
        self.made = 0

    def flow(self) -> None:
        """Produce what is due."""
        if time.monotonic() < self._next_at_s:
            return
        self._next_at_s = time.monotonic() + EVERY_S
        for topic in TOPICS:
            for partition in range(JOB_TOPICS[topic]):
                key, value = next(self._jobs)
                self._producer.produce(topic, value, key, partition=partition)
                self.made += 1
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(10)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if missing := missing_programs():
        print(f"Apache Kafka needs {' and '.join(missing)}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="email-worker-bench-"))
    try:
        _measure(folder, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.takeover", description="How soon a killed worker is replaced.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    return parser


def _measure(folder: Path, arguments: argparse.Namespace) -> None:
    with World(folder, kafka="apache") as world:
        product = Product(world, arguments.workers)
        product.prepare()
        database = product.database()
        database.run(lambda cursor: templates.insert_missing(cursor, [sample.template()]))
        product.start()
        traffic = Traffic(world.bootstrap_servers, emails=10_000_000)
        kills = list(_kill_often(product, database, traffic, arguments))
        traffic.close()
        wait_until(lambda: _is_all_told(product, traffic.made), LIMIT_S, "all emails to have a fate")
        product.stop()
        _print(_delays(product, database, kills), product.counts(), traffic.made, arguments)
        database.close()


def _kill_often(product: Product, database: Database, traffic: Traffic, arguments: argparse.Namespace) -> Iterator[Kill]:
    dice = random.Random(1)
    for slot in range(arguments.workers):
        _await_sending(product, database, traffic, slot, 0.0)
    for number in range(arguments.kills):
        slot = number % arguments.workers
        _wait_with(traffic, dice.uniform(0.1, 0.4))
        kill = Kill(slot, time.time())
        os.kill(_pid_of(product, slot), signal.SIGKILL)
        _await_sending(product, database, traffic, slot, kill.at_s)
        yield kill


def _pid_of(product: Product, slot: int) -> int:
    members = product.state()["members"]
    return next(int(member["pid"]) for member in members if member["name"] == f"delivery-{slot}")


def _await_sending(product: Product, database: Database, traffic: Traffic, slot: int, since_s: float) -> None:
    """Until this slot has recorded an attempt that was opened since; so the next death counts for no crash loop."""

    def has_recorded() -> bool:
        traffic.flow()
        return bool(database.read(_NEWEST, {"place": f"%/{slot}/%", "since": since_s})[0][0])

    wait_until(has_recorded, LIMIT_S, f"slot {slot} to send", product.supervisor.tail)


def _wait_with(traffic: Traffic, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        traffic.flow()
        time.sleep(0.005)


def _is_all_told(product: Product, made: int) -> bool:
    counts = product.counts()
    return sum(counts.values()) >= made and not any(counts.get(status) for status in ("pending", "sending", "retrying"))


# -- what it came to ---------------------------------------------------------------------------------------------------


def _delays(product: Product, database: Database, kills: Sequence[Kill]) -> dict[str, list[float]]:
    """Seconds from each kill to each step of its successor."""
    log = [json.loads(line) for line in product.supervisor.log.read_text().splitlines() if line.startswith("{")]
    sent_at = {from_wire(line["attempt_id"]): line["at"] for line in _ledgers(product.world) if line["attempt_id"]}
    attempts = [(str(id_), _slot_of(owner), opened) for id_, owner, opened in database.read(_ATTEMPTS)]
    return {
        "the successor is forked": [_first(_starts(log, kill), kill) for kill in kills],
        "it has its partitions": [_first(_assignments(log, kill), kill) for kill in kills],
        "it has read its first message": [_first((opened for _, slot, opened in attempts if slot == kill.slot), kill) for kill in kills],
        "the ESP has its first email": [
            _first((sent_at.get(id_, 0.0) for id_, slot, opened in attempts if slot == kill.slot and opened > kill.at_s), kill)
            for kill in kills
        ],
    }


def _first(moments: Iterator[float] | Any, kill: Kill) -> float:
    return min(moment for moment in moments if moment > kill.at_s) - kill.at_s


def _starts(log: Sequence[dict[str, Any]], kill: Kill) -> Iterator[float]:
    return (_time_of(e) for e in log if e["message"] == "process started" and e["member"] == f"delivery-{kill.slot}")


def _assignments(log: Sequence[dict[str, Any]], kill: Kill) -> Iterator[float]:
    return (_time_of(e) for e in log if e["message"] == "partitions assigned" and (e["role"], e["slot"]) == ("delivery", kill.slot))


def _time_of(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"]).timestamp()


def _slot_of(owner: str) -> int:
    return int(owner.split("/")[-2])


def _ledgers(world: World) -> Iterator[Any]:
    for esp in world.esp_addresses:
        yield from read_ledger(world.ledger(esp))


def _print(delays: dict[str, list[float]], counts: dict[str, int], made: int, arguments: argparse.Namespace) -> None:
    columns: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
        ("min", min),
        ("median", lambda times: _percentile(times, 50)),
        ("p90", lambda times: _percentile(times, 90)),
        ("p99", lambda times: _percentile(times, 99)),
        ("max", max),
    )
    rows = [(step, *[f"{measure(times):.3f}" for _, measure in columns]) for step, times in delays.items()]
    title = f"{arguments.kills} × kill -9 of one of {arguments.workers} workers on Apache Kafka, under traffic"
    told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    table.show(title, ("seconds after the kill", *[name for name, _ in columns]), rows, [f"{made:,} emails were asked for: {told}."])


def _percentile(times: list[float], percent: int) -> float:
    """By nearest rank."""
    return sorted(times)[math.ceil(len(times) * percent / 100) - 1]


if __name__ == "__main__":
    sys.exit(main())
