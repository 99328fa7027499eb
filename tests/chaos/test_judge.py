"""The judge itself: every kind of failure is found, and only the flight log of the dead excuses a doubt. No server is needed."""

import pytest

from sandbox.traffic import Wanted
from tests.chaos.judge import SOON_S, AttemptRow, Death, JobRow, Material, Rows, Taken, judge, judge_storm
from tests.chaos.killing import KillLog
from workers.flight.flight_log import FlightLog

BOOT = "01a21255-d05d-7176-b66d-49d00aa13785"


def material(**changes):
    """Two emails that were sent, one that is uncertain because its worker died, one bad record."""
    whole = {
        "wanted": [Wanted("a@x", "a"), Wanted("b@x", "b"), Wanted("c@x", "c"), Wanted("", "d", "not-json")],
        "taken": [Taken("a@x", "a1"), Taken("b@x", "b2")],
        "rows": rows(),
        "deaths": [Death("leaving", 7, 100.0, frozenset({"b1"}), frozenset({"c1"}))],
    }
    return Material(**(whole | changes))


def rows(jobs=(), attempts=(), doubts=None, dead_letters=None):
    """The rows of `material`, those with the same id replaced."""
    all_jobs = {"a": JobRow("a", "a@x", "sent", "a1"), "b": JobRow("b", "b@x", "sent", "b2"), "c": JobRow("c", "c@x", "uncertain", "c1")}
    all_attempts = {
        "a1": AttemptRow("a1", "a", 1, "accepted", 90.0),
        "b1": AttemptRow("b1", "b", 1, "not_taken", 99.0),
        "b2": AttemptRow("b2", "b", 2, "accepted", 101.5),
        "c1": AttemptRow("c1", "c", 1, "uncertain", 99.0),
    }
    all_jobs |= {job.row_id: job for job in jobs}
    all_attempts |= {attempt.attempt_id: attempt for attempt in attempts}
    return Rows(
        list(all_jobs.values()),
        list(all_attempts.values()),
        {"c1": "the worker died while the request was on its way"} if doubts is None else doubts,
        {"not-json": 1} if dead_letters is None else dead_letters,
    )


def test_a_run_in_which_all_is_right_has_no_finding():
    verdict = judge(material())
    assert verdict.red == []
    assert (verdict.emails, verdict.uncertain, verdict.slowest_s) == (3, 1, 1.5)


