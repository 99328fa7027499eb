"""The pool: starts a process for every slot, notices the dead, the stuck and the unwanted, and replaces them.

It knows no settings, no systemd and no signal of its own: fork, kill, waitpid, clock and chance are passed in, so that it is
tested without processes. It must be called from the main thread only, since PR_SET_PDEATHSIG follows the thread that forked.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from signal import Signals

import telemetry.log
from workers.base import EXIT_CODES
from workers.roles import Role
from workers.supervising.heartbeat import CELLS, Heartbeats
from workers.supervising.member import Blow, Member, abort_blows, drain_blows, kill_blows, stop_blows

log = telemetry.log.get("workers.supervising.pool")

START_LIMIT_S = 60.0
LATE_PASS_S = 5.0
_S = 1_000_000_000


@dataclass(frozen=True)
class System:
    """The calls of the operating system that the pool needs. `fork(member)` returns the pid, and never returns in the child;
    `waitpid()` returns (pid, wait status) of one dead child, (0, 0) when none is dead and raises ChildProcessError without any."""

    fork: Callable[[Member], int]
    kill: Callable[[int, Signals], None]
    waitpid: Callable[[], tuple[int, int]]
    monotonic_ns: Callable[[], int]
    time_ms: Callable[[], int]
    chance: Callable[[], float]


@dataclass(frozen=True)
class Death:
    """A process that ended: of which member, how ("exit 1: crash", "SIGKILL: out of memory?"), and whether we asked for it."""

    member: Member
    cause: str
    was_asked: bool


class Pool:
    """All slots of all roles. `on_death` is told of each death, after the pool's own bookkeeping."""

    def __init__(self, heartbeats: Heartbeats, system: System, on_death: Callable[[Death], None]):
        self._heartbeats = heartbeats
        self._system = system
        self._on_death = on_death
        self._last_look_ns = system.monotonic_ns()
        self._forgiven_until_s = 0.0
        self.members: list[Member] = []

    # -- how many ------------------------------------------------------------------------------------------------------

    def resize(self, role: Role, count: int, drain_limit_s: float) -> None:
        """Want exactly `count` processes of a role: new slots start at the next `start_due`, the highest ones drain and go."""
        have = {member.slot: member for member in self.members if member.role.name == role.name}
        for slot in range(count):
            if slot in have:
                have[slot].is_wanted = True  # one that still drains is started again when it has gone
            elif not self._add(role, slot):
                break
        for slot, member in have.items():
            if slot >= count and member.is_wanted:
                self._dismiss(member, drain_limit_s)

    def wanted(self, role: Role) -> int:
        """How many processes of a role there should be."""
        return sum(member.is_wanted for member in self.members if member.role.name == role.name)

    def _add(self, role: Role, slot: int) -> bool:
        used = {member.cell.index for member in self.members}
        free = next((index for index in range(CELLS) if index not in used), None)
        if free is None:
            log.error("no room for another process", role=role.name, slot=slot, most=CELLS)
            return False
        cell = self._heartbeats.cell(free)
        cell.assign(role.name, slot)
        self.members.append(Member(role, slot, cell))
        return True

    def _dismiss(self, member: Member, drain_limit_s: float) -> None:
        member.is_wanted = False
        if member.pid:
            self.drain(member, drain_limit_s)
        else:
            self._remove(member)

    def _remove(self, member: Member) -> None:
        self.members.remove(member)
        member.cell.free()

    # -- starting ------------------------------------------------------------------------------------------------------

    def start_due(self) -> None:
        """Fork a process for every wanted slot that has none and whose back-off is over."""
        now_s = self._now_s()
        for member in self.members:
            if member.is_wanted and not member.pid and now_s >= member.start_after_s:
                self._start(member)

    def _start(self, member: Member) -> None:
        # the wall clock orders incarnations across supervisors, the + 1 where it stands still or was set back
        member.incarnation = max(member.incarnation + 1, self._system.time_ms())
        member.workers = self.wanted(member.role)
        member.cell.expect(member.incarnation, member.starts, member.early_deaths, START_LIMIT_S)
        try:
            pid = self._system.fork(member)
        except OSError as error:
            member.note_failed_start(self._now_s(), self._system.chance())
            log.error("no process could be forked", member=member.name, problem=str(error))
            return
        member.note_start(pid, self._now_s())
        log.info("process started", member=member.name, child=pid, restarts=member.restarts)

    # -- the dead ------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Take in every child that has died since the last look."""
        while True:
            try:
                pid, status = self._system.waitpid()
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._bury(pid, status)

    def _bury(self, pid: int, status: int) -> None:
        member = next((member for member in self.members if member.pid == pid), None)
        if member is None:
            # as process 1 of a container we inherit orphans of others
            log.info("a child that is not ours ended", child=pid)
            return
        death = Death(member, describe_end(status, member.last_signal), member.is_asked_to_leave)
        member.note_death(self._now_s(), self._system.chance())
        self._tell(death, pid)
        if not member.is_wanted:
            self._remove(member)
        self._on_death(death)

    def _tell(self, death: Death, pid: int) -> None:
        member = death.member
        if death.was_asked:
            log.info("process ended", member=member.name, child=pid, cause=death.cause)
            return
        wait_s = round(max(0.0, member.start_after_s - self._now_s()), 2)
        log.warning("process died", member=member.name, child=pid, cause=death.cause, restart_in_s=wait_s)
        if member.is_crash_looping:
            log.error("crash loop: processes die before they record anything", member=member.name, deaths=member.early_deaths)

    # -- the stuck and the unwanted ------------------------------------------------------------------------------------

    def abort_stuck(self) -> None:
        """Abort every process whose heartbeat is past the deadline that it gave itself; one that survives this is killed."""
        now_ns = self._system.monotonic_ns()
        self._forgive_a_pause(now_ns)
        if now_ns / _S < self._forgiven_until_s:
            return
        for member in self.members:
            if member.pid and not member.is_stuck and member.cell.is_overdue(now_ns):
                self._abort(member, now_ns)

    def _abort(self, member: Member, now_ns: int) -> None:
        beat = member.cell.read()
        log.error("process is stuck: aborting it", member=member.name, child=member.pid, stage=beat.stage, beat_age_s=beat.age_s(now_ns))
        member.is_stuck = True
        member.blows = abort_blows(now_ns / _S)

    def _forgive_a_pause(self, now_ns: int) -> None:
        # we did not run either (a suspended machine, a frozen cgroup): give the others as long to beat again
        if now_ns - self._last_look_ns > LATE_PASS_S * _S:
            self._forgiven_until_s = now_ns / _S + LATE_PASS_S
        self._last_look_ns = now_ns

    def drain(self, member: Member, limit_s: float) -> None:
        """Ask one process to finish what is in hand and leave within `limit_s`. It is started again if it is still wanted."""
        if member.pid and not member.is_stuck:
            member.ask_to_leave(drain_blows(self._now_s(), limit_s))

    def drain_all(self, limit_s: float) -> None:
        """Ask every process to finish and leave for good."""
        self._end_all(lambda now_s: drain_blows(now_s, limit_s))

    def stop_all(self) -> None:
        """Tell every process to leave at once, for good."""
        self._end_all(stop_blows)

    def kill_all(self) -> None:
        """Kill every process, for good."""
        for member in self.members:
            member.is_stuck = False
        self._end_all(kill_blows)
        self.send_due()

    def _end_all(self, plan: Callable[[float], list[Blow]]) -> None:
        now_s = self._now_s()
        for member in list(self.members):
            member.is_wanted = False
            if not member.pid:
                self._remove(member)
            else:
                # a stuck one is being aborted already, and would not hear anything kinder
                member.ask_to_leave(member.blows if member.is_stuck else plan(now_s))

    def send_due(self) -> None:
        """Send the signals whose time has come."""
        now_s = self._now_s()
        for member in self.members:
            while member.pid and member.blows and member.blows[0].at_s <= now_s:
                self._send(member, member.blows.pop(0).number)

    def _send(self, member: Member, number: Signals) -> None:
        if member.is_asked_to_leave and number == signal.SIGKILL:
            log.error("process did not leave in time: killing it", member=member.name, child=member.pid, stage=member.cell.read().stage)
        member.last_signal = number
        # a dead child stays a zombie until we reap it, so its pid cannot be anybody else's
        self._system.kill(member.pid, number)

    # -- asking --------------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Has every member gone?"""
        return not self.members

    @property
    def has_all_beaten(self) -> bool:
        """Do all wanted processes live and beat?"""
        return all(member.has_beaten for member in self.members if member.is_wanted)

    def next_due_s(self) -> float | None:
        """In how many seconds the pool must look again at the latest, on account of signals and starts that are planned."""
        times = [member.blows[0].at_s for member in self.members if member.pid and member.blows]
        times += [member.start_after_s for member in self.members if member.is_wanted and not member.pid]
        return max(0.0, min(times) - self._now_s()) if times else None

    def _now_s(self) -> float:
        return self._system.monotonic_ns() / _S


def describe_end(status: int, last_signal: Signals | None) -> str:
    """How a process ended, in words: its exit code or its signal; a SIGKILL that nobody here sent is probably the kernel's."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit {code}: {EXIT_CODES.get(code, 'unknown')}"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL and last_signal != signal.SIGKILL:
        return f"{name}: out of memory?"
    return name
