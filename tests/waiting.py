"""Waiting for a condition, with a limit; and looking at processes."""

import time
from collections.abc import Callable
from pathlib import Path


def _rest() -> None:
    time.sleep(0.005)


def wait_until(is_so: Callable[[], object], limit_s: float = 30.0, meanwhile: Callable[[], object] = _rest) -> None:
    """Return when `is_so()` holds; fail after `limit_s`. What is done `meanwhile` takes a moment, and may be what brings it about."""
    until_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < until_s, f"it did not come to that within {limit_s} s"
        meanwhile()


def is_alive(pid: int) -> bool:
    """Does this process run (a zombie does not)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
