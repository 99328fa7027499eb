"""Programs of the sandbox as a person starts them, and a look for what they leave behind."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.children import PROJECT, NotReady, wait_until
from tests.sandbox.processes import is_alive

MARK = "SANDBOX_TEST_RUN"


class Run:
    """A running program whose world is in `folder`.

    Every process that comes of it has a mark in its environment that nobody else has, or works in the folder (those that change
    their titles overwrite their environment).
    """

    def __init__(self, command: Sequence[str], folder: Path):
        self.folder = folder.resolve()
        self.output = folder.with_suffix(".out")
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**os.environ, name: value},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def family(self) -> set[int]:
        """Every living process of this run, whoever its parent is by now."""
        return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_ours(entry)}

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait for the condition; raises NotReady with what was printed when the program ends first or the limit passes."""
        wait_until(lambda: bool(condition()) or self.process.poll() is not None, limit_s, what, self.text)
        if not condition():
            raise NotReady(f"it ended with {self.process.returncode} before {what}\n{self.text()}")

    def kill_all(self) -> None:
        """Leave nothing behind, whatever the test found."""
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def _is_ours(self, entry: Path) -> bool:
        try:
            is_marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            return (is_marked or (entry / "cwd").readlink().is_relative_to(self.folder)) and is_alive(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False


@contextmanager
def running(module: str, arguments: Sequence[str], folder: Path) -> Iterator[Run]:
    """`python -m module --folder folder arguments...`; nothing of it is left after the block."""
    with _running([sys.executable, "-m", module, "--folder", str(folder), *arguments], folder) as run:
        yield run


@contextmanager
def making(target: str, arguments: Sequence[str], folder: Path) -> Iterator[Run]:
    """`make target` of this project with this interpreter, for a program that takes --folder; nothing of it is left after the block."""
    environment = folder.with_suffix(".venv")
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (environment / "installed").touch()
    words = " ".join(["--folder", str(folder), *arguments])
    with _running(["make", f"VENV={environment}", target, f"ARGS={words}"], folder) as run:
        yield run


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[Run]:
    run = Run(command, folder)
    try:
        yield run
    finally:
        run.kill_all()
