"""The CPU limit: it ends what runs too long, and never anything else."""

import os
import signal
import threading
import time

import pytest

from render.time_limit import OutOfTime, TimeLimit


def compute_for_cpu(seconds: float) -> str:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        sum(range(1000))
    return "done"


def test_work_within_its_limit_gives_its_result() -> None:
    assert TimeLimit().run(1.0, lambda: "result") == "result"


def test_work_beyond_its_limit_is_ended() -> None:
    started_s = time.process_time()
    with pytest.raises(OutOfTime):
        TimeLimit().run(0.05, lambda: compute_for_cpu(5))
    assert time.process_time() - started_s < 2


def test_no_handler_on_the_way_can_swallow_the_end() -> None:
    def swallow() -> str:
        try:
            return compute_for_cpu(5)
        except Exception:
            return "swallowed"

    with pytest.raises(OutOfTime):
        TimeLimit().run(0.05, swallow)


def test_the_timer_is_off_afterwards_whatever_happened() -> None:
    limit = TimeLimit()
    limit.run(1.0, lambda: None)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    with pytest.raises(ZeroDivisionError):
        limit.run(1.0, lambda: 1 / 0)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_an_alarm_that_comes_too_late_does_nothing() -> None:
    TimeLimit().run(1.0, lambda: None)
    os.kill(os.getpid(), signal.SIGVTALRM)
    assert compute_for_cpu(0.01) == "done"


def test_two_limits_in_one_process_both_work() -> None:
    first, second = TimeLimit(), TimeLimit()
    first.run(1.0, lambda: None)
    second.run(1.0, lambda: None)
    with pytest.raises(OutOfTime):
        first.run(0.05, lambda: compute_for_cpu(5))


def test_outside_the_main_thread_the_work_runs_without_a_timer() -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(TimeLimit().run(0.001, lambda: compute_for_cpu(0.05))))
    thread.start()
    thread.join(10)
    assert results == ["done"]
