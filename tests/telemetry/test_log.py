"""Log lines: their form, what is bound to them, and what never passes."""

import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from telemetry import log as logs

pytestmark = pytest.mark.expect_errors


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def speak_to(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    # not sys.stderr itself: pytest puts its own there anew for each phase of a test
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    written = io.StringIO()
    speak_to(written, monkeypatch)
    yield written
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


def lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_bound_and_own_fields_in_order(stderr: io.StringIO) -> None:
    logs.configure("info", False, worker="w-1", slot=3)
    logs.get("intake.kafka").info("partition assigned", topic="email-jobs", partition=7)
    (line,) = lines(stderr)
    assert list(line) == ["at", "level", "logger", "message", "worker", "slot", "topic", "partition"]
    assert str(line["at"]).endswith("Z")
    assert (line["level"], line["logger"], line["message"]) == ("info", "intake.kafka", "partition assigned")
    assert (line["slot"], line["partition"]) == (3, 7)


def test_lines_below_the_level_are_not_written(stderr: io.StringIO) -> None:
    logs.configure("warning", False)
    log = logs.get("x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line["message"] for line in lines(stderr)] == ["c", "d"]


def test_configuring_again_replaces_what_is_bound_and_doubles_nothing(stderr: io.StringIO) -> None:
    logs.configure("info", False, role="supervisor")
    logs.configure("info", False, role="delivery")
    logs.get("x").info("hello")
    assert [line["role"] for line in lines(stderr)] == ["delivery"]


def test_an_exception_is_one_field_on_the_same_line(stderr: io.StringIO) -> None:
    logs.configure("info", False)
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logs.get("x").exception("it failed", job="j-1")
    (line,) = lines(stderr)
    assert line["level"] == "error" and line["job"] == "j-1"
    assert str(line["exception"]).startswith("Traceback") and "ValueError: broken\nin two" in str(line["exception"])


def test_a_field_cannot_take_the_place_of_what_every_line_has(stderr: io.StringIO) -> None:
    logs.configure("info", False)
    logs.get("x").info("hello", level="mine", logger="mine", at="mine")
    (line,) = lines(stderr)
    assert (line["level"], line["logger"], line["level_"], line["at_"]) == ("info", "x", "mine", "mine")


@pytest.mark.parametrize("human", [True, False])
@pytest.mark.parametrize(
    "field",
    [
        {"who": "ann@example.com"},
        {"detail": "550 no such user <Ann.Lee+x@mail.example.co.uk>"},
        {"recipient": "canary"},
        {"api_key": "canary"},
        {"db_password": "canary"},
        {"url": "postgres://user:canary@db/x"},
        {"header": "Authorization: Bearer canary-canary-canary"},
        {"dsn_text": "host=db password=canary user=x"},
        {"body": '{"token": "canary"}'},
        {"key": "SG.canarycanary.canarycanary"},
        {"nested": {"list": ["ann@example.com"], "secret": "canary"}},
        {"known": "prefix the-known-canary suffix"},
    ],
)
def test_no_address_and_no_secret_passes(stderr: io.StringIO, human: bool, field: dict[str, object]) -> None:
    logs.configure("info", human)
    logs.hide(["the-known-canary", ""])
    logs.configure("info", human, slot=1)
    logs.get("x").info("hello", **field)
    written = stderr.getvalue()
    assert "hello" in written
    assert "canary" not in written and "@example" not in written and "@mail" not in written


def test_no_address_and_no_secret_passes_in_an_exception_or_a_foreign_message(stderr: io.StringIO) -> None:
    logs.configure("info", False)
    logs.hide(["canary-token"])
    try:
        raise RuntimeError("POST failed for ann@example.com with canary-token")
    except RuntimeError:
        logs.get("x").exception("it failed")
    logging.getLogger("urllib3").warning("retry of %s with %s", "ann@example.com", "canary-token")
    assert "canary" not in stderr.getvalue() and "@example" not in stderr.getvalue()
    assert len(lines(stderr)) == 2


def test_ids_counts_and_hosts_pass_unharmed(stderr: io.StringIO) -> None:
    logs.configure("info", False)
    fields = {
        "attempt": "01928f3e-7c1a-7b3c-9d2e-1a2b3c4d5e6f",
        "wire": "01J8ZKWZ0SFCY9T5SAAJPMTFPQ",
        "hash": "a" * 64,
        "broker": "kafka-1.example.com:9092",
        "token_count": 5,
        "took_s": 0.25,
        "is_open": True,
        "none": None,
    }
    logs.get("x").info("hello", **fields)
    (line,) = lines(stderr)
    assert {name: line[name] for name in fields} == fields


def test_foreign_libraries_are_heard_from_warning_on_only(stderr: io.StringIO) -> None:
    logs.configure("debug", False)
    logging.getLogger("botocore").debug("signing with %s", "canary")
    logging.getLogger("botocore").info("found credentials")
    logs.get("x").debug("ours")
    assert [line["message"] for line in lines(stderr)] == ["ours"]


def test_what_cannot_be_shown_costs_no_line(stderr: io.StringIO) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logs.configure("info", False)
    logs.get("x").info("hello", thing=Broken(), surrogate="\ud800", infinite=float("inf"), nan=float("nan"), long="x" * 100_000)
    (line,) = lines(stderr)
    assert line["infinite"] == "inf" and line["nan"] == "nan"
    assert len(str(line["long"])) < 3_000


def test_a_closed_stderr_ends_nobody(stderr: io.StringIO) -> None:
    logs.configure("info", False)
    stderr.close()
    logs.get("x").error("nobody hears this")
    assert stderr.closed


def test_the_human_form_reads_well(stderr: io.StringIO) -> None:
    logs.configure("info", True, slot=3)
    logs.get("intake.kafka").warning("partition lost", topic="email-jobs", why="two words", empty="")
    time, level, name, *rest = stderr.getvalue().split()
    assert len(time) == len("12:03:04.123") and (level, name) == ("WARNING", "intake.kafka")
    assert " ".join(rest) == 'partition lost slot=3 topic=email-jobs why="two words" empty=""'


def test_colours_are_for_terminals_only(stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", True)
    logs.get("x").info("plain")
    assert "\033[" not in stderr.getvalue()
    monkeypatch.delenv("NO_COLOR", raising=False)
    speak_to(terminal := Terminal(), monkeypatch)
    logs.configure("info", True)
    logs.get("x").info("coloured")
    assert "\033[" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    speak_to(asked := Terminal(), monkeypatch)
    logs.configure("info", True)
    logs.get("x").info("plain")
    assert "\033[" not in asked.getvalue()


def test_somebody_elses_text_cannot_steer_the_terminal(stderr: io.StringIO) -> None:
    logs.configure("info", True)
    try:
        raise ValueError("\033[2Jgone")
    except ValueError:
        logs.get("x").exception("it failed", detail="\033[2J\x9b\nline")
    assert "\033" not in stderr.getvalue() and "\x9b" not in stderr.getvalue()


def test_log_lines_can_be_caught_by_tests(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logs.get("x").info("hello", a=1)
    assert [record.getMessage() for record in caplog.records] == ["hello"]
