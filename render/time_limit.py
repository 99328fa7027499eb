"""The time limit: ends a template that computes for too long, by the CPU time that the process itself has spent.

The timer counts CPU time, so a slow machine or a paused process ends no innocent template. It must never raise outside of
`run`: a late alarm in somebody else's code would kill the worker.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class OutOfTime(BaseException):
    """Raised inside the work that took too long. Not an Exception, so that no `except Exception` on the way swallows it."""


class TimeLimit:
    """Runs pieces of work under a limit of CPU seconds, in the main thread (Python delivers signals there only).

    In any other thread the work runs without a timer; the allowance of steps and characters bounds it all the same.
    A single long call into C is ended when it returns, which is why the environment bounds those by size.
    SIGVTALRM is this module's own in the whole process.
    """

    def __init__(self) -> None:
        self._is_installed = False

    def run(self, limit_s: float, work: Callable[[], T]) -> T:
        """Raises OutOfTime when `work` has used `limit_s` seconds of CPU."""
        if threading.current_thread() is not threading.main_thread():
            return work()
        if not self._is_installed:
            signal.signal(signal.SIGVTALRM, _ring)
            self._is_installed = True
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _ring(number: int, frame: FrameType | None) -> None:
    """Raises only where a limited piece of work is really running; an alarm that comes too late finds nobody and does nothing."""
    while frame is not None:
        if frame.f_code is TimeLimit.run.__code__:
            raise OutOfTime
        frame = frame.f_back
