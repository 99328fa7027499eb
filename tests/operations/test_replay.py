"""Dead letters brought back: each sent exactly once, with its history kept."""

import pytest

from mail.outcome import NoReply
from tests.operations.console import Console
from tests.workers.ledger_world import job_bytes
from tests.workers.loop_world import Loop


@pytest.fixture
def loop(database, tmp_path):
    world = Loop(database, tmp_path)
    yield world
    world.flight_log.close()
    world.ledger.database.close()


@pytest.fixture
def dlq(database, tmp_path):
    return lambda *words: Console(database, tmp_path).type("dlq", *words)


def reject_all(loop):
    loop.wire.behave = lambda request: ["rejected"] * len(request.messages)


def accept_all(loop):
    loop.wire.behave = lambda request: ["accepted"] * len(request.messages)


def test_a_replay_opens_a_new_generation_and_sends_each_once_however_often_it_is_typed(loop, dlq):
    reject_all(loop)
    loop.deliver(*(job_bytes(f"j{n}", f"r{n}@example.com") for n in range(30)))
    assert loop.ledger.count("dead_letters") == 30
    accept_all(loop)
    assert "30 replayed" in dlq("replay", "--reason", "rejected").text
    assert "no dead letter fits" in dlq("replay", "--reason", "rejected").text
    loop.lease_due()
    loop.lease_due()
    assert sorted(email for _, email in loop.wire.accepted) == sorted(f"r{n}@example.com" for n in range(30))
    assert loop.ledger.count("email_jobs", "status = 'sent' AND generation = 1 AND attempts = 2") == 30
    assert loop.ledger.count("email_attempts") == 60
    assert loop.ledger.count("audit_log", "action = 'dlq replay'") == 1


def test_without_a_replay_a_dead_id_stays_dead_and_dies_again_only_as_a_new_generation(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("j1"))
    accept_all(loop)
    loop.deliver(job_bytes("j1"))
    assert (loop.status("j1"), loop.wire.accepted) == ("dead", [])
    reject_all(loop)
    dlq("replay", "--all")
    loop.lease_due()
    assert loop.status("j1") == "dead"
    assert loop.ledger.count("dead_letters") == 2


def test_what_never_was_a_job_stays_dead_unless_it_is_one_now(loop, dlq):
    loop.deliver(b"\xff not json", job_bytes("late", type="email", template="not-yet-there"))
    done = dlq("replay", "--all")
    assert "1 still no job" in done.text and "1 replayed" in done.text
    assert done.returncode == 1
    loop.lease_due()
    assert loop.status("late") == "dead"


def test_a_job_that_evidence_has_moved_on_is_left_alone(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("j1"))
    loop.ledger.database.run(lambda cursor: cursor.execute("UPDATE email_jobs SET status = 'delivered'"))
    assert "1 not dead any more" in dlq("replay", "--all").text
    assert loop.status("j1") == "delivered"


def test_a_dropped_letter_is_not_replayed_and_nothing_is_chosen_by_saying_nothing(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("j1"))
    assert dlq("replay").returncode == 2
    assert "1 dropped" in dlq("drop", "--reason", "rejected").text
    assert "no dead letter fits" in dlq("replay", "--all").text


def test_an_uncertain_email_is_no_dead_letter_and_no_replay_reaches_it(loop, dlq):
    loop.wire.behave = lambda request: NoReply(True, "no answer")
    loop.deliver(job_bytes("j1"))
    assert "no dead letter fits" in dlq("replay", "--all").text
    assert loop.status("j1") == "uncertain"
