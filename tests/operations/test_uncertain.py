"""Doubt that somebody settles: by decision, in bulk, on the audit log, and never over an answer that came meanwhile."""

import argparse

import pytest

from config.settings import load_settings
from mail.outcome import NoReply, Verdict
from operations import uncertain
from operations.uncertain import ADVICE
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.keeping.doubt_rules import Wait

pytestmark = pytest.mark.thorough


@pytest.fixture
def doubted(loop):
    """Three emails without an answer; from now on the ESPs accept."""
    loop.wire.behave = lambda request: NoReply(True, "read timed out")
    loop.deliver(*(job_bytes(f"j{n}", f"r{n}@example.com") for n in range(3)))
    loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
    return loop


def test_the_list_names_attempt_job_and_reason(doubted, console):
    text = console.type("uncertain", "list").text
    assert "j0" in text and "read timed out" in text
    assert doubted.ledger.job("j0")["attempt_id"] in text
    assert "nothing is in doubt" in console.type("uncertain", "list", "--older", "3600").text


def test_confirmed_emails_count_as_sent_and_are_never_sent_again(doubted, console):
    assert "3 emails" in console.type("uncertain", "confirm", "--all").text
    doubted.lease_due()
    assert {doubted.status(f"j{n}") for n in range(3)} == {"sent"}
    assert doubted.ledger.states("j0") == ["accepted"]
    assert doubted.wire.accepted == []
    assert doubted.ledger.count("uncertain_attempts") == doubted.ledger.count("email_payloads") == 0
    assert doubted.ledger.count("audit_log", "action = 'uncertain confirm'") == 1


def test_resent_emails_go_out_once_under_a_new_attempt(doubted, console):
    one = doubted.ledger.job("j1")["attempt_id"]
    assert "1 emails" in console.type("uncertain", "resend", one).text
    assert console.type("uncertain", "resend", one).returncode == 1
    doubted.lease_due()
    assert [doubted.status(f"j{n}") for n in range(3)] == ["uncertain", "sent", "uncertain"]
    assert doubted.ledger.states("j1") == ["not_taken", "accepted"]
    assert [email for _, email in doubted.wire.accepted] == ["r1@example.com"]


def test_abandoned_emails_are_dead_letters_that_a_replay_can_still_bring_back(doubted, console):
    console.type("uncertain", "abandon", "--all")
    assert doubted.ledger.count("dead_letters", "value IS NOT NULL") == 3
    assert "3 replayed" in console.type("dlq", "replay", "--all").text
    doubted.lease_due()
    assert len(doubted.wire.accepted) == 3


def test_an_answer_that_comes_after_all_wins_over_the_doubt(doubted, console):
    batch = letters_of(record_of(job_bytes("j0", "r0@example.com")))
    letter = batch.letters[0]
    job = doubted.ledger.job("j0")
    letter.row_id, letter.attempt_id = job["id"], job["attempt_id"]
    doubted.ledger.record(doubted.slot, batch, {"j0": Verdict.ACCEPTED})
    assert "2 emails" in console.type("uncertain", "resend", "--all").text
    assert doubted.status("j0") == "sent"


def test_saying_nothing_decides_nothing(doubted, console):
    assert console.type("uncertain", "resend").returncode == 2
    assert doubted.ledger.count("uncertain_attempts") == 3


# -- what the list says, and decisions in bulk -------------------------------------------------------------------------


def run(loop, statement, values=None):
    loop.ledger.database.run(lambda cursor: cursor.execute(statement, values or {}))


def test_the_list_says_since_when_what_each_waits_for_and_what_can_be_done(doubted, console):
    run(doubted, "UPDATE uncertain_attempts SET since = '2026-01-02 03:04:05Z'")
    run(doubted, "INSERT INTO webhook_watermarks VALUES ('postmark', 0, '2026-01-02 03:00:00Z'), ('sendgrid', 0, '2026-01-02 03:00:00Z')")
    ids = sorted(doubted.ledger.job(f"j{n}")["attempt_id"] for n in range(3))
    for word, attempt_id in zip(("watermark", "resent-once"), ids, strict=False):
        run(doubted, "UPDATE uncertain_attempts SET waits_for = %(w)s, awaited = since + interval '5 minutes' WHERE attempt_id = %(id)s",
            {"w": word, "id": attempt_id})  # fmt: skip
    lines = console.type("uncertain", "list").text.splitlines()
    assert [line for line in lines if ids[0] in line and "2026-01-02 03:04:05" in line]
    assert "watermark 2026-01-02 03:09:05, is at 2026-01-02 03:00:00" in next(line for line in lines if ids[0] in line)
    assert "resent-once" in next(line for line in lines if ids[1] in line)
    assert "grace, until 2026-01-02 03:19:05" in next(line for line in lines if ids[2] in line)
    assert [line.split(":")[0] for line in lines[-3:]] == ["watermark", "resent-once", "grace"]
    assert "uncertain confirm" in lines[-2], "it says what an operator can do"


def test_every_word_of_the_keeper_has_its_advice():
    assert {str(word) for word in Wait} | {"grace"} == set(ADVICE)


def test_a_decision_may_be_about_an_account_or_a_template(doubted, console):
    run(
        doubted,
        "UPDATE uncertain_attempts SET provider = 'sparkpost', account_tenant = 42 WHERE job_id = %(id)s",
        {"id": doubted.ledger.job("j0")["id"]},
    )
    run(doubted, "UPDATE email_jobs SET template = 'password-reset' WHERE job_id = 'j1'")
    assert console.type("uncertain", "confirm", "--account", "sparkpost/7").returncode == 1
    assert "1 emails" in console.type("uncertain", "confirm", "--account", "sparkpost/42").text
    assert "1 emails" in console.type("uncertain", "abandon", "--template", "password-reset").text
    assert [doubted.status(f"j{n}") for n in range(3)] == ["sent", "dead", "uncertain"]
    rows = doubted.ledger.database.read("SELECT action, details->'choice'->>'template' FROM audit_log ORDER BY id")
    assert rows == [("uncertain confirm", None), ("uncertain abandon", "password-reset")]
    assert console.type("uncertain", "resend", "--account", "/1").returncode == 2


def test_what_cannot_be_sent_for_want_of_its_bytes_stays_in_doubt(doubted, console):
    run(doubted, "DELETE FROM email_payloads WHERE id = %(id)s", {"id": doubted.ledger.job("j0")["id"]})
    assert "2 emails: the ESP did not take them: send them again; 1 had moved on" in console.type("uncertain", "resend", "--all").text
    assert doubted.ledger.states("j0") == ["uncertain"] and doubted.status("j0") == "uncertain"
    assert doubted.ledger.count("uncertain_attempts") == 1


def test_more_than_a_page_is_decided_page_by_page(doubted, console, monkeypatch):
    monkeypatch.setattr(uncertain, "PAGE", 2)
    arguments = argparse.Namespace(ids=[], all=True, account=None, template=None, older=0.0, decision="confirm")
    environ = {name: value for name, value in console.environment.items() if name.startswith(("DB_", "ENVIRONMENT", "STATE_DIR"))}
    assert uncertain.run(load_settings(environ, None), arguments) == 0
    assert {doubted.status(f"j{n}") for n in range(3)} == {"sent"}
    assert doubted.ledger.count("audit_log", "action = 'uncertain confirm'") == 2
