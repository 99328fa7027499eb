"""What tests/workers/supervising/test_short_child.py plays in an interpreter of its own: `python -m tests.workers.short_child_scenes SCENE FOLDER`.

An interpreter of its own, because the signals that a supervisor keeps blocked are sent to a whole process: under pytest they may
land on a thread that another test left behind, and end the run. It prints what run_in_child returned, as its last line.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import telemetry.log
from mail.errors import StoreUnavailable
from workers.supervising.short_child import run_in_child
from workers.supervising.signals import block_served

LONG_S = 60.0


def _raising(error: BaseException) -> Callable[[], str | None]:
    def work() -> NoReturn:
        raise error

    return work


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _staying(folder: Path, number: signal.Signals | None = None) -> Callable[[], str | None]:
    def work() -> None:
        (folder / "pid").write_text(str(os.getpid()))
        if number is not None:
            os.kill(os.getppid(), number)
        time.sleep(LONG_S)

    return work


def play(scene: str, folder: Path) -> int:
    """Run one scene; returns what run_in_child does."""
    limit_s = 0.3 if scene == "stays" else 30.0
    scenes: dict[str, Callable[[], str | None]] = {
        "returns": lambda: None,
        "finds a problem": lambda: "not migrated",
        "no database": _raising(StoreUnavailable("no route")),
        "fails": _raising(RuntimeError("it broke")),
        "exits": _raising(SystemExit("too new")),
        "dies": _dies,
        "stays": _staying(folder),
    }
    work = scenes.get(scene) or _staying(folder, signal.Signals[scene])
    return run_in_child(work, "test", limit_s)


if __name__ == "__main__":
    block_served()
    telemetry.log.configure("info", False)
    print(play(sys.argv[1], Path(sys.argv[2])))
