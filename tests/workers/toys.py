"""Toy roles for the supervisor's tests: the role's name is what the process does. What they notice goes to files in STATE_DIR."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workers.base import RoleContext


def run(context: RoleContext) -> None:
    BEHAVIOURS[context.role](context)


def _steady(context: RoleContext) -> None:
    """Works at once and until told to drain."""
    context.beat("working", 3)
    context.note_batch(10)
    _note(context, f"started {getattr(context.settings, 'version', 0)}")
    while not context.is_draining():
        context.beat("working", 3)
        context.wait(1)
    _note(context, "stopped now" if context.is_stopping_now() else "drained")


def _dozer(context: RoleContext) -> None:
    """Waits for a minute, unless it is woken."""
    _note(context, "started")
    context.wait(60)
    _note(context, "stopped now" if context.is_stopping_now() else "drained")


def _slow(context: RoleContext) -> None:
    """Never done with what is in hand."""
    while not context.is_stopping_now():
        context.beat("working", 3)
        context.wait(1)
    _note(context, "stopped now")


def _idle(context: RoleContext) -> None:
    """Lives but records nothing."""
    while not context.is_draining():
        context.beat("waiting", 5)
        context.wait(1)


def _crasher(context: RoleContext) -> None:
    """Dies before it has done anything."""
    _note(context, f"started {time.monotonic()}")
    raise RuntimeError("toy crash")


def _stuck(context: RoleContext) -> None:
    """Breaks its promise to beat again; a note of being aborted is faulthandler's dump on stderr."""
    context.note_batch(1)
    context.beat("sticking", 0.2)
    _note(context, "started")
    time.sleep(60)


def _deaf(context: RoleContext) -> None:
    """Hears neither TERM nor QUIT nor ABRT."""
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT):
        signal.signal(number, signal.SIG_IGN)
    context.note_batch(1)
    _note(context, "started")
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        context.beat("deaf", 5)
        time.sleep(0.05)


def _expelled(context: RoleContext) -> None:
    from mail.errors import Expelled

    raise Expelled


def _fenced(context: RoleContext) -> None:
    from mail.errors import Fenced

    raise Fenced


def _leaver(context: RoleContext) -> None:
    sys.exit(9)


def _curious(context: RoleContext) -> None:
    """Writes down what a role process looks like from inside."""
    import faulthandler
    import gc

    from setproctitle import getproctitle

    _note(context, f"title={getproctitle()}")
    _note(context, f"gc={gc.isenabled()} faulthandler={faulthandler.is_enabled()}")
    _note(context, f"mask={sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))}")
    _note(context, f"hup={signal.getsignal(signal.SIGHUP)!r}")


BEHAVIOURS: dict[str, Callable[[RoleContext], None]] = {
    "steady": _steady,
    "dozer": _dozer,
    "slow": _slow,
    "idle": _idle,
    "crasher": _crasher,
    "stuck": _stuck,
    "deaf": _deaf,
    "expelled": _expelled,
    "fenced": _fenced,
    "leaver": _leaver,
    "curious": _curious,
}


def _note(context: RoleContext, text: str) -> None:
    with (Path(context.settings.state_dir) / f"{context.name}.notes").open("a") as file:
        file.write(f"{os.getpid()} {text}\n")
