"""One chaos run: a product in a world of its own, jobs coming in as fast as they are dealt with, workers dying, and the judge.

It must never be satisfied by luck: it goes on until enough workers have died at every place, and says so where they did not.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from db.connection import Database
from mail.ids import from_wire
from sandbox import traffic
from sandbox.fakes.ledger import read_ledger
from sandbox.product import WAITING, Product
from sandbox.traffic import Wanted
from sandbox.world import World
from tests.chaos.judge import AttemptRow, JobRow, Material, Rows, Taken, Verdict, judge
from tests.chaos.killing import Executioner, KillLog
from tests.chaos.nemesis import ANYWHERE, Nemesis

# Chance of death at each hit. Requests leave and are answered several times a batch, the other points are passed once.
POINTS = {
    "after-prepare": 0.02,
    "after-open": 0.05,
    "leaving": 0.015,
    "answered": 0.015,
    "before-record": 0.03,
    "after-record": 0.05,
    "in-revoke": 0.6,
}
COUNTED = ("after-open", "leaving", "answered", "after-record", "in-revoke")
WORKERS = 4
BAD = 0.04  # share of records that must become dead letters: nothing but their record step remembers them
IN_HAND = 600  # emails that are asked for and have no fate yet
TURN_S = 0.02
LOOK_EVERY_S = 0.25
OUR_DOING = "crash loop"
KILLING_LIMIT_S = 240.0
SETTLING_LIMIT_S = 90.0
SETTINGS = {
    "WORKER_BATCH_SIZE": "25",
    "EMAIL_RETRY_DELAY_SECONDS": "1",
    # a worker that was taken away for good leaves its partitions alone for that long
    "KAFKA_CLIENT_SESSION_TIMEOUT_MS": "3000",
    "LOG_LEVEL": "info",
}
# bad records that became rows end as dead, good ones never do
_LOOK = """
    SELECT count(*) FILTER (WHERE status <> ALL(%(unfinished)s)), count(*) FILTER (WHERE status = ANY(%(waiting)s)),
           (SELECT count(*) FROM dead_letters)
    FROM email_jobs
