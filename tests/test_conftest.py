"""The rule that an unexpected error in the log fails a test, tested on a test file of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import logging, pytest

def test_quiet():
    logging.getLogger("x").warning("only a warning")

def test_loud():
    logging.getLogger("x.y").error("disk is full")

@pytest.mark.expect_errors
def test_loud_with_the_mark():
    logging.getLogger("x").error("on purpose")

def test_loud_with_the_fixture(expect_errors):
    logging.getLogger("x").error("on purpose")
    assert [record.getMessage() for record in expect_errors] == ["on purpose"]
"""


def test_an_error_in_the_log_fails_the_test_unless_it_is_expected(tmp_path: Path) -> None:
    (tmp_path / "test_logging.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    ended = subprocess.run([*command, "-c", "/dev/null", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert "4 passed, 1 error" in ended.stdout, ended.stdout + ended.stderr
    assert "ERROR at teardown of test_loud " in ended.stdout
    assert "x.y: disk is full" in ended.stdout


def test_a_missing_server_skips_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import refuse

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no broker"):
        refuse("no broker")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no broker, and CI may not skip"):
        refuse("no broker")
