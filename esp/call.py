"""A call: one request on its way to an ESP, the thread that carries it, and the watchdog that ends it when its time is up.

Whether a byte may have left is decided here and nowhere else, under one lock, so that the deadline and the sending thread can
never disagree about it. This module must never send a byte or hold its lock while it waits for the network.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from mail.outcome import NoReply, Reply, Request

Answer = tuple[Request, Reply | NoReply]


class Call:
    """`settle` counts once, so whoever knows first (the sending thread or the watchdog) decides.

    `limit_s` is the total deadline, `idle_s` how long a connection may have idled and still carry this call.
    """

    def __init__(
        self,
        request: Request,
        on_leaving: Callable[[Request], bool],
        answers: "SimpleQueue[Answer]",
        limit_s: float,
        idle_s: float,
        may_begin: Callable[[Request], bool] = lambda request: True,
    ):
        self.request = request
        self.limit_s = limit_s
        self.idle_s = idle_s
        self.has_left = False
        self.end = ""
        self._on_leaving = on_leaving
        self._may_begin = may_begin
        self._answers = answers
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_settled = False

    def begin(self) -> None:
        """Its turn has come. Raises ConnectionAbortedError where it must not be begun at all."""
        if not self._may_begin(self.request):
            raise ConnectionAbortedError("held back before it was begun")

    def watch(self, live: socket.socket) -> None:
        """Let the watchdog reach this connection. Raises ConnectionAbortedError where the call has ended already."""
        # A descriptor of our own: shutting it down wakes the thread that reads, TLS or not, and the number cannot have been
        # closed and given to a stranger in the meantime.
        handle = socket.socket(live.family, live.type, live.proto, fileno=os.dup(live.fileno()))
        with self._lock:
            end = self.end
            unneeded = handle if end else self._handle
            self._handle = self._handle if end else handle
        if unneeded:
            unneeded.close()
        if end:
            raise ConnectionAbortedError(end)

    def leave(self) -> None:
        """Right before the first byte. Raises ConnectionAbortedError where it must not leave: then nothing has left."""
        with self._lock:
            if self.has_left:
                raise ConnectionAbortedError("a request leaves once, it is never sent again under the same attempt")
            if self.end:
                raise ConnectionAbortedError(self.end)
            if not self._on_leaving(self.request):
                raise ConnectionAbortedError("held back before the first byte")
            self.has_left = True

    def cut_off(self, reason: str) -> None:
        """End the call now. What has not left never will, and is settled at once, even while a name look-up hangs."""
        with self._lock:
            self._end(reason)
            has_left = self.has_left
        if not has_left:
            self.settle(NoReply(has_left=False, error=reason))

    def hold_back(self, reason: str) -> None:
        """End the call only if nothing of it has left."""
        with self._lock:
            if self.has_left:
                return
            self._end(reason)
        self.settle(NoReply(has_left=False, error=reason))

    def settle(self, answer: Reply | NoReply) -> None:
        with self._lock:
            if self._is_settled:
                return
            self._is_settled = True
        self._answers.put((self.request, answer))

    def land(self) -> None:
        """The sending thread is done with the connection."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle:
            handle.close()

    def _end(self, reason: str) -> None:
        self.end = self.end or reason
        if self._handle:
            try:
                self._handle.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster


class Sender(threading.Thread):
    """Carries one call at a time, and lets the connection below it know which."""

    def __init__(self, waiting: "SimpleQueue[Call | None]", carry: Callable[[Call], None], name: str):
        super().__init__(name=name, daemon=True)
        self.call: Call | None = None
        self._waiting = waiting
        self._carry = carry

    def run(self) -> None:
        while (call := self._waiting.get()) is not None:
            self.call = call
            self._carry(call)
            self.call = call = None  # a thread that waits must not keep a body of megabytes


def current_call() -> Call:
    """What the sending thread carries that asks. Raises RuntimeError in any other thread."""
    sender = threading.current_thread()
    if not isinstance(sender, Sender) or sender.call is None:
        raise RuntimeError("a connection is used outside a sending thread")
    return sender.call


class Watchdog(threading.Thread):
    """Cuts off every call that is still guarded when its total deadline passes, however busily its bytes drip.

    All calls have the same deadline, so the oldest is always the next.
    """

    def __init__(self, limit_s: float):
        super().__init__(name="esp-watchdog", daemon=True)
        self._limit_s = limit_s
        self._deadlines: dict[Call, float] = {}
        self._changed = threading.Condition()
        self._is_closed = False

    def guard(self, call: Call) -> None:
        with self._changed:
            self._deadlines[call] = time.monotonic() + self._limit_s
            if len(self._deadlines) == 1:
                self._changed.notify()

    def release(self, call: Call) -> None:
        with self._changed:
            self._deadlines.pop(call, None)

    def run(self) -> None:
        while (overdue := self._next_overdue()) is not None:
            overdue.cut_off(f"total deadline of {self._limit_s:g} s passed")
            del overdue

    def close(self) -> None:
        """Cut off whatever is under way and end the thread."""
        with self._changed:
            self._is_closed = True
            under_way = list(self._deadlines)
            self._changed.notify()
        for call in under_way:
            call.cut_off("closed while under way")

    def _next_overdue(self) -> Call | None:
        with self._changed:
            while not self._is_closed:
                left_s = self._left_s()
                if left_s is not None and left_s <= 0.0:
                    call = next(iter(self._deadlines))
                    del self._deadlines[call]
                    return call
                self._changed.wait(left_s)
            return None

    def _left_s(self) -> float | None:
        """Until the next deadline; None = there is none. A number, since a call that is held while we wait keeps its whole batch."""
        deadline_s = next(iter(self._deadlines.values()), None)
        return None if deadline_s is None else deadline_s - time.monotonic()
