"""Health: a question that fails, hangs or talks too much must not spoil the answer."""

import json
import threading

from telemetry.health import Finding, Health, Prober
from tests.waiting import wait_until


def failing() -> str:
    raise ConnectionError("password=canary refused for ann@example.com")


def test_all_well_is_ok() -> None:
    health = Prober({"database": lambda: None, "kafka": lambda: None}).examine()
    assert (health.status, health.http_status) == ("ok", 200)
    told = json.loads(health.to_json())
    assert told["status"] == "ok" and told["checks"]["database"]["status"] == "ok"
    assert told["checks"]["kafka"]["seconds"] >= 0


def test_one_problem_fails_the_whole_and_is_named() -> None:
    health = Prober({"database": lambda: None, "workers": lambda: "none is up"}).examine()
    assert (health.status, health.http_status) == ("failing", 503)
    assert json.loads(health.to_json())["checks"]["workers"] == {
        "status": "failing",
        "seconds": round(health.findings[1].took_s or 0, 4),
        "detail": "none is up",
    }


def test_a_question_that_raises_is_a_problem_without_secrets() -> None:
    (finding,) = Prober({"database": failing}).examine().findings
    assert finding.problem is not None and finding.problem.startswith("ConnectionError")
    assert "canary" not in finding.problem and "@" not in finding.problem


def test_a_question_that_hangs_is_told_at_the_deadline_and_not_asked_twice() -> None:
    release, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        release.wait(10)

    prober = Prober({"database": hang, "kafka": lambda: None}, deadline_s=0.1)
    first, second = prober.examine(), prober.examine()
    for health in (first, second):
        assert health.findings[0].problem is not None and health.findings[0].problem.startswith("no answer for")
        assert health.findings[1].problem is None
    assert len(asked) == 1
    release.set()
    wait_until(lambda: prober.examine().status == "ok")


def test_questions_are_asked_side_by_side() -> None:
    together = threading.Barrier(2, timeout=5)

    def meet() -> None:
        together.wait()

    assert Prober({"a": meet, "b": meet}, deadline_s=5).examine().status == "ok"


def test_no_questions_is_well() -> None:
    assert Health(()).status == "ok"
    assert Health((Finding("x", "", None),)).status == "failing"
