"""`make demo` as a newcomer runs it: it judges itself by the fakes' ledgers alone, and leaves nothing behind, however it ends."""

import re
from pathlib import Path

import pytest

from sandbox.children import wait_until
from tests.world.runs import making, running

pytestmark = pytest.mark.world


def test_a_demo_loses_nothing_doubles_nothing_and_leaves_no_process_behind(server_folder: Path) -> None:
    folder = server_folder / "demo"
    with running("sandbox.demo", ["--emails", "300", "--seconds", "2"], folder) as run:
        run.wait_until(lambda: len(run.family()) > 10, 60, "its world was there")
        assert run.process.wait(60) == 0, run.text()
        assert run.family() == set()
    words = run.text()
    assert re.search(r"came in +300 emails", words)
    assert re.search(r"lost +0\n", words)
    assert re.search(r"doubled +0\n", words)
    assert re.search(r"told so far .*\d+ delivered", words)
    assert "the database agrees" in words
    assert not (folder / "world.json").exists()


def test_nothing_of_a_demo_is_left_two_seconds_after_it_was_killed(server_folder: Path) -> None:
    folder = server_folder / "killed-demo"
    with running("sandbox.demo", ["--emails", "3000", "--seconds", "30"], folder) as run:
        run.wait_until(lambda: any(path.stat().st_size for path in folder.glob("ledger/*.jsonl")), 30, "the first mail")
        assert len(run.family()) > 10
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not run.family(), 2, "the end of the demo's processes")


def test_nothing_is_left_two_seconds_after_make_itself_was_killed(server_folder: Path) -> None:
    folder = server_folder / "killed-make"
    with making("demo", ["--emails", "3000", "--seconds", "30"], folder) as run:
        run.wait_until(lambda: any(path.stat().st_size for path in folder.glob("ledger/*.jsonl")), 30, "the first mail")
        assert len(run.family()) > 10
        run.process.kill()
        run.process.wait()
        wait_until(lambda: not run.family(), 2, "the end of the processes that make had started")
