"""After a storm: the weather clears, what waits is waited for, and an operator settles what only an operator can.

It must never decide anything itself: where a limit passes, the judge sees what is left.
"""

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable

from db.connection import Database
from sandbox.fakes import callbacks
from sandbox.product import WAITING
from sandbox.world import World
from tests.chaos.feeding import Feeder
from tests.chaos.operating import Operator
from tests.chaos.run import read_taken
from tests.chaos.sources import LATE_TEMPLATE

QUIET_LIMIT_S, EVIDENCE_LIMIT_S = 180.0, 30.0
LOOK_EVERY_S = 0.25
ROUNDS = 8
_LOOK = """
    SELECT count(*) FILTER (WHERE status <> ALL(%(waiting)s)), count(*) FILTER (WHERE status = ANY(%(waiting)s)),
           (SELECT count(*) FROM dead_letters WHERE row_id IS NULL)
    FROM email_jobs
"""


class Aftermath:
    """`done` counts what the operator did, `confirmed` are the attempts that only he said were taken."""

    def __init__(self, world: World, database: Database, feeder: Feeder, operator: Operator):
        self._world = world
        self._database = database
        self._feeder = feeder
        self._operator = operator
        self.done: Counter[str] = Counter()
        self.confirmed: set[str] = set()

    def calm(self) -> None:
        """No more faults; wait until nothing waits, and until events have ended the doubts that they can end."""
        wanted = json.dumps({"esp": "*", "calm": True}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self._world.inbox_address}/control", wanted, headers), timeout=10).close()
        self._feeder.finish()
        wait(self._is_quiet, QUIET_LIMIT_S)
        calling = [esp for esp in self._world.esp_addresses if callbacks.load(esp)]
        wait(lambda: not self._doubted() & self._attempts_at(calling), EVIDENCE_LIMIT_S)

    def settle(self) -> None:
        """The operator goes on until nothing is left to do."""
        for _ in range(ROUNDS):
            confirmed, resent = self._operator.settle(self._database, self._attempts_at(self._world.esp_addresses))
            replayed = self._operator.replay("--template", LATE_TEMPLATE) + self._operator.replay("--reason", "rejected")
            self.done.update({"confirmed": len(confirmed), "resent": len(resent), "replayed": replayed})
            self.confirmed.update(confirmed)
            if not (confirmed or resent or replayed):
                return
            wait(self._is_quiet, QUIET_LIMIT_S)

    def look(self) -> tuple[int, int]:
        """How many emails and bad records have a fate, and how many jobs wait."""
        done, waiting, rowless = self._database.read(_LOOK, {"waiting": list(WAITING)})[0]
        return done + rowless, waiting

    def _is_quiet(self) -> bool:
        fated, waiting = self.look()
        return self._feeder.serve() and not self._feeder.in_queue() and not waiting and fated >= self._feeder.asked

    def _doubted(self) -> set[str]:
        return {row[0] for row in self._database.read("SELECT attempt_id FROM uncertain_attempts")}

    def _attempts_at(self, esps: Iterable[str]) -> frozenset[str]:
        return frozenset(line.attempt_id for line in read_taken(self._world, esps))


def wait(is_there: Callable[[], bool], limit_s: float) -> None:
    """Until the condition holds, or the limit has passed."""
    until_s = time.monotonic() + limit_s
    while not is_there() and time.monotonic() < until_s:
        time.sleep(LOOK_EVERY_S)
