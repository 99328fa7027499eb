"""Child processes of the embedded world: started on a leash, waited for with a limit, stopped in order.

A child dies with the process that started it, even when that is killed with -9. It must never be started from any thread but
the main one: the kernel ties its life to the *thread* that forked, and would kill it when that thread ends.
"""

import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
LEASH = Path(__file__).resolve().parent / "leash.py"
POLL_S = 0.01
# Below every usual ephemeral range, so that no outgoing connection can take the port before its server does.
SERVER_PORTS = range(20_000, 32_000)


class NotReady(Exception):
    """A server of the world did not come up, or did not do in time what it was asked; the text ends with its last log lines."""


class Child:
    """A running program with its two output files, `<name>.out` and `<name>.log` (stderr), in the world's folder."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", output: Path, log: Path):
        self.name = name
        self.process = process
        self.output = output
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait_for_line(self, number: int, limit_s: float = 10.0) -> str:
        """The line of that number (from 0) of what the program printed, as soon as it is complete; else raises NotReady."""
        self.wait_until(lambda: len(self._finished_lines()) > number, limit_s, f"print line {number + 1}")
        return self._finished_lines()[number]

    def wait_for_json(self, number: int = 0, limit_s: float = 10.0) -> dict[str, Any]:
        """Like `wait_for_line`, where the line is a JSON object."""
        answer: dict[str, Any] = json.loads(self.wait_for_line(number, limit_s))
        return answer

    def wait_until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait for the condition; raises NotReady when the program ends first or the limit passes."""
        wait_until(lambda: condition() or not self.is_running(), limit_s, f"{self.name} to {what}", self.tail)
        if not self.is_running() and not condition():
            raise NotReady(f"{self.name} ended with {self.process.returncode} before it could {what}\n{self.tail()}")

    def tell(self, line: str) -> None:
        """Write one line to the program's stdin; it has to have been started with `talks=True`."""
        if self.process.stdin is None:
            raise ValueError(f"{self.name} was started without a stdin")
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def stop(self, signal_number: int = signal.SIGTERM, limit_s: float = 10.0) -> int:
        """Ask it to end, wait, kill it where it does not; returns its exit status. Does nothing to a child that has ended."""
        if self.is_running():
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal_number)
        return self._reap(limit_s)

    def kill(self) -> int:
        """End it with SIGKILL, as a crash would."""
        self.process.kill()
        return self._reap(10.0)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def tail(self, size_bytes: int = 2_000) -> str:
        """The end of its log, for error messages."""
        return self.log.read_bytes()[-size_bytes:].decode(errors="replace") if self.log.exists() else ""

    def _reap(self, limit_s: float) -> int:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _finished_lines(self) -> list[str]:
        return self.output.read_text(errors="replace").split("\n")[:-1]


def spawn(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: pwd.struct_passwd | None = None,
    talks: bool = False,
) -> Child:
    """Start a program that dies with this process, its output going to `<folder>/<name>.out` and `.log`.

    `environ` is its whole environment (None = ours), `user` whom root turns it into, `talks` gives it a stdin (see Child.tell).
    Raises RuntimeError off the main thread. That the program exists is only known once it is waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread only: they die with the thread that forks them")
    output, log = folder / f"{name}.out", folder / f"{name}.log"
    identity = [str(user.pw_uid), str(user.pw_gid)] if user else ["-1", "-1"]
    leashed = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *identity, *command]
    with open(output, "wb") as stdout, open(log, "ab") as stderr:
        process = subprocess.Popen(
            leashed,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environ,
            cwd=cwd or folder,
            # Ctrl-C is for the world, which then stops its children in order
            start_new_session=True,
        )
    return Child(name, process, output, log)


def spawn_module(name: str, module: str, arguments: Sequence[str], folder: Path, *, talks: bool = False) -> Child:
    """Start `python -m module` of this project with this interpreter, on a leash."""
    command = [sys.executable, "-m", module, *arguments]
    return spawn(name, command, folder, cwd=PROJECT, talks=talks)


def wait_until(
    condition: Callable[[], bool], limit_s: float, what: str, explain: Callable[[], str] = lambda: "", every_s: float = POLL_S
) -> None:
    """Ask again every `every_s` seconds until the condition holds; raises NotReady("waited ... for <what>") after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"waited {limit_s:g} s for {what}\n{explain()}".rstrip())
        time.sleep(every_s)


def is_zombie(pid: int) -> bool:
    """Has that process ended without anybody asking for its exit status?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, chosen at random so that worlds started together do not meet."""
    for port in random.sample(SERVER_PORTS, 200):
        if is_free(port):
            return port
    raise NotReady("no free TCP port on 127.0.0.1")


def is_free(port: int) -> bool:
    """Could a server listen on this port of 127.0.0.1 right now?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Does somebody accept connections on this port of 127.0.0.1?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
