"""Places where a test may have this process die. Off unless the environment variable FAILPOINTS is set, which only tests do.

FAILPOINTS="after-open:0.02,leaving:0.01;/path/of/the/kill-log" gives each named point a probability of death. Before it dies,
the process copies its flight log into that folder, so that a test can tell what was really in the air.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

NAMES = ("after-prepare", "after-open", "leaving", "answered", "after-record", "in-revoke", "record")


class Failpoints:
    """`probabilities` by name; `folder` gets one file per death."""

    def __init__(self, probabilities: dict[str, float], folder: Path | None, flight_path: Path | None = None, marker: bytes = b""):
        self._probabilities = probabilities
        self._folder = folder
        self._flight_path = flight_path
        self._marker = marker
        self._random = random.Random(os.urandom(8))

    def hit(self, name: str) -> None:
        """Die here, if it is so decided."""
        if self._probabilities and self._random.random() < self._probabilities.get(name, 0.0):
            self._die(name)

    def touch(self, value: bytes | None) -> None:
        """Die over a record that holds the marker: a stand-in for input that crashes the interpreter."""
        if self._marker and value is not None and self._marker in value:
            self._die("record")

    def _die(self, name: str) -> None:
        if self._folder and self._flight_path and self._flight_path.exists():
            copy = self._folder / f"{name}-{os.getpid()}-{time.time_ns()}.flight"
            shutil.copyfile(self._flight_path, copy)
        os.kill(os.getpid(), signal.SIGKILL)


def from_environment(flight_path: Path | None = None) -> Failpoints:
    """What FAILPOINTS asks for; raises ValueError for a name that does not exist."""
    points, _, folder = os.environ.get("FAILPOINTS", "").partition(";")
    probabilities: dict[str, float] = {}
    marker = b""
    for point in filter(None, points.split(",")):
        name, _, value = point.partition(":")
        if name not in NAMES:
            raise ValueError(f"FAILPOINTS: there is no failpoint {name}; there are {', '.join(NAMES)}")
        if name == "record":
            marker = value.encode()
        else:
            probabilities[name] = float(value)
    return Failpoints(probabilities, Path(folder) if folder else None, flight_path, marker)
