"""Places where a test may have this process die. Off unless the environment variable FAILPOINTS is set, which only tests do.

FAILPOINTS="after-open:0.02,leaving:0.01;/path/of/the/kill-log;7" gives each named point a probability of death, drawn from the
seed 7 (none = another one each time). A point fires only while <kill log>/<point>.armed exists, so that a test can end the
dying. The dead leave a copy of their flight log there, taken when no thread of theirs ran any more: what was really in the air.
"""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

NAMES = (
    *("after-prepare", "after-open", "leaving", "answered", "before-record", "after-record", "in-revoke"),  # a delivery worker
    *("taken", "stored", "record"),  # the intake; a record that kills whoever touches it
    *("doubt-leased", "doubt-asked", "doubt-decided", "doubt-recorded"),  # the keeper
)

# Stops $1, waits until each of its threads has stopped, copies $2 to $3 in one step and kills $1.
_WITNESS = """
kill -STOP "$1"
while [ -n "$(grep -L '^State:[[:space:]]*[TZX]' /proc/"$1"/task/*/status 2>/dev/null)" ]; do :; done
cp "$2" "$3.part" && mv "$3.part" "$3"
kill -KILL "$1"
"""


class Incarnation(NamedTuple):
    """Who may die: where its flight log lies, and what makes its dice its own."""

    flight_path: Path
    slot: int
    number: int


class Failpoints:
    """`probabilities` by name; `folder` gets one file per death. The same seed and incarnation die at the same hits of a point,
    however its threads take turns."""

    def __init__(
        self,
        probabilities: dict[str, float],
        folder: Path | None = None,
        who: Incarnation | None = None,
        marker: bytes = b"",
        seed: str = "",
    ):
        self._probabilities = probabilities
        self._folder = folder
        self._who = who
        self._marker = marker
        root = f"{seed}:{who.slot}:{who.number}" if seed and who else os.urandom(8).hex()
        self._dice = {name: random.Random(f"{root}:{name}") for name in probabilities}
        self._lock = threading.Lock()

    def hit(self, name: str) -> None:
        """Die here, if it is so decided."""
        if name in self._dice and self._dice[name].random() < self._probabilities[name] and self._is_armed(name):
            self._die(name)

    def touch(self, value: bytes | None) -> None:
        """Die over a record that holds the marker: a stand-in for input that crashes the interpreter."""
        if self._marker and value is not None and self._marker in value:
            self._die("record")

    def _is_armed(self, name: str) -> bool:
        return self._folder is None or (self._folder / f"{name}.armed").exists()

    def _die(self, name: str) -> None:
        with self._lock:  # one witness is enough
            if self._folder and self._who and self._who.flight_path.exists():
                copy = self._folder / f"{name}-{os.getpid()}-{time.time_ns()}.flight"
                subprocess.run(["/bin/sh", "-c", _WITNESS, "witness", str(os.getpid()), self._who.flight_path, copy], check=False)
            os.kill(os.getpid(), signal.SIGKILL)


def from_environment(who: Incarnation | None = None) -> Failpoints:
    """What FAILPOINTS asks for; raises ValueError for a name that does not exist."""
    points, _, rest = os.environ.get("FAILPOINTS", "").partition(";")
    folder, _, seed = rest.partition(";")
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
    return Failpoints(probabilities, Path(folder) if folder else None, who, marker, seed)
