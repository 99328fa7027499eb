"""The storm: jobs by every way in, ESPs that fail in every way, workers dying, servers going away, a host that stands still.

Afterwards (aftermath.py) an operator settles what only an operator can, and the judge compares the fakes' ledgers with what was
asked for. It must never be satisfied by luck: it goes on until the whole plan was carried out and enough have died.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from typing import NamedTuple

from confluent_kafka import Consumer

from db.connection import Database
from mail.errors import StoreUnavailable
from sandbox.product import Product
from sandbox.traffic import Wanted
from sandbox.world import World
from tests.chaos import plan
from tests.chaos.aftermath import Aftermath
from tests.chaos.feeding import Feeder
from tests.chaos.frozen import FrozenHost
from tests.chaos.judge import Material, Verdict, judge_storm
from tests.chaos.killing import Executioner, KillLog
from tests.chaos.nemesis import ANYWHERE, Nemesis
from tests.chaos.operating import Operator
from tests.chaos.outages import Outages
from tests.chaos.run import TURN_S, read_lines, read_log, read_rows, read_taken
from tests.chaos.sources import LATE_TEMPLATE
from tests.chaos.weather import EXPECTED_ERRORS, INTAKE_POINTS, OTHER_PLACES, SETTINGS, WORKER_POINTS, Size

WORKERS = 4
IN_HAND = 2_000
LOOK_EVERY_S = 0.5
STORM_LIMIT_S, LIMIT_S_PER_JOB = 400.0, 0.05
REPLAY_AT_SHARE = 0.5
EVENTS_LIMIT_S = 60.0
_RETRIED = "SELECT count(DISTINCT job_id) FROM email_attempts WHERE number > 1"


class Storm(NamedTuple):
    """What came of it. `ways` counts emails by the way they came in, `done` what the operator did, `seconds` each phase."""

    seed: int
    plan: list[plan.Step]
    verdict: Verdict
    kills: Counter[str]
    troubles: Counter[str]
    ways: Counter[str]
    done: Counter[str]
    short: list[str]
    errors: list[str]
    seconds: dict[str, float]

    @property
    def red(self) -> list[str]:
        """All that is wrong, by the names of the checks."""
        return [*self.verdict.red, *(name for name, wrong in (("too little", self.short), ("errors", self.errors)) if wrong)]

    def explain(self) -> str:
        """The plan, and the first sentences of every check that found something."""
        found = dict(self.verdict.findings) | {"too little": self.short, "errors": self.errors}
        lines = [f"{check} ({len(sentences)}): {sentence}" for check, sentences in found.items() for sentence in sentences[:5]]
        return "\n".join([f"seed {self.seed} is red: {', '.join(self.red)}; its plan was", *map(str, self.plan), *lines])


class StormRun:
    """`world` must be entered, unused, with `weather.esp_options` and `weather.FEEDBACK`."""

    def __init__(self, world: World, seed: int, size: Size):
        self._world = world
        self._seed = seed
        self._size = size
        self._plan = plan.make(seed, size.rounds)
        self._kill_log = KillLog(world.folder / "kills")
        points = ",".join(f"{name}:{chance}" for name, chance in (WORKER_POINTS | INTAKE_POINTS).items())
        self._product = Product(world, WORKERS, SETTINGS | {"FAILPOINTS": f"{points};{self._kill_log.folder};{seed}"})
        self._outages = Outages(world, self._product, self._kill_log, self._plan)
        self._frozen = FrozenHost(world, SETTINGS, world.folder / "frozen")
        self._operator = Operator(self._product)
        self._feeder = Feeder(world, seed)
        self._kills: Counter[str] = Counter()
        self._fated = self._replayed = 0
        self._is_template_there = False
        self._seconds: dict[str, float] = {}

    def run(self) -> Storm:
        """Storm, settle, judge."""
        self._product.prepare()
        with closing(self._product.database()) as database, closing(self._feeder):
            nemesis = Nemesis(self._product, Executioner(self._product, self._kill_log), database, self._seed, self._wants)
            aftermath = Aftermath(self._world, database, self._feeder, self._operator)
            nemesis.prepare()
            self._product.start()
            self._frozen.start()
            self._timed("storm", lambda: self._storm(nemesis, aftermath, database))
            nemesis.rest()
            self._timed("calm", aftermath.calm)
            quiet = self._material(database)
            self._timed("settling", aftermath.settle)
            codes = [self._frozen.stop(), self._product.stop()]
            aftermath.done["replayed"] += self._replayed
            return self._result(quiet, self._material(database), codes, aftermath, database)

    # -- the storm -----------------------------------------------------------------------------------------------------

    def _storm(self, nemesis: Nemesis, aftermath: Aftermath, database: Database) -> None:
        self._kill_log.arm(*WORKER_POINTS, *INTAKE_POINTS)
        until_s, look_at_s = time.monotonic() + STORM_LIMIT_S + LIMIT_S_PER_JOB * self._size.jobs, 0.0
        while time.monotonic() < until_s and not self._is_enough():
            now_s = time.monotonic()
            if now_s >= look_at_s:
                look_at_s = now_s + LOOK_EVERY_S
                self._look(aftermath)
            self._feed()
            self._outages.turn(self._share, now_s)
            self._frozen.turn(database, now_s)
            with suppress(StoreUnavailable):
                nemesis.turn(now_s)
                self._replay_early(database)
            time.sleep(TURN_S)
        self._kill_log.disarm(*WORKER_POINTS, *INTAKE_POINTS)

    def _feed(self) -> None:
        """Keep a bounded number in hand, and go on after the last job while something has still to happen."""
        in_hand = self._feeder.asked - self._fated
        if in_hand < IN_HAND and not self._is_enough():
            self._feeder.feed(min(200, IN_HAND - in_hand))
        self._feeder.serve()

    def _replay_early(self, database: Database) -> None:
        """In the middle of it the missing template is made, and an operator brings back what died of it."""
        if self._share >= REPLAY_AT_SHARE and not self._is_template_there:
            self._operator.add_late_template(database)
            self._is_template_there = True
            self._replayed = self._operator.replay("--template", LATE_TEMPLATE)

    def _look(self, aftermath: Aftermath) -> None:
        """Count what has a fate, and who has died; a point that has had its share kills no more."""
        with suppress(StoreUnavailable):
            self._fated, _ = aftermath.look()
        self._kills = self._kill_log.counts()
        self._kill_log.disarm(*(point for point in WORKER_POINTS | INTAKE_POINTS if not self._wants(point)))

    def _wants(self, place: str) -> bool:
        """May more die there? Each failpoint has its share, the rest die anywhere."""
        if place in INTAKE_POINTS:
            return self._kills[place] < self._size.intake_kills / len(INTAKE_POINTS)
        if place == ANYWHERE:
            return count_workers(self._kills) < self._size.kills
        return self._kills[place] < self._size.kills / 10 + 1

    @property
    def _share(self) -> float:
        return self._feeder.asked / self._size.jobs

    def _is_enough(self) -> bool:
        has_killed = count_workers(self._kills) >= self._size.kills and not any(map(self._wants, INTAKE_POINTS))
        return self._share >= 1 and has_killed and self._outages.is_over and self._frozen.is_thawed

    # -- what came of it -----------------------------------------------------------------------------------------------

    def _timed(self, phase: str, work: Callable[[], None]) -> None:
        began_s = time.monotonic()
        work()
        self._seconds[phase] = time.monotonic() - began_s

    def _material(self, database: Database) -> Material:
        self._kills = self._kill_log.counts()
        return Material(
            wanted=[Wanted(**line) for line in read_lines(self._world.folder / "wanted.jsonl")],
            taken=read_taken(self._world),
            rows=read_rows(database),
            deaths=self._kill_log.deaths(),
            has_faults=True,
        )

    def _result(self, quiet: Material, final: Material, codes: list[int], aftermath: Aftermath, database: Database) -> Storm:
        assert self._frozen.frozen is not None
        # what only an operator knows is told by nobody
        by_hand = {line.recipient for line in final.taken if line.attempt_id in aftermath.confirmed}
        verdict = judge_storm(quiet, final, self._frozen.frozen, read_told(self._world) | by_hand)
        ways = self._feeder.ways | Counter(retried=database.read(_RETRIED)[0][0])
        return Storm(
            seed=self._seed,
            plan=self._plan,
            verdict=verdict,
            kills=self._kills,
            troubles=Counter({str(kind): count for kind, count in self._outages.done.items()}),
            ways=ways,
            done=aftermath.done,
            short=self._find_short(codes),
            errors=self._find_errors(),
            seconds=self._seconds,
        )

    def _find_short(self, codes: list[int]) -> list[str]:
        """What has not happened as often as it must."""
        wanted = Counter(step.kind for step in self._plan)
        short = [f"{kind} only {self._outages.done[kind]} times" for kind in wanted if self._outages.done[kind] < wanted[kind]]
        short += [f"only {self._kills[point]} died at {point}" for point in INTAKE_POINTS if self._wants(point)]
        if count_workers(self._kills) < self._size.kills:
            short.append(f"only {count_workers(self._kills)} workers died")
        if not self._frozen.is_thawed:
            short.append("no host stood still past its lease")
        return short + [f"a supervisor ended with {code}" for code in codes if code]

    def _find_errors(self) -> list[str]:
        errors, woken = read_log(self._product.supervisor.log)
        found = [line for line in errors if not json.loads(line)["message"].startswith(EXPECTED_ERRORS)]
        return found + ["the keeper had to wake forgotten rows"] * woken


def count_workers(kills: Counter[str]) -> int:
    """Delivery workers that were killed one at a time."""
    return sum(count for place, count in kills.items() if place not in OTHER_PLACES)


def read_told(world: World) -> frozenset[str]:
    """Whom the published events speak of: the whole topic, as its consumers see it."""
    reader = Consumer(
        {
            "bootstrap.servers": world.bootstrap_servers,
            "group.id": "judge",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    reader.subscribe(["email-events"])
    told, ended, until_s = set(), set(), time.monotonic() + EVENTS_LIMIT_S
    partitions = len(reader.list_topics("email-events", timeout=10).topics["email-events"].partitions)
    while len(ended) < partitions and time.monotonic() < until_s:
        for message in reader.consume(1_000, 0.2):
            if message.error() is not None:
                ended.add(message.partition())
            else:
                told.add(json.loads(message.value() or b"{}")["recipient"])
    reader.close()
    return frozenset(told)
