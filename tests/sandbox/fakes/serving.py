"""The whole ESP server inside a test's own event loop or beside it, and raw sockets to look at its replies byte by byte."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import ClientSession

from sandbox.esp_server import EspServer
from sandbox.fakes.ledger import Line, read_ledger

POSTMARK_HEADERS = {"X-Postmark-Server-Token": "t", "Content-Type": "application/json", "Accept": "application/json"}
SENDGRID_HEADERS = {"Authorization": "Bearer SG.k", "Content-Type": "application/json", "Accept": "application/json"}


@dataclass
class Served:
    """A running server: its addresses, a client for it, its folder."""

    urls: dict[str, str]
    client: ClientSession
    folder: Path

    def ledger(self, esp: str) -> list[Line]:
        return list(read_ledger(self.folder / "ledger" / f"{esp}.jsonl"))

    async def control(self, **changes: Any) -> dict[str, Any]:
        async with self.client.post(self.urls["inbox"] + "/control", json=changes) as reply:
            return {"status": reply.status, **await reply.json()}

    async def inbox(self, path: str) -> Any:
        async with self.client.get(self.urls["inbox"] + path) as reply:
            return await reply.json()

    async def postmark(self, *messages: dict[str, Any]) -> tuple[int, Any]:
        body = orjson.dumps(messages)
        async with self.client.post(self.urls["postmark"] + "/email/batch", data=body, headers=POSTMARK_HEADERS) as reply:
            return reply.status, await reply.read()

    async def raw(self, esp: str, messages: list[dict[str, Any]]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a Postmark batch has been sent and nothing read."""
        address = urlsplit(self.urls[esp])
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        body = orjson.dumps(messages)
        head = {**POSTMARK_HEADERS, "Host": address.netloc, "Content-Length": str(len(body))}
        writer.write(b"POST /email/batch HTTP/1.1\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in head.items()) + b"\r\n" + body)
        await writer.drain()
        return reader, writer


@asynccontextmanager
async def serving(folder: Path, clock: Callable[[], float] = time.time, **options: Any) -> AsyncIterator[Served]:
    server = EspServer(folder, options, clock)
    urls = await server.start()
    try:
        async with ClientSession() as client:
            yield Served(urls, client, folder)
    finally:
        await server.stop()


@contextmanager
def serving_from_a_thread(folder: Path, options: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The addresses of a server in a loop of its own, so that threads may speak to it that know no loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = EspServer(folder, options)
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def mail(address: str = "a@x.test", **more: Any) -> dict[str, Any]:
    return {"From": "me@brand.test", "To": address, "Subject": "Hi", "TextBody": "Hi", **more}
