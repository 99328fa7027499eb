"""The supervisor's wait for signals, in an interpreter of its own: blocked signals and stops concern a whole process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sandbox.children import PROJECT, wait_until
from tests.chaos.killing import wait_until_stopped

WAITER = """
from workers.supervising.signals import block_served, wait_for_one
block_served()
print("ready", flush=True)
while True:
    number = wait_for_one(0.05)
    if number is not None:
        print(number.name, flush=True)
"""


@pytest.fixture
def waiter() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", WAITER], cwd=PROJECT, stdout=subprocess.PIPE)
    assert line_of(process) == b"ready"
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def line_of(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_signal_is_heard_once(waiter: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTERM, signal.SIGHUP):
        waiter.send_signal(number)
        assert line_of(waiter) == number.name.encode()


def test_who_stood_still_past_its_time_hears_nothing_that_nobody_said(waiter: "subprocess.Popen[bytes]") -> None:
    waiter.send_signal(signal.SIGTTIN)
    assert line_of(waiter) == b"SIGTTIN"
    for _ in range(3):
        waiter.send_signal(signal.SIGSTOP)
        assert wait_until_stopped(waiter.pid)
        since_s = time.monotonic()
        wait_until(lambda: time.monotonic() - since_s > 0.2, 10.0, "its wait to be over")  # noqa: B023 (runs at once)
        waiter.send_signal(signal.SIGCONT)
    waiter.send_signal(signal.SIGHUP)
    assert line_of(waiter) == b"SIGHUP"
    assert os.waitpid(waiter.pid, os.WNOHANG) == (0, 0)
