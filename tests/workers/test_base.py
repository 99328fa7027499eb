"""A role process from fork to exit, with real processes."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.waiting import is_alive, wait_until
from tests.workers import toys
from workers.base import EXIT_CRASH, EXIT_DONE, EXIT_EXPELLED, EXIT_FENCED, EXIT_ORPHANED, RoleContext, die_with, enter_role
from workers.supervising.shared import Shared
from workers.supervising.signals import SERVED, Flags


class Nursery:
    """Forks toy roles and makes sure that none is left."""

    def __init__(self, state_dir: Path):
        self.state_dir = state_dir
        self.shared = Shared(4096)
        self.pids: list[int] = []
        self.announced: list[str] = []

    def fork(self, role: str) -> int:
        settings = SimpleNamespace(state_dir=self.state_dir, log_level="info", worker_name="toy", version=1)
        cell = self.shared.heartbeats.cell(len(self.pids))
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, SERVED)
            context = RoleContext(settings, role, 3, 1, 1, self.shared, cell, Flags())
            enter_role(toys.run, context, parent, lambda name: None)
        self.pids.append(pid)
        return pid

    def notes(self, role: str) -> str:
        path = self.state_dir / f"{role}-3.notes"
        return path.read_text() if path.exists() else ""

    def exit_code(self, pid: int) -> int:
        self.pids.remove(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def clear(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def nursery(tmp_path):
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.clear()


@pytest.mark.parametrize(
    ("role", "code"), [("crasher", EXIT_CRASH), ("fenced", EXIT_FENCED), ("leaver", 9), ("expelled", EXIT_EXPELLED), ("curious", EXIT_DONE)]
)
def test_how_a_role_ends_is_its_exit_code(nursery, role, code):
    assert nursery.exit_code(nursery.fork(role)) == code


def test_an_uncaught_exception_leaves_its_traceback(nursery, capfd):
    nursery.exit_code(nursery.fork("crasher"))
    assert "toy crash" in capfd.readouterr().err


def test_nothing_of_the_parent_runs_when_a_child_ends(nursery, tmp_path):
    import atexit

    mark = tmp_path / "atexit-ran"
    atexit.register(mark.touch)
    try:
        nursery.exit_code(nursery.fork("leaver"))
    finally:
        atexit.unregister(mark.touch)
    assert not mark.exists()


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "drained"), (signal.SIGINT, "drained"), (signal.SIGQUIT, "stopped now")])
def test_signals_only_set_flags_and_wake_a_waiting_role(nursery, number, said):
    pid = nursery.fork("dozer")
    wait_until(lambda: "started" in nursery.notes("dozer"))
    os.kill(pid, number)
    began_s = time.monotonic()
    assert nursery.exit_code(pid) == EXIT_DONE
    assert time.monotonic() - began_s < 30, "it was not woken"
    assert said in nursery.notes("dozer")


def test_the_supervisors_own_signals_do_not_touch_a_role(nursery):
    pid = nursery.fork("steady")
    wait_until(lambda: "started" in nursery.notes("steady"))
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1):
        os.kill(pid, number)
    os.kill(pid, signal.SIGTERM)
    assert nursery.exit_code(pid) == EXIT_DONE


def test_a_role_has_its_title_its_collector_its_fault_handler_and_an_open_mask(nursery):
    nursery.exit_code(nursery.fork("curious"))
    notes = nursery.notes("curious")
    assert "title=email-worker: curious 3" in notes
    assert "gc=True faulthandler=True" in notes
    assert "mask=[]" in notes
    assert "SIG_IGN" in notes


def test_an_aborted_role_prints_where_it_stood(nursery, capfd):
    pid = nursery.fork("stuck")
    wait_until(lambda: "started" in nursery.notes("stuck"))
    os.kill(pid, signal.SIGABRT)
    assert nursery.exit_code(pid) == -signal.SIGABRT
    assert "_stuck" in capfd.readouterr().err


def test_a_role_dies_with_its_parent_however_that_dies(nursery, tmp_path):
    parent = os.fork()
    if parent == 0:
        child = Nursery(tmp_path).fork("steady")
        (tmp_path / "child.new").write_text(str(child))
        (tmp_path / "child.new").rename(tmp_path / "child")
        signal.pause()
        os._exit(0)
    nursery.pids.append(parent)
    wait_until(lambda: "started" in nursery.notes("steady") and (tmp_path / "child").exists())
    child = int((tmp_path / "child").read_text())
    assert is_alive(child)
    os.kill(parent, signal.SIGKILL)
    nursery.exit_code(parent)
    try:
        wait_until(lambda: not is_alive(child), limit_s=1)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


def test_a_role_whose_parent_is_gone_before_it_could_ask_leaves_at_once():
    pid = os.fork()
    if pid == 0:
        die_with(supervisor_pid=1 if os.getppid() != 1 else 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_ORPHANED


def test_a_wait_is_over_early_when_a_request_came_before_it():
    flags = Flags()
    flags.drain()
    began_s = time.monotonic()
    flags.wait(60)
    assert time.monotonic() - began_s < 20
    assert flags.is_draining
    assert not flags.is_stopping_now


def test_a_wait_while_draining_still_waits():
    flags = Flags()
    flags.drain()
    flags.wait(5)
    began_s = time.monotonic()
    flags.wait(0.05)
    assert time.monotonic() - began_s >= 0.05
