"""The fakes' loop waits as long as it is told: no whole milliseconds, and nothing that comes is missed."""

import asyncio
import select
import socket
import threading
from typing import Any

import pytest

from sandbox.punctual_loop import PunctualSelector, new_loop


def test_a_wait_is_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_s: list[float] = []
    plain = select.select

    def wait(reading: Any, writing: Any, failing: Any, timeout: float) -> Any:
        asked_s.append(timeout)
        return plain(reading, writing, failing, timeout)

    monkeypatch.setattr(select, "select", wait)
    with PunctualSelector() as selector:
        assert selector.select(0.0012) == []
        assert selector.select(0) == []
    assert asked_s == [0.0012]


def test_a_timer_is_never_early() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(0.0123)
        assert loop.time() - began_s >= 0.0123

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


def test_what_comes_while_it_waits_is_heard_at_once() -> None:
    near, far = socket.socketpair()

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        loop.call_later(3600, near.close)
        near.setblocking(False)
        threading.Timer(0.01, far.sendall, (b"hello",)).start()
        return await loop.sock_recv(near, 10)

    with near, far, asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(scenario()) == b"hello"
