"""A short-lived child: does one thing that the supervisor must not do itself (talk to the database) and tells how it went.

It has its own process so that no connection, lock or thread is ever inherited by the roles.
"""

import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from signal import Signals
from typing import NoReturn

import telemetry.log
from mail.errors import BadSettings, StoreUnavailable
from workers.base import EXIT_CANNOT_START, EXIT_DONE, die_with, leave
from workers.supervising.signals import restore_defaults, wait_for_one

log = telemetry.log.get("workers.supervising.short_child")

STOPPED_BY_SIGNAL = -1
_ENDING = (Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT)


def run_in_child(work: Callable[[], str | None], what: str, limit_s: float) -> int:
    """Do `work` in a child and wait for it; signals must be blocked (signals.block_served).

    `work` returns None, or what is wrong. Returns EXIT_DONE, or EXIT_CANNOT_START where something was, or where the work raised,
    died or took longer than `limit_s` (the reason is logged), or STOPPED_BY_SIGNAL where the supervisor was asked to end meanwhile.
    """
    sys.stdout.flush()
    supervisor_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_the_child(work, what, supervisor_pid)
    return _wait_for(pid, what, limit_s)


def _be_the_child(work: Callable[[], str | None], what: str, supervisor_pid: int) -> NoReturn:
    code = EXIT_CANNOT_START
    try:
        die_with(supervisor_pid)
        restore_defaults()
        faulthandler.enable()
        gc.enable()
        problem = work()
        if problem is None:
            code = EXIT_DONE
        else:
            log.error("could not start", task=what, problem=problem)
    except BadSettings as bad:
        log.error("could not start", task=what, problem=str(bad))
    except StoreUnavailable as error:
        log.error("could not start: the database does not answer", task=what, problem=str(error))
    except BaseException:  # the one place that may: the process ends here whatever it was
        log.exception("could not start", task=what)
    finally:
        leave(code)


def _wait_for(pid: int, what: str, limit_s: float) -> int:
    give_up_at_s = time.monotonic() + limit_s
    while True:
        number = wait_for_one(give_up_at_s - time.monotonic())
        if number in _ENDING:
            _end(pid)
            return STOPPED_BY_SIGNAL
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return EXIT_DONE if status == 0 else EXIT_CANNOT_START
        if time.monotonic() >= give_up_at_s:
            log.error("could not start: no answer in time", task=what, limit_s=limit_s)
            _end(pid)
            return EXIT_CANNOT_START


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
