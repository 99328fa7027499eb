"""A small HTTP server for a few pages that are made at once: bounded threads, bounded request, bounded time per connection.

It answers GET and HEAD only and keeps no connection. It must never let a slow or silent client hold up the others for
long, and never read more than a request's head.
"""

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus

import msgspec

from telemetry import log as logs

log = logs.get("workers.pages.exporter_http")

_THREADS = 4
_MAX_WAITING = 32
_MAX_HEAD_BYTES = 8_192
_CONNECTION_LIMIT_S = 5.0
_SECURITY = "default-src 'none'; style-src 'unsafe-inline'"


class Page(msgspec.Struct, frozen=True):
    """What is answered: status, content type and body."""

    status: int
    content_type: str
    body: bytes


class PageServer:
    """Listens on `host` and `port` (0 = any free one, see `port`) from its making on; raises OSError where it cannot.

    `answer(path)` makes the page for a path without its query; it may be called in several threads at once.
    """

    def __init__(self, host: str, port: int, answer: Callable[[str], Page]):
        self._listener = socket.create_server((host, port), backlog=_MAX_WAITING)
        self.port: int = self._listener.getsockname()[1]
        self._answer = answer
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="page")
        self._in_hand: set[Future[None]] = set()

    def serve_one(self, timeout_s: float) -> None:
        """Take one connection, if one comes within `timeout_s`, and have it answered by a thread."""
        self._listener.settimeout(timeout_s)
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody came, or left before being let in
            return
        self._in_hand = {future for future in self._in_hand if not future.done()}
        if len(self._in_hand) >= _MAX_WAITING:
            connection.close()
            return
        self._in_hand.add(self._pool.submit(self._attend, connection, time.monotonic() + _CONNECTION_LIMIT_S))

    def close(self) -> None:
        """Stop listening; what is being answered is finished within the limit of a connection."""
        self._listener.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _attend(self, connection: socket.socket, until_s: float) -> None:
        with connection:
            try:
                reply = self._reply_to(_read_head(connection, until_s))
                _limit(connection, until_s)
                connection.sendall(reply)
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # the client is slow or gone: its loss
                return

    def _reply_to(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return _encode(_plain(HTTPStatus.BAD_REQUEST), has_body=True)
        method, path = words[0], words[1].split("?", 1)[0]
        if method not in ("GET", "HEAD"):
            return _encode(_plain(HTTPStatus.METHOD_NOT_ALLOWED), has_body=True)
        return _encode(self._page(path), has_body=method == "GET")

    def _page(self, path: str) -> Page:
        try:
            return self._answer(path)
        except Exception:  # one page that fails must not take the others with it
            log.exception("a page could not be made", path=path)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def not_found() -> Page:
    """The page for a path that does not exist."""
    return _plain(HTTPStatus.NOT_FOUND)


def _plain(status: HTTPStatus) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode())


def _read_head(connection: socket.socket, until_s: float) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD_BYTES:
        _limit(connection, until_s)
        received = connection.recv(_MAX_HEAD_BYTES)
        if not received:
            break
        head += received
    return head


def _limit(connection: socket.socket, until_s: float) -> None:
    # the time is for the whole connection: a timeout of each recv would start anew with every byte
    connection.settimeout(max(0.001, until_s - time.monotonic()))


def _encode(page: Page, has_body: bool) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        f"Content-Security-Policy: {_SECURITY}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (page.body if has_body else b"")
