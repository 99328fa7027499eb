"""Killing workers, and the kill log: for each death a copy of the dead worker's flight log, taken when none of its threads ran.

Failpoints write the log from within (workers/failpoints.py); the executioner here does the same from outside. It must never
signal a process that is not a child of the supervisor under test.
"""

import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from sandbox.product import Product
from tests.chaos.judge import Death
from workers.flight.flight_log import Stage, read_evidence
from workers.flight.settlement import flight_path

STOP_LIMIT_S = 5.0


class KillLog:
    """A folder with a file `<place>-<pid>-<nanoseconds>.flight` for every death."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)

    def arm(self, *points: str) -> None:
        """From now on these failpoints kill."""
        for point in points:
            (self.folder / f"{point}.armed").touch()

    def disarm(self, *points: str) -> None:
        for point in points:
            (self.folder / f"{point}.armed").unlink(missing_ok=True)

    def path_for(self, place: str, pid: int) -> Path:
        """Where the flight log of somebody who dies now is to be copied."""
        return self.folder / f"{place}-{pid}-{time.time_ns()}.flight"

    def counts(self) -> Counter[str]:
        """Deaths by place."""
        return Counter(place for place, _, _ in self._names())

    def deaths(self) -> list[Death]:
        """Every death with what its flight log shows."""
        return [read_death(path, place, pid) for place, pid, path in self._names()]

    def _names(self) -> list[tuple[str, int, Path]]:
        """One entry for each pid: who was killed from outside while dying at a failpoint has died once."""
        found: dict[int, tuple[str, int, Path]] = {}
        for path in sorted(self.folder.glob("*.flight")):
            place, pid, _ = path.stem.rsplit("-", 2)
            found.setdefault(int(pid), (place, int(pid), path))
        return list(found.values())


class Executioner:
    """Kills delivery workers of one product from outside."""

    def __init__(self, product: Product, kill_log: KillLog):
        self._product = product
        self._kill_log = kill_log

    def workers(self) -> dict[int, int]:
        """The pid that lives in each delivery slot now."""
        members = self._product.state().get("members", [])
        return {member["slot"]: member["pid"] for member in members if member["role"] == "delivery" and member["pid"]}

    def kill(self, place: str, slot: int) -> bool:
        """Stop the worker of that slot, keep its flight log, kill it; False where nobody lives there."""
        pid = self.workers().get(slot)
        if pid is None:
            return False
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            return self._kill(handle, place, pid, slot)
        finally:
            os.close(handle)

    def kill_other(self, role: str) -> bool:
        """Kill a process of another role; nothing is logged, since it sends nothing."""
        for member in self._product.state().get("members", []):
            if member["role"] == role and member["pid"] and parent_of(member["pid"]) == self._product.supervisor.pid:
                os.kill(member["pid"], signal.SIGKILL)
                return True
        return False

    def _kill(self, handle: int, place: str, pid: int, slot: int) -> bool:
        # the handle is the process that has this pid now; it must be the supervisor's child
        if parent_of(pid) != self._product.supervisor.pid:
            return False
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        if not wait_until_stopped(pid):
            return False
        target = self._kill_log.path_for(place, pid)
        part = target.with_suffix(".part")
        flight_log = flight_path(self._product.state_dir, slot)
        part.touch()  # who died before its log was there has sent nothing
        if flight_log.exists():
            shutil.copyfile(flight_log, part)
        part.rename(target)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True


def parent_of(pid: int) -> int | None:
    """The parent of a process; None where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_until_stopped(pid: int) -> bool:
    """Wait until every thread of a process has stopped; False where it has gone, as at a failpoint."""
    deadline_s = time.monotonic() + STOP_LIMIT_S
    while time.monotonic() < deadline_s:
        states = _states_of_threads(pid)
        if states == {"T"}:
            return True
        if parent_of(pid) is None or states == {"Z"}:
            return False
        time.sleep(0.0005)
    raise TimeoutError(f"process {pid} did not stop, its threads are {states}")


def _states_of_threads(pid: int) -> set[str]:
    """One letter for each thread, as in /proc/<pid>/stat; none where the process has gone."""
    states = set()
    try:
        for path in Path(f"/proc/{pid}/task").iterdir():
            states.add((path / "stat").read_text().rpartition(")")[2].split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return states | {"X"}  # a thread, or all of them, went while we looked
    return states


def read_death(path: Path, place: str, pid: int) -> Death:
    """What a copy of a flight log shows; its name ends with the moment in nanoseconds."""
    evidence = read_evidence(path)
    flights = evidence.last_flights() if evidence else {}
    stages = {attempt_id: flight.stage for attempt_id, flight in flights.items()}
    return Death(
        place=place,
        pid=pid,
        at_s=int(path.stem.rsplit("-", 1)[1]) / 1e9,
        prepared=frozenset(attempt_id for attempt_id, stage in stages.items() if stage is Stage.PREPARED),
        leaving=frozenset(attempt_id for attempt_id, stage in stages.items() if stage is Stage.LEAVING),
    )
