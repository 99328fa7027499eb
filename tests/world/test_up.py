"""`make up` as a newcomer runs it: it says where everything is, takes a job by hand, and Ctrl-C ends all of it."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sandbox.children import PROJECT
from sandbox.fakes.ledger import read_ledger
from tests.world.runs import running

pytestmark = pytest.mark.world
JOB = {"id": "by-hand", "type": "welcome-email", "recipient": {"email": "ada@example.com", "name": "Ada"}, "data": {}}


def test_a_world_that_is_up_sends_a_job_by_hand_until_it_is_interrupted(server_folder: Path) -> None:
    folder = server_folder / "up"
    with running("sandbox.up", ["--workers", "1"], folder) as run:
        run.wait_until(lambda: "Ctrl-C stops all of it." in run.text(), 40, "the world was up")
        addresses = json.loads((folder / "up.json").read_text())
        assert {"inbox", "metrics", "health", "kafka", "postgres", "redis", "settings"} <= addresses.keys()
        assert all(address in run.text() for address in addresses.values())

        produced = _produce(folder)
        assert produced.returncode == 0, produced.stderr
        run.wait_until(lambda: "ada@example.com" in _recipients(folder), 60, "the mail was in a fake's ledger")
        assert _recipients(folder) == ["ada@example.com"]
        assert _explained(addresses["settings"]).startswith("by-hand of tenant 0 is ")
        with urllib.request.urlopen(addresses["inbox"], timeout=5) as page:
            assert page.status == 200

        assert len(run.family()) > 6
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(30) == 0, run.text()
        assert run.family() == set()


def test_producing_by_hand_without_a_world_says_what_to_do(tmp_path: Path) -> None:
    produced = _produce(tmp_path)
    assert produced.returncode == 1
    assert "make up" in produced.stderr


def _produce(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sandbox.produce", json.dumps(JOB), "--folder", str(folder)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)


def _explained(settings: str) -> str:
    command = [sys.executable, "manage.py", "--env-file", settings, "explain", "by-hand"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False).stdout


def _recipients(folder: Path) -> list[str]:
    return [line["recipient"] for path in sorted((folder / "ledger").glob("*.jsonl")) for line in read_ledger(path)]
