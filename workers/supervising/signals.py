"""Signals, for both sides of a fork.

The supervisor blocks the signals it serves and takes them one by one with sigwaitinfo: no handler ever runs in it, nothing
is lost between two looks, and an idle supervisor sleeps. A child opens its mask again after it has installed handlers
that only set flags. No handler here may log, raise or lock.
"""

import os
import select
import signal
from signal import Signals
from types import FrameType

SERVED = (
    Signals.SIGTERM,
    Signals.SIGINT,
    Signals.SIGQUIT,
    Signals.SIGHUP,
    Signals.SIGTTIN,
    Signals.SIGTTOU,
    Signals.SIGUSR1,
    Signals.SIGCHLD,
)
_BLOCKED = (*SERVED, Signals.SIGALRM)  # the alarm ends a wait
_SHORTEST_WAIT_S = 0.000_1  # 0 would be no alarm at all
_NOT_FOR_CHILDREN = (Signals.SIGHUP, Signals.SIGTTIN, Signals.SIGTTOU, Signals.SIGUSR1, Signals.SIGUSR2, Signals.SIGPIPE)


def block_served() -> None:
    """Let the supervisor's signals queue up until `wait_for_one` takes them; children inherit this until they open up."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)


def wait_for_one(timeout_s: float) -> Signals | None:
    """The next signal for the supervisor, or None after `timeout_s` (now and then earlier); signals must be blocked.

    Not by sigtimedwait: one that was stopped and goes on past its time gets a siginfo that nobody filled in (CPython 3.11, seen
    2026-11), so that a supervisor whose machine was suspended would crash over signal 0, or obey an old one again.
    """
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, _SHORTEST_WAIT_S))
    number = Signals(signal.sigwaitinfo(_BLOCKED).si_signo)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return None if number is Signals.SIGALRM else number


def restore_defaults() -> None:
    """In a short-lived child: die of a signal like any plain program."""
    for number in SERVED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)


class Flags:
    """What a role process was asked to do: drain (TERM, INT: finish what is in hand, take nothing new) or stop now (QUIT).

    Both only ever go from False to True. `wait` is a sleep that such a request ends.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self.is_stopping_now = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Become the handler of this process's signals and open its mask. In the main thread, before any other starts."""
        for number in _NOT_FOR_CHILDREN:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT):
            signal.signal(number, self._on_signal)
        # the wake-up descriptor is written even where the kernel gives the signal to another thread than the sleeping one
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)

    def drain(self) -> None:
        """Ask to finish what is in hand and take nothing new."""
        self.is_draining = True
        self._wake()

    def stop_now(self) -> None:
        """Ask to leave at once; what is in hand is dropped."""
        self.is_draining = True
        self.is_stopping_now = True
        self._wake()

    def wait(self, timeout_s: float) -> None:
        """Sleep up to `timeout_s`; a request that came since the last sleep, or comes now, ends it."""
        if select.select([self._wake_read], [], [], timeout_s)[0]:
            os.read(self._wake_read, 512)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == Signals.SIGQUIT:
            self.stop_now()
        else:
            self.drain()
