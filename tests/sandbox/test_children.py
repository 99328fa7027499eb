import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.children import PROJECT, SERVER_PORTS, NotReady, free_port, is_free, is_listening, is_zombie, spawn, wait_until
from tests.sandbox.processes import is_alive

SLEEPER = ["sleep", "60"]
STUBBORN = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"]
ECHO = [sys.executable, "-c", "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"]
# a parent with one child, whose pid it prints
PARENT = """
import signal, sys
from pathlib import Path
from sandbox.children import spawn
print(spawn("sleeper", ["sleep", "60"], Path(sys.argv[1])).pid, flush=True)
signal.pause()
"""


def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    wait_until(lambda: b"sleep" in Path(f"/proc/{child_pid}/cmdline").read_bytes().split(b"\0"), 5, "the exec")
    assert is_alive(child_pid)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not is_alive(child_pid), 2, "the child's death")


def test_a_child_whose_parent_is_already_another_never_starts_its_program(tmp_path: Path) -> None:
    leash = [sys.executable, "-I", "-S", str(PROJECT / "sandbox" / "leash.py"), "1", "-1", "-1", "touch", str(tmp_path / "started")]
    ended = subprocess.run(leash, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "parent is already gone" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_a_child_is_not_in_the_group_that_ctrl_c_reaches(tmp_path: Path) -> None:
    child = spawn("sleeper", SLEEPER, tmp_path)
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    finally:
        child.kill()


def test_no_child_is_started_from_a_thread_that_may_end_before_it(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    def start() -> None:
        try:
            spawn("sleeper", SLEEPER, tmp_path)
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_stop_ends_a_child_by_its_signal(tmp_path: Path) -> None:
    child = spawn("sleeper", SLEEPER, tmp_path)
    assert child.stop() == -signal.SIGTERM
    assert not child.is_running()
    assert child.stop() == -signal.SIGTERM


def test_stop_kills_a_child_that_does_not_listen(tmp_path: Path) -> None:
    child = spawn("stubborn", STUBBORN, tmp_path)
    assert child.wait_for_line(0) == "deaf"
    assert child.stop(limit_s=0.1) == -signal.SIGKILL


def test_stop_ends_a_frozen_child(tmp_path: Path) -> None:
    child = spawn("sleeper", SLEEPER, tmp_path)
    child.freeze()
    assert child.stop(limit_s=5) == -signal.SIGTERM


def test_what_a_child_prints_is_read_line_by_line(tmp_path: Path) -> None:
    child = spawn("echo", ECHO, tmp_path, talks=True)
    for number, word in enumerate(("one", "two", "three")):
        child.tell(word)
        assert child.wait_for_line(number) == word.upper()
    child.stop()


def test_a_child_that_ends_too_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = spawn("broken", [sys.executable, "-c", "import sys; sys.exit('no such luck')"], tmp_path)
    with pytest.raises(NotReady, match=r"broken ended with 1 before it could print line 1\nno such luck"):
        child.wait_for_line(0)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    child = spawn("missing", ["/no/such/program"], tmp_path)
    with pytest.raises(NotReady, match="cannot run /no/such/program: No such file"):
        child.wait_for_line(0)


def test_a_child_that_says_nothing_is_given_up_after_the_limit(tmp_path: Path) -> None:
    child = spawn("sleeper", SLEEPER, tmp_path)
    try:
        with pytest.raises(NotReady, match=r"waited 0\.05 s for sleeper to print line 1"):
            child.wait_for_line(0, limit_s=0.05)
    finally:
        child.kill()


def test_a_free_port_is_below_the_ephemeral_range_and_not_in_use() -> None:
    port = free_port()
    assert port in SERVER_PORTS
    with socket.create_server(("127.0.0.1", port)):
        assert is_listening(port)
        assert not is_free(port)
    assert not is_listening(port)


def test_a_zombie_is_told_from_the_living_and_the_gone(tmp_path: Path) -> None:
    child = spawn("brief", ["true"], tmp_path)
    wait_until(lambda: is_zombie(child.pid), 5, "the end of a child that nobody has reaped")
    child.process.wait()
    assert not is_zombie(child.pid)
    assert not is_zombie(os.getpid())
