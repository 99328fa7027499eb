"""One loopback HTTP listener for one fake ESP: reads the request, lets the fake judge it, keeps what it took, replies.

The order is the promise: ledger, then mailbox, then the first byte of the reply. All misbehaviour is carried out here,
on the socket. It must never accept a mail twice for one request, and nothing awaits between the judgement and the ledger.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from sandbox.fakes.contract import Answer, Call, FakeEsp
from sandbox.fakes.ledger import Ledger
from sandbox.fakes.mailbox import Mailbox
from sandbox.fakes.misbehaviour import Deed, Misbehaviour, retry_after_value

_JSON = {"Content-Type": "application/json"}
_DISCARD_FACTOR = 3
_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr><center>nginx</center></body></html>"


class HttpListener:
    """Serves one fake on 127.0.0.1 at a port of the system's choice."""

    def __init__(self, fake: FakeEsp, ledger: Ledger, mailbox: Mailbox, misbehaviour: Misbehaviour, clock: Callable[[], float] = time.time):
        self._fake = fake
        self._ledger = ledger
        self._mailbox = mailbox
        self._misbehaviour = misbehaviour
        self._clock = clock
        self._runner: web.ServerRunner | None = None
        self._deliveries: dict[str, Callable[[web.BaseRequest, Deed, Answer], Awaitable[web.StreamResponse]]] = {
            "hang_before": self._hang,
            "hang_after": self._hang,
            "reset_before": self._reset,
            "reset_after": self._reset,
            "error_after": self._fail,
            "drip": self._drip,
            "drip_headers": self._drip,
            "malformed": self._garble,
            "cut": self._cut,
            "huge": self._flood,
        }

    async def start(self) -> str:
        """Listen; the base URL."""
        # a handler is cancelled when its sender hangs up: a hang must not outlive its victim
        self._runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return site_url(site)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            await self._read(request)
            return _response(self._judge_question(request))
        deed = self._misbehaviour.next_deed(self._clock())
        if deed.kind == "reset_unread":
            return await self._reset(request, deed, Answer(503))
        body = await self._read(request)
        if body is None:
            return _response(self._fake.refuse(413))
        came_s = time.monotonic()
        answer = self._refusal(deed) or self._accept(request, body, deed)
        delay_s = self._misbehaviour.delay_s(time.monotonic() - came_s)
        if delay_s:
            await asyncio.sleep(delay_s)
        deliver = self._deliveries.get(deed.kind)
        return await deliver(request, deed, answer) if deliver else _response(answer)

    async def _read(self, request: web.BaseRequest) -> bytes | None:
        """The body, or None where it is over the ESP's limit; a rest is read and thrown away, so that the sender hears the 413."""
        limit = self._fake.max_body_bytes
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
            elif size > limit * _DISCARD_FACTOR:
                return None
        return b"".join(chunks) if size <= limit else None

    def _judge_question(self, request: web.BaseRequest) -> Answer:
        """A GET: health and the like; never spoiled, but as dead as its ESP when that is down."""
        if self._misbehaviour.behaviour.down:
            return self._error(self._misbehaviour.behaviour.status)
        return self._fake.answer(Call(request.method, request.rel_url.raw_path_qs, request.headers, b"", self._misbehaviour.traits))

    def _refusal(self, deed: Deed) -> Answer | None:
        """The reply of a deed that accepts nothing, whatever the request was; None where the fake shall judge."""
        if deed.kind == "throttle":
            return self._throttled(deed)
        if deed.kind == "error_before":
            return self._error(deed.status)
        if deed.kind == "answer":
            return Answer(deed.status, deed.body, _JSON)
        if deed.kind == "redirect":
            return Answer(self._misbehaviour.behaviour.redirect_status, headers={"Location": "/moved-here"})
        if deed.kind in ("hang_before", "reset_before"):
            return Answer(503)
        return None

    def _accept(self, request: web.BaseRequest, body: bytes, deed: Deed) -> Answer:
        call = Call(request.method, request.rel_url.raw_path_qs, request.headers, body, self._misbehaviour.traits, deed.is_spoiled)
        answer = self._fake.answer(call)
        if answer.accepted:
            at = self._clock()
            number = self._ledger.append(answer.accepted, at)
            self._mailbox.put(self._fake.name, at, number, body, answer.accepted)
        return answer

    def _throttled(self, deed: Deed) -> Answer:
        answer = self._fake.refuse(429)
        wait = retry_after_value(deed.retry_after, deed.retry_after_s, self._clock())
        return answer if wait is None else Answer(429, answer.body, {**answer.headers, "Retry-After": wait})

    def _error(self, status: int) -> Answer:
        """502 and 504 come from the proxy before the ESP, in HTML; the others are the ESP's own."""
        return _page(status) if status in (502, 504) else self._fake.refuse(status)

    async def _hang(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """Say nothing until the sender gives up (this handler is then cancelled) or the set time is over."""
        await asyncio.sleep(self._misbehaviour.behaviour.hang_s)
        return await self._reset(request, deed, answer)

    async def _reset(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """A real RST: zero linger makes the kernel send one instead of a polite end."""
        transport = request.transport
        if transport is not None:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return web.Response()

    async def _fail(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """Taken, and the proxy says otherwise: the ESP itself would not speak of maintenance then."""
        return _response(_page(deed.status) if deed.status > 500 else self._error(deed.status))

    async def _garble(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        return _response(Answer(answer.status, b'{"MessageID": "cut in mid-sente', _JSON))

    async def _drip(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """One byte at a time: of the body, or of the headers too."""
        raw = _raw(answer)
        start = 0 if deed.kind == "drip_headers" else raw.index(b"\r\n\r\n") + 4
        await _write(request, raw[:start])
        for place in range(start, len(raw)):
            await asyncio.sleep(self._misbehaviour.behaviour.drip_interval_s)
            await _write(request, raw[place : place + 1])
        return _hang_up(request)

    async def _cut(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """An end of the connection in the middle of the reply: the length that was promised never comes."""
        raw = _raw(answer)
        promised = raw if answer.body else raw.replace(b"Content-Length: 0", b"Content-Length: 64")
        await _write(request, promised[: len(promised) - len(answer.body) // 2])
        return _hang_up(request)

    async def _flood(self, request: web.BaseRequest, deed: Deed, answer: Answer) -> web.StreamResponse:
        """A reply with the right status and headers, and a body without end in sight."""
        size = self._misbehaviour.behaviour.huge_bytes
        response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
        response.content_length = size
        await response.prepare(request)
        block = b" " * 65536
        for start in range(0, size, len(block)):
            await response.write(block[: size - start])
        return response


def site_url(site: web.TCPSite) -> str:
    """Where a site that was bound to port 0 really listens."""
    server = site._server
    assert isinstance(server, asyncio.Server)
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://{host}:{port}"


def _page(status: int) -> Answer:
    return Answer(status, _PAGE % (status, status), {"Content-Type": "text/html"})


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def _raw(answer: Answer) -> bytes:
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} Fine", *[f"{name}: {value}" for name, value in headers.items()], "", ""]
    return "\r\n".join(lines).encode() + answer.body


async def _write(request: web.BaseRequest, data: bytes) -> None:
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the sender hung up")
    request.transport.write(data)


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    with contextlib.suppress(AttributeError):
        request.transport.close()  # type: ignore[union-attr]
    return web.Response()
