"""The lock of a delivery slot: only its holder may settle the slot's past and write its flight log.

The worker that lives in a slot holds it until it dies, however it dies. So the keeper can tell a slot that nobody uses any more
from one that was added while it ran, and never settles what a living worker has in hand.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_S = 0.02


def take(state_dir: Path, slot: int, patience_s: float, wait: Callable[[float], None] = time.sleep) -> bool:
    """Hold the slot until this process ends; False where somebody else still holds it after `patience_s` seconds."""
    descriptor = _open(state_dir, slot)
    until_s = time.monotonic() + patience_s
    while not _try(descriptor):
        if time.monotonic() >= until_s:
            os.close(descriptor)
            return False
        wait(_LOOK_S)
    return True


@contextmanager
def held(state_dir: Path, slot: int) -> Iterator[bool]:
    """Hold the slot for the block, if nobody else does: True where it is ours."""
    descriptor = _open(state_dir, slot)
    try:
        yield _try(descriptor)
    finally:
        os.close(descriptor)


def _open(state_dir: Path, slot: int) -> int:
    # a file of its own: the flight log's may be deleted, and a lock on a deleted file keeps nobody out
    return os.open(state_dir / f"delivery-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
