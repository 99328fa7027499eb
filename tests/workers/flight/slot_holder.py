"""A real process that holds a delivery slot until it is killed: the lock has to go with its death."""

import os
import signal
from pathlib import Path

from workers.flight import slot_lock


def start_holder(state_dir: Path, slot: int) -> int:
    """Its pid, once it holds the slot."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writable, b"y" if slot_lock.take(state_dir, slot, patience_s=0.0) else b"n")
        while True:
            signal.pause()
    os.close(writable)
    assert os.read(readable, 1) == b"y"
    os.close(readable)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
