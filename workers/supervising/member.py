"""One slot of the pool: which process lives there, what was asked of it, and when the next may be started.

Pure bookkeeping on a clock that is passed in; it forks, kills and waits for nothing.
"""

from dataclasses import dataclass, field
from signal import Signals

from workers.roles import Role
from workers.supervising.heartbeat import Cell

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 30.0
HEALTHY_AFTER_S = 60.0
CRASH_LOOP_DEATHS = 5
QUIT_GRACE_S = 5.0
ABORT_GRACE_S = 1.0


@dataclass(frozen=True)
class Blow:
    """A signal that is due at `at_s`, unless the process has gone by then."""

    number: Signals
    at_s: float


def drain_blows(now_s: float, limit_s: float) -> list[Blow]:
    """Ask to drain; at the limit tell to stop now; then kill."""
    quit_at_s = now_s + limit_s
    return [Blow(Signals.SIGTERM, now_s), Blow(Signals.SIGQUIT, quit_at_s), Blow(Signals.SIGKILL, quit_at_s + QUIT_GRACE_S)]


def stop_blows(now_s: float) -> list[Blow]:
    """Tell to stop now, then kill."""
    return [Blow(Signals.SIGQUIT, now_s), Blow(Signals.SIGKILL, now_s + QUIT_GRACE_S)]


def abort_blows(now_s: float) -> list[Blow]:
    """Make a stuck process print its stacks and die, then kill what did not even do that (a stopped one, say)."""
    return [Blow(Signals.SIGABRT, now_s), Blow(Signals.SIGKILL, now_s + ABORT_GRACE_S)]


def kill_blows(now_s: float) -> list[Blow]:
    """Kill at once."""
    return [Blow(Signals.SIGKILL, now_s)]


@dataclass(eq=False)
class Member:
    """A slot of a role. `pid` 0 = no process; `workers` is how many slots the role had when it was forked.

    `early_deaths` counts processes in a row that recorded nothing before they died. `blows` are the signals still to come to
    the living process; `is_asked_to_leave` tells a death that we wished from a crash; who is not `is_wanted` is not started again.
    """

    role: Role
    slot: int
    cell: Cell
    pid: int = 0
    incarnation: int = 0
    workers: int = 0
    starts: int = 0
    started_at_s: float = 0.0
    start_after_s: float = 0.0
    early_deaths: int = 0
    is_wanted: bool = True
    is_asked_to_leave: bool = False
    is_stuck: bool = False
    last_signal: Signals | None = None
    blows: list[Blow] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How logs call it: "delivery-3"."""
        return f"{self.role.name}-{self.slot}"

    @property
    def restarts(self) -> int:
        """How often a process of this slot was replaced."""
        return max(0, self.starts - 1)

    @property
    def has_beaten(self) -> bool:
        """Does a process live here that has said so itself?"""
        return self.pid != 0 and self.cell.has_beaten

    @property
    def is_crash_looping(self) -> bool:
        """Did so many processes in a row die before they recorded anything that a person should look?"""
        return self.early_deaths >= CRASH_LOOP_DEATHS

    def note_start(self, pid: int, now_s: float) -> None:
        """A process was forked for this slot."""
        self.pid = pid
        self.starts += 1
        self.started_at_s = now_s
        self.cell.occupy(pid)

    def note_death(self, now_s: float, jitter: float) -> None:
        """The process is gone: decide when the next one may start. `jitter` is from 0 to 1.

        Only one that recorded nothing, that we did not ask to leave, counts for the back-off.
        """
        lived_s = now_s - self.started_at_s
        if self.is_asked_to_leave or self.cell.batches > 0:
            self.early_deaths = 0
        elif lived_s >= HEALTHY_AFTER_S:
            self.early_deaths = 1
        else:
            self.early_deaths += 1
        self.start_after_s = now_s + backoff_s(self.early_deaths, jitter)
        self._forget_process()

    def note_failed_start(self, now_s: float, jitter: float) -> None:
        """No process could be forked: wait as after an early death."""
        self.early_deaths += 1
        self.start_after_s = now_s + backoff_s(self.early_deaths, jitter)

    def ask_to_leave(self, blows: list[Blow]) -> None:
        """Plan the signals that end the process; they replace what was planned before."""
        self.is_asked_to_leave = True
        self.blows = blows

    def _forget_process(self) -> None:
        self.pid = 0
        self.blows = []
        self.is_asked_to_leave = False
        self.is_stuck = False
        self.last_signal = None
        self.cell.occupy(0)
        self.cell.note_crashes(self.early_deaths)


def backoff_s(early_deaths: int, jitter: float) -> float:
    """How long to wait after so many early deaths in a row: 0, then 0.1 s doubling up to 30 s, at least half of it."""
    if early_deaths == 0:
        return 0.0
    full_s: float = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(early_deaths - 1, 16))
    return full_s * (0.5 + jitter / 2)
