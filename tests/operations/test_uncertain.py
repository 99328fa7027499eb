"""Doubt that somebody settles: by decision, in bulk, on the audit log, and never over an answer that came meanwhile."""

import pytest

from mail.outcome import NoReply, Verdict
from tests.operations.console import Console
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from tests.workers.loop_world import Loop


@pytest.fixture
def loop(database, tmp_path):
    world = Loop(database, tmp_path)
    yield world
    world.flight_log.close()
    world.ledger.database.close()


@pytest.fixture
def console(database, tmp_path):
    return Console(database, tmp_path)


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
