"""Carrying out the plan of a storm: servers are killed, frozen and started again on the same data, and the supervisor is killed.

One trouble at a time, so that each is met by everything that works; workers die meanwhile. It must never touch a process that this
world or this product did not start.
"""

import shutil
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import cast

from sandbox.apache_kafka import ApacheKafka
from sandbox.children import wait_until
from sandbox.product import Product
from sandbox.world import World
from tests.chaos.killing import KillLog, parent_of
from tests.chaos.plan import Kind, Step
from workers.flight.settlement import flight_path

WITH_SUPERVISOR = "with-supervisor"
GONE_LIMIT_S = 10.0


class Outages:
    """`turn` begins and ends what is due; `done` counts what has happened."""

    def __init__(self, world: World, product: Product, kill_log: KillLog, steps: Sequence[Step]):
        self._world = world
        self._kafka = cast(ApacheKafka, world.kafka)
        self._product = product
        self._kill_log = kill_log
        self._steps = deque(steps)
        self._end: Callable[[], None] | None = None
        self._ends_at_s = 0.0
        self.done: Counter[Kind] = Counter()

    @property
    def is_over(self) -> bool:
        """Has everything happened, and is everything there again?"""
        return not self._steps and self._end is None

    def turn(self, share: float, now_s: float) -> None:
        """`share` of the jobs was asked for by now; `now_s` on any clock that goes forward."""
        if self._end is None and self._steps and share >= self._steps[0].at_share:
            step = self._steps.popleft()
            self._end, self._ends_at_s = self._begin(step.kind), now_s + step.lasts_s
            self.done[step.kind] += 1
        if self._end is not None and now_s >= self._ends_at_s:
            self._end()
            self._end = None

    def _begin(self, kind: Kind) -> Callable[[], None]:
        """Do it; returns what ends it."""
        if kind == "postgres restart":
            self._world.postgres.stop("immediate")
            return self._world.postgres.start
        if kind == "broker killed":
            self._kafka.kill()
            return self._kafka.start
        if kind == "broker frozen":
            self._kafka.server.freeze()
            return self._kafka.server.thaw
        if kind == "redis killed":
            self._world.redis.server.kill()
            return self._world.redis.start
        self._kill_supervisor()
        return self._product.start

    def _kill_supervisor(self) -> None:
        """Its children die with it; what they had in the air is kept for the judge before anybody can settle it."""
        state_file = self._product.state_dir / "supervisor.json"
        members = self._product.state().get("members", [])
        self._product.supervisor.kill()
        wait_until(
            lambda: all(parent_of(member["pid"]) is None for member in members if member["pid"]), GONE_LIMIT_S, "its children to die"
        )
        for member in members:
            flight_log = flight_path(self._product.state_dir, member["slot"])
            if member["role"] == "delivery" and member["pid"] and flight_log.exists():
                shutil.copyfile(flight_log, self._kill_log.path_for(WITH_SUPERVISOR, member["pid"]))
        state_file.unlink(missing_ok=True)  # it speaks of the dead
