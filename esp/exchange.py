"""Carries prepared requests to ESPs: a bounded pool of threads that do socket I/O only, on kept connections.

Each scheme of a request's URL has its own `Lines`; which ESP it is for is never known here. It must never let a request outlive its
total deadline, and never let an exception out: whatever goes wrong is a NoReply that says whether a byte may have left.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol
from urllib.parse import urlsplit

import telemetry.log
from esp.call import Answer, Call, Sender, Watchdog
from esp.http import NO_REPLY, PUBLIC_AUTHORITIES, HttpLines, origin_of
from esp.smtp_lines import SmtpLines
from mail.outcome import NoReply, Reply, Request

_CLOSING_S = 5.0

log = telemetry.log.get("esp.exchange")


def _always(request: Request) -> bool:
    return True


class Lines(Protocol):
    """Kept connections of one kind."""

    def ask(self, call: Call) -> Reply:
        """Carry a call's request, in a sending thread: `call.watch` each connection, `call.leave` right before the first byte
        that the other side may act upon. Raises OSError (or what is told in its place) where there is no reply.
        """
        ...

    def close(self) -> None: ...


class Exchange:
    """At most `connections` requests under way at once; threads start with the first of them.

    `idle_s` maps an origin ("https://api.example.com") to the longest idling of its connections, where it is not 20 seconds.
    `authorities` is a file of trusted certificates in place of the public ones. `others` are the lines of further URL schemes.
    """

    def __init__(
        self,
        connections: int,
        connect_timeout_s: float,
        total_timeout_s: float,
        *,
        idle_s: Mapping[str, float] | None = None,
        default_idle_s: float = 20.0,
        authorities: Path | None = None,
        others: Mapping[str, Lines] | None = None,
    ):
        self._connections = connections
        self._total_timeout_s = total_timeout_s
        self._idle_s = dict(idle_s or {})
        self._default_idle_s = default_idle_s
        http = HttpLines(connections, connect_timeout_s, total_timeout_s, authorities)
        self._lines: dict[str, Lines] = {"https": http, "http": http, **(others or {})}
        self._waiting: SimpleQueue[Call | None] = SimpleQueue()
        self._senders: list[Sender] = []
        self._watchdog = Watchdog(total_timeout_s)
        self._is_closed = False

    def send_all(
        self, requests: Sequence[Request], on_leaving: Callable[[Request], bool], may_begin: Callable[[Request], bool] = _always
    ) -> Iterator[Answer]:
        """Start all of them now; the iterator gives each request with its answer, as they complete, and is to be exhausted.

        `may_begin` is asked in the sending thread when a request's turn has come, before anything is said to anybody; False holds
        it back.
        `on_leaving` is called once per request, in the sending thread, right before its first byte leaves, and must be quick;
        never for a request whose connection could not be made. Where it says False (or raises), nothing is sent.
        """
        answers: SimpleQueue[Answer] = SimpleQueue()
        calls = [self._call(request, on_leaving, may_begin, answers) for request in requests]
        self._start_senders(len(calls))
        for call in calls:
            self._waiting.put(call)
        return _answers_to(calls, answers)

    def close(self) -> None:
        """Cut off what is under way, end the threads, close the connections; takes at most 5 s, even while a name look-up hangs."""
        self._is_closed = True
        for _ in self._senders:
            self._waiting.put(None)
        self._watchdog.close()
        limit_s = time.monotonic() + _CLOSING_S
        for thread in [*self._senders, self._watchdog]:
            if thread.ident is not None:
                thread.join(max(0.0, limit_s - time.monotonic()))
        for lines in self._lines.values():
            lines.close()

    def _call(
        self,
        request: Request,
        on_leaving: Callable[[Request], bool],
        may_begin: Callable[[Request], bool],
        answers: "SimpleQueue[Answer]",
    ) -> Call:
        idle_s = self._idle_s.get(origin_of(request.url), self._default_idle_s)
        return Call(request, on_leaving, answers, self._total_timeout_s, idle_s, may_begin)

    def _start_senders(self, calls: int) -> None:
        if self._is_closed:
            raise RuntimeError("this exchange is closed")
        if self._watchdog.ident is None and calls:
            self._watchdog.start()
        while len(self._senders) < min(calls, self._connections):
            sender = Sender(self._waiting, self._carry, f"esp-sender-{len(self._senders)}")
            self._senders.append(sender)
            sender.start()

    def _carry(self, call: Call) -> None:
        if self._is_closed:
            call.hold_back("closed before it left")
            return
        self._watchdog.guard(call)
        try:
            call.begin()
            answer: Reply | NoReply = self._lines_for(call.request).ask(call)
        except NO_REPLY as error:
            answer = NoReply(call.has_left, _words(error))
        except Exception as error:
            log.exception("request failed in an unexpected way", has_left=call.has_left, messages=len(call.request.messages))
            answer = NoReply(call.has_left, _words(error))
        self._watchdog.release(call)
        call.land()
        # a body that ends with its connection looks whole when the watchdog has cut it
        call.settle(NoReply(call.has_left, call.end) if call.end else answer)

    def _lines_for(self, request: Request) -> Lines:
        scheme = urlsplit(request.url).scheme
        if scheme not in self._lines:
            raise ConnectionError(f"no lines for {scheme or 'no'} scheme")
        return self._lines[scheme]


def open_exchange(
    connections: int,
    connect_timeout_s: float,
    total_timeout_s: float,
    *,
    idle_s: Mapping[str, float] | None = None,
    authorities: Path | None = None,
) -> Exchange:
    """An exchange that speaks both; its arguments are those of `Exchange`."""
    smtp = SmtpLines(connections, connect_timeout_s, total_timeout_s, public_authorities=PUBLIC_AUTHORITIES, authorities=authorities)
    return Exchange(connections, connect_timeout_s, total_timeout_s, idle_s=idle_s, authorities=authorities, others={"smtp": smtp})


def fetch(url: str, authorities: Path = PUBLIC_AUTHORITIES, limit_s: float = 10.0) -> Reply | NoReply:
    """What is at a URL, in one request that the calling thread waits for; no redirect is followed."""
    exchange = Exchange(1, limit_s, limit_s, authorities=authorities)
    try:
        ((_, answer),) = exchange.send_all([Request("GET", url, {}, b"")], lambda request: True)
    finally:
        exchange.close()
    return answer


def _answers_to(calls: list[Call], answers: "SimpleQueue[Answer]") -> Iterator[Answer]:
    try:
        for _ in calls:
            yield answers.get()
    finally:
        for call in calls:
            call.hold_back("nobody waits for the answer any more")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
