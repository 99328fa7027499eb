"""The roles: what kinds of process there are, which module each runs, and how many of each the settings ask for.

A new role is one line here and one module with `run(context)`. Nothing else may list the roles.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intake.lanes import subscription

if TYPE_CHECKING:
    from config.settings import Settings
    from workers.base import RoleContext


@dataclass(frozen=True)
class Role:
    """A kind of process. `module` has `run(context)`; `how_many(settings)` says how many run; the one that `is_scaled` is
    what `--workers`, TTIN and TTOU speak of. `duty(settings, slot, workers)` is what a slot does among so many: where their
    number changes, the processes whose duty is another now are replaced."""

    name: str
    module: str
    how_many: Callable[[Settings], int]
    is_scaled: bool = False
    duty: Callable[[Settings, int, int], object] = lambda settings, slot, workers: None

    def load(self) -> Callable[[RoleContext], None]:
        """Import the role's module and all that it needs: once for all processes, since the supervisor calls this before it forks."""
        run: Callable[[RoleContext], None] = importlib.import_module(self.module).run
        return run


def _one(settings: Settings) -> int:
    return 1


def _delivery_workers(settings: Settings) -> int:
    return settings.worker_concurrency


def _webhook_workers(settings: Settings) -> int:
    return settings.webhook_workers


def _intake_workers(settings: Settings) -> int:
    return 1 if settings.redis_host else 0


def _lanes(settings: Settings, slot: int, workers: int) -> object:
    return subscription(slot, workers, settings.express_workers, {}).row_lanes


ROLES = (
    Role("delivery", "workers.delivery_wiring", _delivery_workers, is_scaled=True, duty=_lanes),
    Role("webhook", "workers.webhook_wiring", _webhook_workers),
    Role("intake", "workers.intake_wiring", _intake_workers),
    Role("balancer", "workers.balancer", _one),
    Role("keeper", "workers.keeper_wiring", _one),
    Role("exporter", "workers.exporter", _one),
)
