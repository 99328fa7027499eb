"""Supervision: the loop of the supervisor. Wait for a signal or a second, serve the signal, look after the pool, say how it is.

It owns no thread, socket, database or Kafka handle, so that every fork starts clean; whatever needs one is a child.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from signal import Signals
from typing import TYPE_CHECKING, Any, NoReturn

import telemetry.log
from mail.errors import BadSettings
from workers.base import EXIT_CRASH, RoleContext, enter_role, leave
from workers.roles import Role
from workers.supervising.announcer import Announcer, status_of
from workers.supervising.member import Member
from workers.supervising.pool import Death, Pool, System
from workers.supervising.rollout import Rollout
from workers.supervising.shared import Shared
from workers.supervising.signals import Flags, wait_for_one
from workers.supervising.state_files import StateFile

if TYPE_CHECKING:
    from config.settings import Settings

log = telemetry.log.get("workers.supervising.supervision")

TURN_S = 1.0
TURN_WHILE_SETTLING_S = 0.1
FEWEST_SCALED = 1


@dataclass(frozen=True)
class Surroundings:
    """What the supervisor is given from outside.

    `load_settings()` reads them anew or raises BadSettings; `configure_log(settings)`; `announce(name)` tells telemetry in a
    child which process it is; `tidy(death)` cleans up after one; `announcer` speaks to systemd.
    """

    load_settings: Callable[[], Settings]
    configure_log: Callable[[Settings], None]
    announce: Callable[[str], None]
    tidy: Callable[[Death], None]
    announcer: Announcer


class Supervisor:
    """Runs the roles until it is told to stop.

    Make it in the main thread with the served signals blocked (workers.supervising.signals.block_served).
    """

    def __init__(self, settings: Settings, roles: Sequence[Role], shared: Shared, around: Surroundings):
        self._settings = settings
        self._roles = roles
        self._shared = shared
        self._around = around
        self._run_of = {role.name: role.load() for role in roles}
        self._pool = Pool(shared.heartbeats, self._system(), around.tidy)
        self._rollout = Rollout(self._pool)
        self._is_reloading = False
        self._doing = "starting"
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._state_file = StateFile(settings.state_dir)
        self._serve = {
            Signals.SIGTERM: self._drain,
            Signals.SIGINT: self._drain,
            Signals.SIGQUIT: self._stop_now,
            Signals.SIGHUP: self._reload,
            Signals.SIGTTIN: self._one_more,
            Signals.SIGTTOU: self._one_less,
            Signals.SIGUSR1: self._dump,
        }

    def run(self) -> None:
        """Start the roles and look after them; returns when all have gone after TERM, INT or QUIT."""
        self._resize()
        try:
            while not (self._is_ending and self._pool.is_empty):
                self._turn()
                self._handle(wait_for_one(self._patience_s()))
                self._pool.reap()
        finally:
            # nothing to kill after a clean end; after a crash of this loop nobody may go on without it
            self._pool.kill_all()
            self._state_file.remove()

    def _turn(self) -> None:
        self._pool.abort_stuck()
        self._pool.send_due()
        self._pool.start_due()
        self._advance_rollout()
        self._announce_readiness()
        self._around.announcer.turn(status_of(self._pool, self._doing, self._shared.lanes.stopped()), self._is_ending)
        self._write_state()

    def _handle(self, number: Signals | None) -> None:
        if number in self._serve:
            log.info("signal", signal=number.name)
            self._serve[number]()

    def _patience_s(self) -> float:
        turn_s = TURN_WHILE_SETTLING_S if self._is_settling else TURN_S
        due_s = self._pool.next_due_s()
        return turn_s if due_s is None else min(turn_s, due_s)

    @property
    def _is_ending(self) -> bool:
        return self._doing in ("draining", "stopping")

    @property
    def _is_settling(self) -> bool:
        # a first beat cannot wake us, so look more often while one is awaited
        return not self._is_ending and (not self._rollout.is_done or not self._around.announcer.is_ready)

    # -- signals -------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        if self._is_ending:
            self._stop_now()
            return
        self._begin_to_end("draining")
        self._pool.drain_all(self._settings.drain_timeout_s)

    def _stop_now(self) -> None:
        self._begin_to_end("stopping")
        self._pool.stop_all()

    def _begin_to_end(self, doing: str) -> None:
        self._doing = doing
        self._around.announcer.stopping()

    def _reload(self) -> None:
        if self._is_ending:
            return
        self._around.announcer.reloading()
        settings = self._load_new_settings()
        if settings is not None:
            self._settings = settings
            self._around.configure_log(settings)
            self._resize()
            self._rollout.add(self._pool.members)
            self._is_reloading = True
            log.info("settings reloaded: replacing the processes one by one", processes=self._rollout.left)
        elif self._around.announcer.is_ready:
            self._around.announcer.ready()

    def _load_new_settings(self) -> Settings | None:
        try:
            settings = self._around.load_settings()
        except BadSettings as bad:
            for problem in bad.problems:
                log.error("bad setting", setting=problem.name, fix=problem.fix)
            log.error("reload refused: the old settings stay", problems=len(bad.problems))
            return None
        if settings.state_dir != self._settings.state_dir:
            log.error("reload refused: STATE_DIR can only be changed by a restart")
            return None
        return settings

    def _one_more(self) -> None:
        self._scale(1)

    def _one_less(self) -> None:
        self._scale(-1)

    def _scale(self, change: int) -> None:
        if self._is_ending:
            return
        for role in self._roles:
            if role.is_scaled:
                count = max(FEWEST_SCALED, self._pool.wanted(role) + change)
                self._pool.resize(role, count, self._settings.drain_timeout_s)
                log.info("number of processes changed", role=role.name, wanted=self._pool.wanted(role))
                self._rollout.add(member for member in self._pool.members if self._has_other_duty(member, role))

    def _has_other_duty(self, member: Member, role: Role) -> bool:
        """Would a process that is forked now in this slot do something else than the one that lives there?"""
        if member.role.name != role.name or not member.is_wanted:
            return False
        now = role.duty(self._settings, member.slot, self._pool.wanted(role))
        return now != role.duty(self._settings, member.slot, member.workers)

    def _dump(self) -> None:
        now_ns = time.monotonic_ns()
        for member in self._pool.members:
            beat = member.cell.read()
            log.info(
                "state",
                member=member.name,
                child=member.pid,
                stage=beat.stage,
                beat_age_s=round(beat.age_s(now_ns), 3),
                deadline_in_s=round((beat.deadline_ns - now_ns) / 1e9, 3),
                batches=beat.batches,
                messages=beat.messages,
                restarts=member.restarts,
                early_deaths=member.early_deaths,
                is_leaving=member.is_asked_to_leave,
            )

    # -- the pool ------------------------------------------------------------------------------------------------------

    def _resize(self) -> None:
        for role in self._roles:
            self._pool.resize(role, role.how_many(self._settings), self._settings.drain_timeout_s)

    def _advance_rollout(self) -> None:
        if self._is_ending:
            return
        self._rollout.advance(self._settings.drain_timeout_s)
        if self._is_reloading and self._rollout.is_done:
            self._is_reloading = False
            self._around.announcer.ready()
            log.info("all processes have the new settings")

    def _announce_readiness(self) -> None:
        announcer = self._around.announcer
        if self._doing == "starting" and self._pool.has_all_beaten:
            self._doing = "running"
            announcer.ready()
            log.info("ready", processes=len(self._pool.members))

    def _write_state(self) -> None:
        try:
            self._state_file.write(self._state())
        except OSError as error:
            log.error("the state file could not be written", problem=str(error))

    def _state(self) -> dict[str, Any]:
        members = [
            {"name": m.name, "role": m.role.name, "slot": m.slot, "pid": m.pid, "restarts": m.restarts, "early_deaths": m.early_deaths}
            for m in self._pool.members
        ]
        return {
            "pid": os.getpid(),
            "name": self._settings.worker_name,
            "started_at": self._started_at,
            "doing": self._doing,
            "stopped_lanes": self._shared.lanes.stopped(),
            "roles": {role.name: self._pool.wanted(role) for role in self._roles},
            "members": members,
        }

    # -- processes -----------------------------------------------------------------------------------------------------

    def _system(self) -> System:
        return System(
            fork=self._fork,
            kill=os.kill,
            waitpid=lambda: os.waitpid(-1, os.WNOHANG),
            monotonic_ns=time.monotonic_ns,
            time_ms=lambda: time.time_ns() // 1_000_000,
            chance=random.random,
        )

    def _fork(self, member: Member) -> int:
        # what is still buffered would come out once more in every child
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_the_child(member, supervisor_pid)
        return pid

    def _be_the_child(self, member: Member, supervisor_pid: int) -> NoReturn:
        try:
            role = member.role
            context = RoleContext(
                settings=self._settings,
                role=role.name,
                slot=member.slot,
                workers=member.workers,
                incarnation_hint=member.incarnation,
                shared=self._shared,
                cell=member.cell,
                flags=Flags(),
            )
            enter_role(self._run_of[role.name], context, supervisor_pid, self._around.announce)
        finally:
            leave(EXIT_CRASH)
