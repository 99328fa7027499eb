"""Requests over HTTP, on connections that are kept, one at a time each.

It must never send a request twice (no retries, no redirects, no second try on a stale connection), nor let a byte leave before its
call has said that it may.
"""

import math
import ssl
import threading
import time
from functools import cache
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from esp.call import Call, current_call
from mail.outcome import Reply, Request

MAX_REPLY_BYTES = 4 * 1024 * 1024
_USER_AGENT = "email-worker"
_ONE_PIECE_BYTES = 64 * 1024  # a longer body is not copied behind its head

PUBLIC_AUTHORITIES = Path(DEFAULT_CA_BUNDLE_PATH)

# what comes up instead of a reply; the exceptions of requests are OSErrors too
NO_REPLY = (HTTPError, OSError)


@cache
def trust(authorities: Path) -> ssl.SSLContext:
    """The TLS of clients that trust these authorities: read once, since that takes tens of milliseconds and a megabyte."""
    return ssl.create_default_context(cafile=str(authorities))


class HttpLines:
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
            return self._adapter(origin_of(request.url)).send(_prepared(request), stream=True, timeout=self._timeouts_s)
        except ValueError:  # its words hold the header's value, which may be a key
            raise ConnectionError("the URL or a header is none that can be sent") from None

    def close(self) -> None:
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()

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
        return _TlsPool(
            address.host, address.port, maxsize=self._connections, ssl_context=trust(self._authorities), cert_reqs="CERT_REQUIRED"
        )


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


class _FinalAnswer(HTTPResponse):
    """The one whose head is final. A server, or a proxy before it, may send interim answers first (RFC 9110, 15.2: 102, 103), and
    http.client passes over 100 only: any other would leave the true answer on the connection, for the next request to read. No wait
    ends here: the call's deadline does that.
    """

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200:
            self.headers = self.msg = None  # type: ignore[assignment]  # what makes it read a head again
            super().begin()


class _Connection(HTTPConnection):
    """Shows its socket to the call that uses it, and asks that call before the first byte."""

    # Never reconnect in the middle of a request: http.client would send the rest of the body down a fresh connection.
    auto_open = 0
    response_class = _FinalAnswer
    _rested_s = math.inf
    _head = b""

    def _new_conn(self) -> Any:
        live = super()._new_conn()
        self._rested_s = math.inf  # it rests only after its first reply
        try:
            current_call().watch(live)  # before the TLS handshake, which can drip too
        except OSError:
            live.close()
            raise
        return live

    def request(self, *args: Any, **options: Any) -> None:
        call = current_call()
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
        if current_call().has_left:
            super().send(data)
        elif not self._head:
            self._head = data
        elif len(data) <= _ONE_PIECE_BYTES:
            self._depart(self._head + data)
        else:
            self._depart(self._head)
            super().send(data)

    def _depart(self, first: bytes) -> None:
        current_call().leave()
        super().send(first)

    def putrequest(self, *args: Any, **options: Any) -> None:
        if current_call().has_left:
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


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
