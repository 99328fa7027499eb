"""The balancer role: copies the newest computed weights from Postgres into this host's shared memory.

Routing reads only that memory, so mail goes on by the old weights while Postgres or this process is away. Without any
computed weights it writes nothing, and accounts are routed by their starting weights.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

import telemetry.log
from db import weights
from mail.errors import StoreUnavailable
from routing.snapshot import ANY, SnapshotWriter
from telemetry import metrics
from workers.connections import open_database

if TYPE_CHECKING:
    from workers.base import RoleContext

log = telemetry.log.get("workers.balancer")

EVERY_S = 3.0
STEP_LIMIT_S = 60.0
_OWN_FIELDS = frozenset({"generation", "computed_at", "weights"})


class Balancer:
    """`read_newest()` answers {"generation", "computed_at": Unix seconds, "weights": tenant -> mailbox provider or "*" ->
    provider -> permille} and whatever else all workers should see, or None where nothing was ever computed. `clock` is Unix time.
    """

    def __init__(self, read_newest: Callable[[], Mapping[str, Any] | None], writer: SnapshotWriter, clock: Callable[[], float] = time.time):
        self._read_newest = read_newest
        self._writer = writer
        self._clock = clock
        self._generation: object = None
        self._is_store_away = False

    def step(self) -> bool:
        """Copy the newest weights, if there are any; False = nothing was written, and what was written before stays."""
        newest = self._read()
        if newest is None:
            return False
        age_s = max(0.0, self._clock() - newest["computed_at"])
        metrics.WEIGHTS_AGE_SECONDS.set(age_s)
        return self._write(newest, age_s)

    def _read(self) -> Mapping[str, Any] | None:
        try:
            newest = self._read_newest()
        except StoreUnavailable as error:
            if not self._is_store_away:
                log.warning("no new weights while the store is away", problem=str(error))
            self._is_store_away = True
            return None
        self._is_store_away = False
        return newest

    def _write(self, newest: Mapping[str, Any], age_s: float) -> bool:
        """Weights that cannot be used are said so once, and the old ones stay."""
        extras = {name: value for name, value in newest.items() if name not in _OWN_FIELDS}
        is_new = newest["generation"] != self._generation
        try:
            is_written = self._writer.write(newest["weights"], extras, age_s)
            problem = "" if is_written else "larger than the snapshot"
        except (msgspec.ValidationError, TypeError) as error:
            is_written, problem = False, str(error)
        if is_new:
            self._generation = newest["generation"]
            self._announce(newest, problem)
        return is_written

    def _announce(self, newest: Mapping[str, Any], problem: str) -> None:
        if problem:
            log.warning("weights cannot be used, the old ones stay", generation=newest["generation"], problem=problem)
            return
        log.info("weights taken over", generation=newest["generation"])
        for tenant, rows in newest["weights"].items():
            for provider, permille in rows.get(ANY, {}).items():
                metrics.ESP_WEIGHT.labels(provider, str(tenant)).set(permille)


def run(context: "RoleContext") -> None:
    """The role: a copy every few seconds until asked to leave."""
    database = open_database(context.settings, context.name)
    balancer = Balancer(lambda: weights.newest(database), SnapshotWriter(context.shared.snapshot))
    while not context.is_draining():
        context.beat("balancing", STEP_LIMIT_S)
        if balancer.step():
            context.note_batch(0)
        context.wait(EVERY_S)
    database.close()
