"""The nemesis of a chaos run: whom to kill from outside, and when to move partitions. All of it is drawn from the seed.

It must never stop on its own account: the run decides when enough have died.
"""

import os
import random
import signal
from collections.abc import Callable

from db.connection import Database
from sandbox.product import Product
from tests.chaos.killing import Executioner

ANYWHERE, IN_COMMIT = "anywhere", "in-commit"
KILL_EVERY_S = (0.25, 1.0)
KILL_OTHERS_EVERY_S = (2.0, 5.0)
LARGER_FOR_S = (1.5, 2.5)
# longer than the session (run.py): a static member that comes back within it gets its partitions without moving any
SMALLER_FOR_S = (3.5, 4.5)
RELOADS = 0.3  # of the times when a worker is taken away, all are replaced instead
SETTLED_S = 0.5  # younger processes are spared: killing only newborns would prove little
# Some transactions take their time over the commit, so that a client can be killed while its backend goes on to commit.
SLOW_COMMITS = 0.002  # for each new job id
SLOW_COMMIT_S = 0.5
_SLOW_COMMITS = """
    CREATE FUNCTION commit_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF random() < {share} THEN PERFORM pg_sleep({sleep_s}); END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON email_job_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commit_slowly();
"""
_IN_COMMIT = "SELECT pid, application_name FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'"


class Nemesis:
    """`turn` does what is due. `wants(place)` says whether that kind of death is still wanted."""

    def __init__(self, product: Product, executioner: Executioner, database: Database, seed: int, wants: Callable[[str], bool]):
        self._product = product
        self._executioner = executioner
        self._database = database
        self._wants = wants
        self._dice = random.Random(f"nemesis:{seed}")
        self._is_larger = False
        self._resized = 0  # the supervisor that was told
        self._backends: set[int] = set()
        self._seen: dict[int, tuple[int, float]] = {}
        self._kill_at_s = self._resize_at_s = self._kill_other_at_s = 0.0

    def prepare(self) -> None:
        """Make some commits slow."""
        self._database.run(lambda cursor: cursor.execute(_SLOW_COMMITS.format(share=SLOW_COMMITS, sleep_s=SLOW_COMMIT_S)))

    def turn(self, now_s: float) -> None:
        """Do what is due at `now_s` (seconds on any clock that goes forward)."""
        if self._kill_at_s == 0.0:
            self._kill_at_s, self._resize_at_s, self._kill_other_at_s = (now_s + self._dice.uniform(1.0, 2.0) for _ in range(3))
        if self._wants(IN_COMMIT):
            self._kill_in_commit()
        if now_s >= self._kill_at_s and self._wants(ANYWHERE):
            self._kill_at_s = now_s + self._dice.uniform(*KILL_EVERY_S)
            self._kill_anywhere(now_s)
        if now_s >= self._resize_at_s and self._wants("in-revoke"):
            self._resize()
            self._resize_at_s = now_s + self._dice.uniform(*(LARGER_FOR_S if self._is_larger else SMALLER_FOR_S))
        if now_s >= self._kill_other_at_s:
            self._kill_other_at_s = now_s + self._dice.uniform(*KILL_OTHERS_EVERY_S)
            self._executioner.kill_other(self._dice.choice(("keeper", "keeper", "balancer", "exporter")))

    def rest(self) -> None:
        """Give back the worker that was added, and quick commits."""
        if self._is_larger and self._resized == self._product.supervisor.pid:
            self._resize()
        self._database.run(lambda cursor: cursor.execute("DROP TRIGGER slow_commit ON email_job_keys"))

    def _kill_anywhere(self, now_s: float) -> None:
        workers = self._executioner.workers()
        self._seen = {slot: self._seen[slot] if self._seen.get(slot, (0,))[0] == pid else (pid, now_s) for slot, pid in workers.items()}
        settled = sorted(slot for slot, (_, since_s) in self._seen.items() if now_s - since_s >= SETTLED_S)
        if settled:
            self._executioner.kill(ANYWHERE, self._dice.choice(settled))

    def _kill_in_commit(self) -> None:
        """Kill a worker whose opening transaction is being committed: its successor must wait for what the backend makes of it."""
        committing = dict(self._database.read(_IN_COMMIT))
        for backend in committing.keys() - self._backends:
            self._executioner.kill(IN_COMMIT, int(committing[backend].rpartition("-")[2]))
        self._backends |= committing.keys()  # one that is still at it has lost its client already

    def _resize(self) -> None:
        """One worker more, or one less again: partitions move, so that some are revoked from living workers."""
        if self._resized != self._product.supervisor.pid:  # a new supervisor knows of no additional worker
            self._resized, self._is_larger = self._product.supervisor.pid, False
        fewer = signal.SIGHUP if self._dice.random() < RELOADS else signal.SIGTTOU
        os.kill(self._product.supervisor.pid, fewer if self._is_larger else signal.SIGTTIN)
        self._is_larger = not self._is_larger
