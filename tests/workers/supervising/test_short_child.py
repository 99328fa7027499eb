"""The short-lived child: how its end is told, and that it cannot hold up a start for ever."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.waiting import is_alive, wait_until
from workers.base import EXIT_CANNOT_START, EXIT_DONE
from workers.supervising.short_child import STOPPED_BY_SIGNAL

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30


class Played(NamedTuple):
    """What run_in_child returned, and what was logged."""

    result: int
    log: str


def play(scene: str, folder: Path) -> Played:
    command = [sys.executable, "-m", "tests.workers.short_child_scenes", scene, str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return Played(int(ended.stdout.splitlines()[-1]), ended.stderr)


def the_child(folder: Path) -> int:
    return int((folder / "pid").read_text())


def test_work_that_returns_is_done(tmp_path):
    assert play("returns", tmp_path) == (EXIT_DONE, "")


@pytest.mark.parametrize(
    ("scene", "said"),
    [("no database", "no route"), ("fails", "it broke"), ("exits", "too new"), ("finds a problem", "not migrated")],
)
def test_work_that_fails_cannot_start_and_says_why(tmp_path, scene, said):
    played = play(scene, tmp_path)
    assert played.result == EXIT_CANNOT_START
    assert said in played.log


def test_work_that_is_killed_cannot_start(tmp_path):
    assert play("dies", tmp_path).result == EXIT_CANNOT_START


def test_work_that_takes_too_long_is_killed(tmp_path):
    played = play("stays", tmp_path)
    assert played.result == EXIT_CANNOT_START
    assert "no answer in time" in played.log
    assert not is_alive(the_child(tmp_path))


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_supervisor_that_is_asked_to_end_does_not_wait_for_it(tmp_path, number):
    assert play(number, tmp_path).result == STOPPED_BY_SIGNAL
    wait_until(lambda: not is_alive(the_child(tmp_path)))
