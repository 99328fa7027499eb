"""Failpoints, in processes of their own: where they die, what they leave, and that a seed dies the same way again."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import failpoints
from workers.failpoints import Incarnation
from workers.flight.flight_log import FlightLog, Stage, read_evidence

BOOT = "01a21255-d05d-7176-b66d-49d00aa13785"
FIRST, SECOND = "01a21255-d05d-7176-b66d-49d00aa13701", "01a21255-d05d-7176-b66d-49d00aa13702"


def end_of(work: Callable[[], None]) -> int:
    """How a child that does this work ends: the signal, 0 where it lives to the end."""
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # what other tests have left: a Kafka client that is collected here, without its threads, ends the process
        try:
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def hits_until_death(folder: Path, who: Incarnation, name: str, most: int = 2000) -> int:
    """How often a point is passed before it kills."""
    count = folder / "count"

    def work() -> None:
        points = failpoints.from_environment(who)
        for number in range(most):
            count.write_text(str(number))
            points.hit(name)

    assert end_of(work) == signal.SIGKILL
    return int(count.read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kills"
    folder.mkdir()
    return folder


def test_without_the_variable_nothing_dies(monkeypatch, folder):
    monkeypatch.delenv("FAILPOINTS", raising=False)
    points = failpoints.from_environment(Incarnation(folder / "x.flight", 0, 1))
    for name in failpoints.NAMES:
        points.hit(name)
    points.touch(b"anything")
    assert list(folder.iterdir()) == []


def test_the_dead_leave_their_flight_log(monkeypatch, folder, tmp_path):
    path = tmp_path / "delivery-0.flight"
    log = FlightLog(path, BOOT, 1)
    log.prepare([FIRST])
    log.mark_leaving(log.prepare([SECOND]))
    monkeypatch.setenv("FAILPOINTS", f"after-open:1;{folder}")
    (folder / "after-open.armed").touch()
    assert end_of(lambda: failpoints.from_environment(Incarnation(path, 0, 1)).hit("after-open")) == signal.SIGKILL
    [copy] = folder.glob("after-open-*.flight")
    evidence = read_evidence(copy)
    assert evidence is not None
    assert {ids: flight.stage for flight in evidence.flights for ids in flight.attempt_ids} == {
        FIRST: Stage.PREPARED,
        SECOND: Stage.LEAVING,
    }
    log.close()


def test_a_point_that_is_not_armed_kills_nobody(monkeypatch, folder, tmp_path):
    monkeypatch.setenv("FAILPOINTS", f"after-open:1;{folder}")
    assert end_of(lambda: failpoints.from_environment(Incarnation(tmp_path / "x.flight", 0, 1)).hit("after-open")) == 0


def test_the_same_seed_dies_at_the_same_hit_and_another_incarnation_at_another(monkeypatch, folder, tmp_path):
    monkeypatch.setenv("FAILPOINTS", f"after-open:0.05,leaving:0.05;{folder};7")
    (folder / "after-open.armed").touch()
    path = tmp_path / "x.flight"
    first = hits_until_death(folder, Incarnation(path, 2, 1), "after-open")
    assert hits_until_death(folder, Incarnation(path, 2, 1), "after-open") == first
    others = {hits_until_death(folder, Incarnation(path, 2, number), "after-open") for number in range(2, 8)}
    assert others != {first}


def test_a_record_that_holds_the_marker_kills(monkeypatch):
    monkeypatch.setenv("FAILPOINTS", "record:boom")
    assert end_of(lambda: failpoints.from_environment().touch(b"x boom x")) == signal.SIGKILL
    assert end_of(lambda: failpoints.from_environment().touch(b"harmless")) == 0
    assert end_of(lambda: failpoints.from_environment().touch(None)) == 0


def test_a_failpoint_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("FAILPOINTS", "after-lunch:1")
    with pytest.raises(ValueError, match="no failpoint after-lunch"):
        failpoints.from_environment()