FAILURES = {
    "an email that nobody took": (
        {"taken": [Taken("b@x", "b2")], "rows": rows(jobs=[JobRow("a", "a@x", "dead", "")])},
        ["lost"],
    ),
    "an email without a row": (
        {"wanted": [*material().wanted, Wanted("e@x", "e")]},
        ["lost"],
    ),
    "an email that was taken under two attempts": (
        {"taken": [*material().taken, Taken("b@x", "b1")]},
        ["doubled", "lying log", "disagreeing"],
    ),
    "an email that was taken twice under one attempt": ({"taken": [*material().taken, Taken("a@x", "a1")]}, ["doubled"]),
    "an email that nobody asked for": (
        {"taken": [*material().taken, Taken("z@x", "z1")], "rows": rows(attempts=[AttemptRow("z1", "z", 1, "accepted", 90.0)])},
        ["unasked"],
    ),
    "a mail that left without an attempt": ({"taken": [*material().taken, Taken("c@x", "")]}, ["unopened"]),
    "a doubt that no death explains": ({"deaths": []}, ["unexplained"]),
    "a doubt whose worker had only prepared it": (
        {"deaths": [Death("after-open", 7, 100.0, frozenset({"c1"}), frozenset())]},
        ["unexplained"],
    ),
    "a doubt without a log": ({"rows": rows(doubts={"c1": "no flight log speaks of it"}), "deaths": []}, ["unexplained"]),
    "an uncertain email that was sent again": (
        {
            "rows": rows(jobs=[JobRow("c", "c@x", "sent", "c2")], attempts=[AttemptRow("c2", "c", 2, "accepted", 101.0)]),
            "taken": [*material().taken, Taken("c@x", "c2")],
        },
        ["resent"],
    ),
    "a prepared mail that had left": (
        {"deaths": [*material().deaths, Death("anywhere", 8, 100.0, frozenset({"a1"}), frozenset())]},
        ["lying log"],
    ),
    "a leaving mail that was released": (
        {"deaths": [*material().deaths, Death("anywhere", 8, 100.0, frozenset(), frozenset({"b1"}))]},
        ["lying log"],
    ),
    "a row that says sent without any ESP saying so": (
        {"rows": rows(jobs=[JobRow("c", "c@x", "sent", "c1")])},
        ["lost", "disagreeing"],
    ),
    "a row that does not say what an ESP says": (
        {"rows": rows(jobs=[JobRow("a", "a@x", "retrying", "a1")])},
        ["disagreeing", "waiting"],
    ),
    "an accepted mail whose attempt says otherwise": (
        {"rows": rows(attempts=[AttemptRow("a1", "a", 1, "rejected", 90.0)])},
        ["disagreeing"],
    ),
    "an email that still waits": (
        {"rows": rows(jobs=[JobRow("b", "b@x", "pending", "b1")]), "taken": [Taken("a@x", "a1")]},
        ["lost", "waiting"],
    ),
    "an attempt that is still open": ({"rows": rows(attempts=[AttemptRow("e1", "e", 1, "open", 90.0)])}, ["waiting"]),
    "an email that waited for a grace": (
        {"rows": rows(attempts=[AttemptRow("b2", "b", 2, "accepted", 101.0 + SOON_S)])},
        ["slow"],
    ),
    "a dead letter too few": ({"rows": rows(dead_letters={})}, ["dead letters"]),
    "a dead letter too many": ({"rows": rows(dead_letters={"not-json": 1, "crashes-worker": 1})}, ["dead letters"]),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_each_failure_turns_its_checks_red(failure):
    changes, red = FAILURES[failure]
    assert judge(material(**changes)).red == red


def test_where_esps_misbehave_a_living_workers_doubt_needs_no_death_but_a_dead_ones_does():
    living = material(rows=rows(doubts={"c1": "ReadTimeoutError: no answer"}), deaths=[], has_faults=True)
    assert judge(living).red == []
    assert judge(living._replace(rows=rows())).red == ["unexplained"]


def test_evidence_that_came_later_turns_a_doubt_into_sent():
    settled = rows([JobRow("c", "c@x", "delivered", "c1")], [AttemptRow("c1", "c", 1, "accepted", 99.0)], doubts={})
    assert judge(material(rows=settled, taken=[*material().taken, Taken("c@x", "c1")])).red == []


def storm(quiet=None, final=None, frozen=frozenset(), told=("a@x", "b@x", "c@x")):
    """A storm in which c was in doubt at first, and an operator sent it again."""
    quiet = material(**(quiet or {}))
    resent = rows(
        jobs=[JobRow("c", "c@x", "sent", "c2")],
        attempts=[AttemptRow("c1", "c", 1, "not_taken", 99.0), AttemptRow("c2", "c", 2, "accepted", 200.0)],
        doubts={},
    )
    whole = {"rows": resent, "taken": [*material().taken, Taken("c@x", "c2")]}
    return judge_storm(
        quiet, material(**(whole | (final or {}))), Death("frozen", 9, 100.0, frozenset(frozen), frozenset()), frozenset(told)
    )


STORM_FAILURES = {
    "an email that is missing at the end, though its row says that nobody knows": (
        {"final": {"rows": rows(), "taken": material().taken}},
        ["lost", "in doubt"],
    ),
    "an email that was taken twice": ({"final": {"taken": [*material().taken, Taken("c@x", "c2"), Taken("b@x", "b2")]}}, ["doubled"]),
    "a doubt that was unexplained before the operator took it away": ({"quiet": {"deaths": []}}, ["unexplained"]),
    "a mail that left after its host was given up": ({"frozen": {"b2"}}, ["zombie"]),
    "a mail that nobody was told of": ({"told": ("a@x", "b@x")}, ["unheard"]),
}


def test_after_a_storm_in_which_all_is_right_there_is_no_finding():
    verdict = storm()
    assert verdict.red == []
    assert (verdict.emails, verdict.uncertain) == (3, 1)


def test_what_the_frozen_host_had_on_the_wire_explains_a_doubt_of_it():
    frozen = Death("frozen", 9, 100.0, frozenset(), frozenset({"c1"}))
    assert judge_storm(material(deaths=[]), material(deaths=[]), frozen, frozenset()).findings["unexplained"] == []


@pytest.mark.parametrize("failure", STORM_FAILURES)
def test_each_failure_of_a_storm_turns_its_checks_red(failure):
    changes, red = STORM_FAILURES[failure]
    assert storm(**changes).red == red


def test_the_kill_log_tells_what_was_prepared_and_what_was_leaving(tmp_path):
    kill_log = KillLog(tmp_path / "kills")
    first, second, third = (f"01a21255-d05d-7176-b66d-49d00aa1378{n}" for n in range(3))
    flight_log = FlightLog(kill_log.path_for("leaving", 41), BOOT, 1)
    flight_log.prepare([first])
    leaving = flight_log.prepare([second])
    flight_log.mark_leaving(leaving)
    flight_log.answer(flight_log.prepare([third]), [])
    flight_log.close()
    [death] = kill_log.deaths()
    assert (death.place, death.pid) == ("leaving", 41)
    assert (death.prepared, death.leaving) == ({first}, {second})


def test_who_was_killed_from_outside_while_dying_at_a_failpoint_has_died_once(tmp_path):
    kill_log = KillLog(tmp_path / "kills")
    for place, pid in (("after-open", 41), ("anywhere", 41), ("in-revoke", 42)):
        kill_log.path_for(place, pid).touch()
    assert kill_log.counts() == {"after-open": 1, "in-revoke": 1}
    assert all(not death.leaving for death in kill_log.deaths())


def test_a_failpoint_is_armed_until_it_has_had_its_share(tmp_path):
    kill_log = KillLog(tmp_path / "kills")
    kill_log.arm("after-open", "leaving")
    kill_log.disarm("leaving", "answered")
    assert [path.name for path in kill_log.folder.iterdir()] == ["after-open.armed"]
