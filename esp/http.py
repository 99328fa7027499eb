"""Carries prepared requests to ESPs: a bounded pool of threads that do socket I/O only, on kept connections.

HTTP is spoken here; whoever speaks something else brings its own `Lines` for the scheme of its URLs (exchange.py puts them in).

It must never send a request twice (no retries, no redirects, no second try on a stale connection), never let one outlive its
total deadline, and never let an exception out: whatever goes wrong is a NoReply that says whether a byte may have left.
"""

import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

import telemetry.log
from esp.call import Answer, Call, Watchdog
from mail.outcome import NoReply, Reply, Request

MAX_REPLY_BYTES = 4 * 1024 * 1024
_USER_AGENT = "email-worker"
_CLOSING_S = 5.0
_ONE_PIECE_BYTES = 64 * 1024  # a longer body is not copied behind its head

PUBLIC_AUTHORITIES = Path(DEFAULT_CA_BUNDLE_PATH)

log = telemetry.log.get("esp.http")


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
        http = _HttpLines(connections, connect_timeout_s, total_timeout_s, authorities)
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
        idle_s = self._idle_s.get(_origin(request.url), self._default_idle_s)
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
        except (requests.RequestException, HTTPError, OSError) as error:
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
            self.call = None


class _HttpLines:
    """One adapter, with its kept connections, per origin."""

    def __init__(self, connections: int, connect_timeout_s: float, total_timeout_s: float, authorities: Path | None):
        self._connections = connections
        # the watchdog comes first; should it ever be late, no single read waits much longer
        self._timeouts_s = (connect_timeout_s, total_timeout_s + 1.0)
        self._authorities = authorities or PUBLIC_AUTHORITIES
        self._adapters: dict[str, _Adapter] = {}
        self._lock = threading.Lock()

    def ask(self, call: Call) -> Reply:
        """Raises whatever requests, urllib3 or the socket raise."""
        with self._answer_to(call.request) as response:
            body = response.raw.read(MAX_REPLY_BYTES, decode_content=True)
            return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)

    def _answer_to(self, request: Request) -> requests.Response:
        """The head of the reply; its body is still to be read."""
        try:
            return self._adapter(_origin(request.url)).send(_prepared(request), stream=True, timeout=self._timeouts_s)
        except ValueError:  # its words hold the header's value, which may be a key
            raise ConnectionError("the URL or a header is none that can be sent") from None

    def close(self) -> None:
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # loaded once, not with every connection, which costs tens of milliseconds each
        return ssl.create_default_context(cafile=str(self._authorities))

    def _adapter(self, origin: str) -> "_Adapter":
        with self._lock:
            if origin not in self._adapters:
                self._adapters[origin] = _Adapter(self._open_pool(origin))
            return self._adapters[origin]

    def _open_pool(self, origin: str) -> HTTPConnectionPool:
        address = parse_url(origin)
        if not address.host:
            raise ConnectionError("no host in the URL")
        if address.scheme == "http":
            return _Pool(address.host, address.port, maxsize=self._connections)
        return _TlsPool(address.host, address.port, maxsize=self._connections, ssl_context=self._tls, cert_reqs="CERT_REQUIRED")


class _Adapter(HTTPAdapter):
    """What requests does for one origin, without a session above it: no cookies, no redirects, no retries, and no proxies or
    passwords from the environment."""

    def __init__(self, pool: HTTPConnectionPool):
        super().__init__(max_retries=0)
        self._pool = pool

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *args: Any, **options: Any) -> None:
        """The pool has its context already."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response

    def close(self) -> None:
        self._pool.close()


def _prepared(request: Request) -> requests.PreparedRequest:
    """As it is: adapters prepare their requests themselves, down to the last byte."""
    prepared = requests.PreparedRequest()
    prepared.method, prepared.url, prepared.body = request.method, request.url, request.body or None
    length = {"Content-Length": str(len(request.body))} if request.body else {}
    prepared.headers = CaseInsensitiveDict({"User-Agent": _USER_AGENT, **request.headers, **length})
    return prepared


class _Connection(HTTPConnection):
    """Shows its socket to the call that uses it, and asks that call before the first byte."""

    # Never reconnect in the middle of a request: http.client would send the rest of the body down a fresh connection.
    auto_open = 0
    _rested_s = math.inf
    _head = b""

    def _new_conn(self) -> Any:
        live = super()._new_conn()
        self._rested_s = math.inf  # it rests only after its first reply
        try:
            _current_call().watch(live)  # before the TLS handshake, which can drip too
        except OSError:
            live.close()
            raise
        return live

    def request(self, *args: Any, **options: Any) -> None:
        call = _current_call()
        if self.sock is not None and time.monotonic() - self._rested_s > call.idle_s:
            self.close()  # the ESP may be closing it right now, and then a request that races it is in doubt
        if self.sock is None:
            self.connect()
        call.watch(self.sock)
        self.timeout = call.limit_s  # until now the connect time-out, far too short for a large body
        self._head = b""
        super().request(*args, **options)
        if not call.has_left:  # there is no body
            self._depart(self._head)

    def send(self, data: Any) -> None:
        """The head waits for the body: a small request leaves in one piece, and the other side is woken once."""
        if _current_call().has_left:
            super().send(data)
        elif not self._head:
            self._head = data
        elif len(data) <= _ONE_PIECE_BYTES:
            self._depart(self._head + data)
        else:
            self._depart(self._head)
            super().send(data)

    def _depart(self, first: bytes) -> None:
        _current_call().leave()
        super().send(first)

    def putrequest(self, *args: Any, **options: Any) -> None:
        if _current_call().has_left:
            raise ConnectionAbortedError("a request leaves once")
        super().putrequest(*args, **options)

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._rested_s = time.monotonic()
        return response


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS: the handshake belongs to connecting, so it comes before anything leaves."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


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


def _current_call() -> Call:
    sender = threading.current_thread()
    if not isinstance(sender, Sender) or sender.call is None:
        raise RuntimeError("a connection is used outside a sending thread")
    return sender.call


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
