"""The process: what it prints, and that it never outlives those who need it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from sandbox import fakes
from sandbox.children import wait_until
from tests.sandbox.processes import is_alive

LIMIT_S = 10.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def launch(*arguments: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sandbox.esp_server", "--folder", str(tmp_path), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def read_urls(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    urls: dict[str, str] = json.loads(process.stdout.readline())
    return urls


def test_it_prints_one_line_with_every_address_and_listens_there(start: Callable[..., subprocess.Popen[str]]) -> None:
    urls = read_urls(start("--options", '{"sendgrid": {"latency_ms": 80, "throttle": 0.02}, "seed": 1}'))
    assert set(urls) == {*fakes.names(), "inbox"}
    assert all(url.startswith(("http://127.0.0.1:", "smtp://127.0.0.1:")) for url in urls.values())
    with urlopen(urls["inbox"] + "/control") as reply:
        assert json.load(reply)["sendgrid"]["latency_ms"] == 80


def test_it_ends_when_its_stdin_ends(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start()
    read_urls(process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(LIMIT_S) == 0
    process.stdin = None


def test_it_stays_when_its_stdin_is_no_pipe_and_ends_on_term(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(stdin=subprocess.DEVNULL)
    urls = read_urls(process)
    with urlopen(urls["inbox"] + "/api/mails") as reply:
        assert reply.status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'sandbox.esp_server', '--folder', {str(tmp_path)!r}],"
        " stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    try:
        wait_until(lambda: not is_alive(child), LIMIT_S, "the end of a fake whose parent was killed")
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "options",
    ["{", '{"sendgird": {}}', '{"sendgrid": {"throttle": 9}}', '{"sendgrid": {"nonsense": 1}}', "[]", '{"seed": "x"}', '{"sendgrid": 5}'],
)
def test_options_that_make_no_sense_are_named_and_nothing_starts(start: Callable[..., subprocess.Popen[str]], options: str) -> None:
    process = start("--options", options)
    _, complaint = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert complaint.startswith("bad --options: ")
