"""A connection that was lost is the store's absence, however the server went away, and the next call connects anew."""

import os
import select
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from db.connection import Database
from mail.errors import StoreUnavailable
from sandbox.children import wait_until
from sandbox.postgres import Postgres, StopMode


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for the tests of this file that stop it."""
    with tempfile.TemporaryDirectory(prefix="email-worker-tests-") as folder, Postgres(Path(folder)) as started:
        yield started


class Line:
    """A port that leads to the server for one connection, which ends with a reset: what a probe is answered with, a minute after the
    other side has gone. What the server said last is still there to be read."""

    def __init__(self, target: int):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target = target
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        near.shutdown(socket.SHUT_WR)
                        return
                    (far if end is near else near).sendall(data)


def database_of(server: Postgres, **parameters: str) -> Database:
    return Database({name: str(value) for name, value in server.parameters().items()} | parameters)


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_who_slept_through_a_restart_of_the_server_hears_that_the_store_was_away(server: Postgres, mode: StopMode) -> None:
    with closing(database_of(server)) as database:
        assert database.read("SELECT 1") == [(1,)]
        server.restart(mode)
        with pytest.raises(StoreUnavailable):
            database.read("SELECT 1")
        assert database.read("SELECT 1") == [(1,)]


def test_who_slept_so_long_that_the_connection_was_reset_hears_the_same(server: Postgres) -> None:
    with Line(server.port) as line, closing(database_of(server, port=str(line.port))) as database:
        assert database.read("SELECT 1") == [(1,)]
        poll = select.poll()
        poll.register(database.run(lambda cursor: cursor.connection.fileno()), select.POLLIN)
        server.restart("immediate")
        wait_until(lambda: any(event & select.POLLHUP for _, event in poll.poll(0)), 10.0, "the reset to arrive")
        with pytest.raises(StoreUnavailable):
            database.read("SELECT 1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_loses_its_backend_in_the_middle_of_a_transaction_hears_the_same(server: Postgres, number: signal.Signals) -> None:
    with closing(database_of(server)) as database:
        with pytest.raises(StoreUnavailable):
            database.run(lambda cursor: (os.kill(cursor.connection.get_backend_pid(), number), cursor.execute("SELECT pg_sleep(30)")))
        wait_until(server.is_answering, 10.0, "the server to have recovered")
        assert database.read("SELECT 1") == [(1,)]