"""


class Quota(NamedTuple):
    """How many have to die: in all, and at each of the five counted failpoints."""

    kills: int
    at_each_point: int


class Result(NamedTuple):
    """What came of a run. `errors` are the supervisor's and workers' log lines of level error, `woken` those of the last net."""

    seed: int
    verdict: Verdict
    kills: Counter[str]
    short: list[str]
    errors: list[str]
    woken: int
    exit_code: int
    killing_s: float
    settling_s: float

    @property
    def red(self) -> list[str]:
        """All that is wrong, by the names of the checks."""
        others = {"too few kills": self.short, "errors": self.errors, "exit code": self.exit_code, "last net": self.woken}
        return [*self.verdict.red, *(name for name, wrong in others.items() if wrong)]

    def explain(self) -> str:
        """The first sentences of every check that found something, and how to try again."""
        found = dict(self.verdict.findings) | {"too few kills": self.short, "errors": self.errors}
        lines = [f"{check} ({len(sentences)}): {sentence}" for check, sentences in found.items() for sentence in sentences[:5]]
        return "\n".join([f"seed {self.seed} is red: {', '.join(self.red)}; try again with CHAOS_SEEDS={self.seed}", *lines])


class ChaosRun:
    """`world` must be entered and unused. `patience_s` is how long it waits for the end."""

    def __init__(self, world: World, seed: int, quota: Quota, patience_s: float = SETTLING_LIMIT_S):
        self._world = world
        self._seed = seed
        self._quota = quota
        self._patience_s = patience_s
        self.kill_log = KillLog(world.folder / "kills")
        points = ",".join(f"{name}:{chance}" for name, chance in POINTS.items())
        self._product = Product(world, WORKERS, SETTINGS | {"FAILPOINTS": f"{points};{self.kill_log.folder};{seed}"})
        self._executioner = Executioner(self._product, self.kill_log)
        self._kills: Counter[str] = Counter()
        self._asked = self._bad = self._done = self._waiting = self._dead = 0

    def run(self) -> Result:
        """Kill until the quota is met, let everything settle, and judge."""
        self._product.prepare()
        with closing(self._product.database()) as database:
            nemesis = Nemesis(self._product, self._executioner, database, self._seed, self._wants)
            nemesis.prepare()
            self._product.start()
            began_s = time.monotonic()
            self._kill_and_produce(nemesis, database)
            ended_s = time.monotonic()
            nemesis.rest()
            self._settle(database)
            settled_s = time.monotonic()
            exit_code = self._product.stop()
            verdict = judge(self._material(database))
        errors, woken = read_log(self._product.supervisor.log)
        short = [point for point in COUNTED if self._kills[point] < self._quota.at_each_point]
        short += ["all"] if self._kills.total() < self._quota.kills else []
        return Result(self._seed, verdict, self._kills, short, errors, woken, exit_code, ended_s - began_s, settled_s - ended_s)

    # -- killing -------------------------------------------------------------------------------------------------------

    def _kill_and_produce(self, nemesis: Nemesis, database: Database) -> None:
        self.kill_log.arm(*POINTS)
        producer = Producer({"bootstrap.servers": self._world.bootstrap_servers, "linger.ms": 5, "log_level": 0})
        pieces = traffic.write_list(self._world.folder / "wanted.jsonl", traffic.make(10**7, self._seed, bad=BAD, prefix=f"s{self._seed}-"))
        until_s, look_at_s = time.monotonic() + KILLING_LIMIT_S, 0.0
        while time.monotonic() < until_s and not self._is_enough():
            now_s = time.monotonic()
            if now_s >= look_at_s:
                look_at_s = now_s + LOOK_EVERY_S
                self._look(database)
            while self._asked - self._done < IN_HAND:
                self._produce(producer, next(pieces))
            producer.poll(0)
            nemesis.turn(now_s)
            time.sleep(TURN_S)
        self.kill_log.disarm(*POINTS)
        producer.flush(20)

    def _produce(self, producer: Producer, piece: traffic.Piece) -> None:
        producer.produce(piece.topic, piece.value, piece.key)
        if not piece.is_repeat:
            self._asked += sum(not wanted.reason for wanted in piece.wanted)
            self._bad += sum(bool(wanted.reason) for wanted in piece.wanted)

    def _look(self, database: Database) -> None:
        """Count what has a fate, and who has died; a point that has had its share kills no more."""
        statuses = {"waiting": list(WAITING), "unfinished": [*WAITING, "dead"]}
        self._done, self._waiting, self._dead = database.read(_LOOK, statuses)[0]
        self._kills = self.kill_log.counts()
        self.kill_log.disarm(*(point for point in POINTS if not self._wants(point)))

    def _wants(self, place: str) -> bool:
        """May more die there? Each place has its share; the rest die anywhere."""
        if place == ANYWHERE:
            return self._kills.total() < self._quota.kills
        return self._kills[place] < self._quota.at_each_point + 2

    def _is_enough(self) -> bool:
        each = all(self._kills[point] >= self._quota.at_each_point for point in COUNTED)
        return each and self._kills.total() >= self._quota.kills

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def _settle(self, database: Database) -> None:
        """Wait until every email has a fate and every bad record its dead letter, or the limit has passed: then the judge says so."""
        until_s = time.monotonic() + self._patience_s
        while time.monotonic() < until_s:
            self._look(database)
            if self._done >= self._asked and self._dead >= self._bad and not self._waiting:
                return
            time.sleep(LOOK_EVERY_S)

    def _material(self, database: Database) -> Material:
        self._kills = self.kill_log.counts()
        return Material(
            wanted=[Wanted(**line) for line in read_lines(self._world.folder / "wanted.jsonl")],
            taken=read_taken(self._world),
            rows=read_rows(database),
            deaths=self.kill_log.deaths(),
        )


def read_taken(world: World, esps: Iterable[str] | None = None) -> list[Taken]:
    """Every email that the fakes took; `esps`: only these of them."""
    return taken_in(world.ledger(esp) for esp in (world.esp_addresses if esps is None else esps))


def taken_in(ledgers: Iterable[Path]) -> list[Taken]:
    """Every email of these ledgers."""
    lines = [line for ledger in ledgers for line in read_ledger(ledger)]
    return [Taken(line["recipient"], from_wire(line["attempt_id"]) if line["attempt_id"] else "") for line in lines]


def read_rows(database: Database) -> Rows:
    """What the database says; dead letters without those that were brought back."""
    jobs = database.read("SELECT id, recipient_email, status, coalesce(attempt_id::text, '') FROM email_jobs")
    attempts = database.read("SELECT id, job_id, number, state, EXTRACT(EPOCH FROM opened_at)::float8 FROM email_attempts")
    return Rows(
        jobs=[JobRow(*row) for row in jobs],
        attempts=[AttemptRow(*row) for row in attempts],
        doubts=dict(database.read("SELECT attempt_id, reason FROM uncertain_attempts")),
        dead_letters=dict(database.read("SELECT reason, count(*) FROM dead_letters WHERE replayed_at IS NULL GROUP BY reason")),
    )


def read_log(path: Path) -> tuple[list[str], int]:
    """The lines of level error but those on our own killing, and how often the keeper had to wake rows that nobody else would have."""
    lines = list(read_lines(path))
    errors = [json.dumps(line) for line in lines if line.get("level") == "error" and not line["message"].startswith(OUR_DOING)]
    return errors, sum(line.get("message") == "woke forgotten rows" for line in lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found
