"""A host that stands still past its lease, and goes on as if nothing had happened: what it had prepared must not leave any more.

A second supervisor plays the host. Its worker is stopped at a moment when attempts are open whose requests have not left, then all
of its processes are, as when a machine is suspended; and all go on once the other host has given it up.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from db.connection import Database, uuid_array
from mail.errors import StoreUnavailable
from sandbox.product import Product
from sandbox.world import World
from tests.chaos.judge import Death
from tests.chaos.killing import parent_of, read_death, wait_until_stopped
from workers.connections import host_name
from workers.flight.settlement import flight_path

# one connection: most requests of a batch wait for their turn, opened
SETTINGS = {"WORKER_NAME": "frozen-host", "ESP_CONNECTIONS": "1"}
LOOK_EVERY_S = 0.2
_OPEN = "SELECT count(*) FROM email_attempts WHERE id = ANY(%(ids)s::uuid[]) AND state = 'open'"
_LIVES = "SELECT count(*) FROM worker_hosts WHERE host = %(host)s AND lease_until > now()"


class FrozenHost:
    """`turn` freezes it as soon as it is worth it, and lets it go on when the others have given it up: its worker last, after its
    keeper has a lease again, which is when a worker would be most tempted to go on where it stood."""

    def __init__(self, world: World, settings: Mapping[str, str], folder: Path):
        self._product = Product(world, 1, {**settings, **SETTINGS, "STATE_DIR": str(folder / "state")})
        self._copy = folder / "frozen-0-0.flight"
        self._look_at_s = 0.0
        self._others: list[int] = []
        self._is_thawing = False
        self.frozen: Death | None = None
        self.is_thawed = False

    def start(self) -> None:
        self._product.state_dir.mkdir(parents=True, mode=0o700)
        self._product.start(log_name=SETTINGS["WORKER_NAME"])

    def stop(self) -> int:
        """As an operator would; returns the exit code."""
        return self._product.stop()

    @property
    def log(self) -> Path:
        return self._product.supervisor.log

    def turn(self, database: Database, now_s: float) -> None:
        """Look whether it is time to freeze it, or to let it go on."""
        if self.is_thawed or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        if self.frozen is None:
            self._try_to_freeze(database)
        elif not self._is_thawing:
            if _count(database, _OPEN, ids=uuid_array(self.frozen.prepared)) == 0:
                _signal(signal.SIGCONT, self._others)
                self._is_thawing = True
        elif _count(database, _LIVES, host=host_name(self._product.settings)):
            _signal(signal.SIGCONT, [self.frozen.pid])
            self.is_thawed = True

    def _try_to_freeze(self, database: Database) -> None:
        """Stop the worker; and everything else, too, where attempts are open whose requests have not left."""
        members = self._product.state().get("members", [])
        worker = next((member["pid"] for member in members if member["role"] == "delivery"), 0)
        if not worker or parent_of(worker) != self._product.supervisor.pid:
            return
        _signal(signal.SIGSTOP, [worker])
        if not wait_until_stopped(worker):
            return
        shutil.copyfile(flight_path(self._product.state_dir, 0), self._copy)
        death = read_death(self._copy, "frozen", worker)._replace(at_s=time.time())
        if death.prepared and _count(database, _OPEN, ids=uuid_array(death.prepared)):
            self._others = [self._product.supervisor.pid, *(m["pid"] for m in members if m["pid"] and m["pid"] != worker)]
            _signal(signal.SIGSTOP, self._others)
            self.frozen = death
        else:
            _signal(signal.SIGCONT, [worker])


def _signal(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _count(database: Database, question: str, **values: str) -> int | None:
    """What the database counts; None while it is away."""
    try:
        return int(database.read(question, values)[0][0])
    except StoreUnavailable:
        return None
