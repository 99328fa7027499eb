"""The supervisor's files in STATE_DIR: the lock that keeps a second supervisor out, and `supervisor.json` for people and tests.

Nothing here is read back by the supervisor: what it decides on is in memory.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCK_NAME = "supervisor.lock"
STATE_NAME = "supervisor.json"
LOCK_PATIENCE_S = 2.0
_LOCK_LOOK_S = 0.02


def take_lock(state_dir: Path, patience_s: float = LOCK_PATIENCE_S, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Lock STATE_DIR for this supervisor and its children, for as long as one of them lives; False where others hold it.

    Children share the open file, so a successor of a killed supervisor gets in only when the last orphan is gone: that takes
    milliseconds, which is what the patience is for. Raises OSError where the folder cannot be used.
    """
    descriptor = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(max(1, int(patience_s / _LOCK_LOOK_S))):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(_LOCK_LOOK_S)
        else:
            return True
    os.close(descriptor)
    return False


class StateFile:
    """`supervisor.json`: who runs here now. Written whole and moved into place, so a reader never meets half of it."""

    def __init__(self, state_dir: Path):
        self._path = state_dir / STATE_NAME
        self._written = ""

    def write(self, state: dict[str, Any]) -> None:
        """Put this state down, if it is not what the file says already. Raises OSError where the disk is full or gone."""
        text = json.dumps(state, indent=1)
        if text == self._written:
            return
        draft = self._path.with_suffix(".new")
        draft.write_text(text + "\n")
        draft.replace(self._path)
        self._written = text

    def remove(self) -> None:
        """Take the file away: nobody runs here now."""
        self._path.unlink(missing_ok=True)
