"""What every role process is: the context that its `run` is given, and the way from the fork to `os._exit`.

Nothing may come back from here into the supervisor's stack: its clean-up belongs to it alone.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from setproctitle import setproctitle

import telemetry.log
from mail.errors import Expelled, Fenced
from workers.supervising.heartbeat import Cell
from workers.supervising.shared import Shared
from workers.supervising.signals import Flags

if TYPE_CHECKING:
    from config.settings import Settings

log = telemetry.log.get("workers.base")

EXIT_DONE = 0
EXIT_CRASH = 1
EXIT_CANNOT_START = 3
EXIT_BAD_SETTINGS = 4
EXIT_FENCED = 5
EXIT_ORPHANED = 6
EXIT_EXPELLED = 7
EXIT_CODES = {
    EXIT_DONE: "done",
    EXIT_CRASH: "crash",
    EXIT_CANNOT_START: "cannot start",
    EXIT_BAD_SETTINGS: "bad settings",
    EXIT_FENCED: "a newer process owns the slot",
    EXIT_ORPHANED: "the supervisor is gone",
    EXIT_EXPELLED: "Kafka takes it for a former process",
}

_BATCH_GC_THRESHOLDS = (50_000, 20, 100)
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class RoleContext:
    """What a role's `run` is given.

    `slot` counts from 0 within the role, `workers` is how many slots the role had when this process was forked;
    `incarnation_hint` is greater than that of every process that lived in this slot before, on this host's clock.
    """

    settings: Settings
    role: str
    slot: int
    workers: int
    incarnation_hint: int
    shared: Shared
    cell: Cell
    flags: Flags

    @property
    def name(self) -> str:
        """How logs, metric files and consumer groups call this process: "delivery-3"."""
        return f"{self.role}-{self.slot}"

    def is_draining(self) -> bool:
        """Was this process asked to finish what is in hand and take nothing new?"""
        return self.flags.is_draining

    def is_stopping_now(self) -> bool:
        """Was this process asked to leave at once?"""
        return self.flags.is_stopping_now

    def wait(self, timeout_s: float) -> None:
        """Sleep, but wake up when asked to drain or stop. Use it instead of time.sleep; beat before with a longer deadline."""
        self.flags.wait(timeout_s)

    def beat(self, stage: str, deadline_s: float) -> None:
        """Tell the supervisor what this process does now and within how many seconds it will beat again; else it is killed."""
        self.cell.beat(stage, deadline_s)

    def note_batch(self, messages: int) -> None:
        """Tell the supervisor that one batch (or one useful round) was recorded, and how many messages it sent."""
        self.cell.note_batch(messages)


def enter_role(run: Callable[[RoleContext], None], context: RoleContext, supervisor_pid: int, announce: Callable[[str], None]) -> NoReturn:
    """Be the role, from right after the fork to the end of the process.

    `announce(name)` tells telemetry which process writes from here on (metric files are named by slot).
    """
    code = EXIT_CRASH
    try:
        _settle_in(context, supervisor_pid)
        announce(context.name)
        code = _run(run, context)
    except BaseException:  # the one place that may: the process ends here whatever it was
        log.exception("the process could not settle in")
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End this process now, without unwinding into what was the supervisor's stack and without its exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def collect_rarely() -> None:
    """For roles that work on batches: one is some ten thousand objects without cycles, all gone when it is recorded, and looking for
    cycles among them all the time costs a tenth.
    """
    gc.set_threshold(*_BATCH_GC_THRESHOLDS)


def die_with(supervisor_pid: int) -> None:
    """Have the kernel kill this process when the supervisor dies, however it dies; leave at once if it is dead already.

    SIGKILL and not SIGTERM: an orphan must not go on sending, and the flight log settles what was in the air.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # the signal is not sent for a parent that died before the call
    if os.getppid() != supervisor_pid:
        os._exit(EXIT_ORPHANED)


def _settle_in(context: RoleContext, supervisor_pid: int) -> None:
    die_with(supervisor_pid)
    context.flags.install()
    setproctitle(f"email-worker: {context.role} {context.slot}")
    # dumps the stacks of all threads when the supervisor aborts a stuck process
    faulthandler.enable(all_threads=True)
    random.seed()
    gc.enable()
    settings = context.settings
    telemetry.log.configure(
        settings.log_level, sys.stderr.isatty(), worker=settings.worker_name, role=context.role, slot=context.slot, pid=os.getpid()
    )


def _run(run: Callable[[RoleContext], None], context: RoleContext) -> int:
    try:
        run(context)
    except Fenced:
        log.error("a newer process owns this slot: leaving")
        return EXIT_FENCED
    except Expelled:
        log.warning("Kafka takes this process for a former one: leaving, to begin anew")
        return EXIT_EXPELLED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_CRASH
    except BaseException:
        log.exception("the role crashed")
        return EXIT_CRASH
    return EXIT_DONE
