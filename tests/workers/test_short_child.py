"""The short-lived child: how its end is told, and that it cannot hold up a start for ever."""

import os
import signal
import time

import pytest

from mail.errors import StoreUnavailable
from tests.workers.waiting import is_alive, wait_until
from workers.base import EXIT_CANNOT_START, EXIT_DONE
from workers.short_child import STOPPED_BY_SIGNAL, run_in_child
from workers.signals import SERVED, block_served


@pytest.fixture(autouse=True)
def served_signals_are_blocked():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    block_served()
    yield
    while signal.sigtimedwait(SERVED, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_work_that_returns_is_done():
    assert run_in_child(lambda: None, "test", 10) == EXIT_DONE


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreUnavailable("no route"), "no route"), (RuntimeError("not migrated"), "not migrated"), (SystemExit("too new"), "too new")],
)
def test_work_that_raises_cannot_start_and_says_why(error, said, capfd):
    import telemetry.log

    def work():
        telemetry.log.configure("info", False)
        raise error

    assert run_in_child(work, "test", 10) == EXIT_CANNOT_START
    assert said in capfd.readouterr().err


def test_work_that_finds_a_problem_cannot_start_and_says_which(capfd):
    import telemetry.log

    def work():
        telemetry.log.configure("info", False)
        return "not migrated"

    assert run_in_child(work, "test", 10) == EXIT_CANNOT_START
    assert "not migrated" in capfd.readouterr().err


def test_work_that_is_killed_cannot_start():
    assert run_in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), "test", 10) == EXIT_CANNOT_START


@pytest.mark.expect_errors
def test_work_that_takes_too_long_is_killed(tmp_path):
    def work():
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    assert run_in_child(work, "test", 0.3) == EXIT_CANNOT_START
    assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_supervisor_that_is_asked_to_end_does_not_wait_for_it(tmp_path, number):
    def work():
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), number)
        time.sleep(60)

    assert run_in_child(work, "test", 30) == STOPPED_BY_SIGNAL
    wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))
