"""`manage.py lanes`: an operator stops a lane and lets it go on, and the audit log says who."""

import pytest

from db import lanes

pytestmark = pytest.mark.thorough


def test_a_lane_is_stopped_listed_and_resumed(ledger, console):
    assert "stopped" not in console.type("lanes", "list").text
    assert console.type("lanes", "pause", "bulk", "--reason", "until noon").returncode == 0
    (pause,) = ledger.database.run(lanes.find)
    assert (pause.lane, pause.reason) == ("bulk", "until noon")
    listed = console.type("lanes", "list").text.splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["high", "runs"], ["normal", "runs"], ["bulk", "stopped"]]
    assert "until noon" in listed[-1]
    assert console.type("lanes", "resume", "bulk").returncode == 0
    assert ledger.database.run(lanes.find) == []
    done = console.type("lanes", "resume", "bulk")
    assert (done.returncode, done.text.strip()) == (1, "bulk was not stopped")
    said = ledger.database.read("SELECT action, subject FROM audit_log ORDER BY id")
    assert said == [("lanes pause", "bulk"), ("lanes resume", "bulk")]


def test_what_the_program_stopped_an_operator_resumes(ledger, console):
    ledger.database.run(lambda cursor: lanes.pause(cursor, "high", lanes.WATCH, "template t: render-error", [], 15.0))
    assert lanes.WATCH in console.type("lanes", "list").text
    assert console.type("lanes", "resume", "high").text.strip() == "high goes on"
    assert ledger.database.run(lanes.find) == []


def test_a_lane_that_does_not_exist_is_refused_with_those_that_do(console):
    done = console.type("lanes", "pause", "fast")
    assert done.returncode == 2
    assert b"high" in done.stderr
