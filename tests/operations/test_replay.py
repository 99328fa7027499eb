"""Dead letters brought back: each sent exactly once, with its history kept."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from db import dead_letters
from db.dead_letters import DeadLetter
from mail.ids import new_id
from mail.outcome import NoReply
from tests.operations.console import Console
from tests.workers.ledger_world import job_bytes

pytestmark = pytest.mark.thorough


@pytest.fixture
def dlq(database, tmp_path):
    return lambda *words: Console(database, tmp_path).call("dlq", *words)


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


def later(**time):
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def test_a_replay_does_not_run_ahead_of_a_schedule(loop, dlq):
    """Neither of a job with a row, nor of one that had none: both died before their time came."""
    loop.deliver(job_bytes("guarded", "stranger@example.com", scheduledAt=later(hours=1)))
    set_aside(loop, job_bytes("unseen", "u@example.com", scheduledAt=later(hours=1)))
    loop.deliver(job_bytes("far", "f@example.com"))
    assert "2 replayed" in dlq("replay", "--all").text
    assert (loop.status("guarded"), loop.status("unseen")) == ("scheduled", "scheduled")
    assert loop.ledger.count("email_jobs", "status = 'scheduled' AND next_attempt_at = scheduled_at") == 2
    loop.lease_due()
    assert loop.status("unseen") == "sent"


def test_an_id_that_belongs_to_another_email_stays_dead_and_says_so(loop, dlq):
    loop.deliver(job_bytes("j1", "a@example.com"), job_bytes("j1", "b@example.com"))
    done = dlq("replay", "--reason", "id-reused")
    assert "1 still id-reused" in done.text
    assert done.returncode == 1
    assert "1 still id-reused" in dlq("replay", "--all").text
    assert [email for _, email in loop.wire.accepted] == ["a@example.com"]


def test_of_a_record_with_good_and_bad_emails_the_good_are_sent_and_the_bad_get_letters_of_their_own(loop, dlq):
    loop.deliver(job_bytes("m:2", "other@example.com"))
    people = [{"To": "a@example.com"}, {"To": "no address"}, {"To": "c@example.com"}]
    body = {"From": "me@example.com", "Subject": "s", "TextBody": "t", "Personalizations": people}
    set_aside(loop, json.dumps({"MessageID": "m", "UserID": 0, "body": body}).encode())
    assert "1 replayed" in dlq("replay", "--reason", "crashes-worker").text
    loop.lease_due()
    assert sorted(email for _, email in loop.wire.accepted) == ["a@example.com", "other@example.com"]
    rows = loop.ledger.database.read("SELECT reason, job_id, record_index FROM dead_letters WHERE replayed_at IS NULL ORDER BY 2")
    assert rows == [("invalid-address", "m:1", 1), ("id-reused", "m:2", 2)]
    assert loop.ledger.count("outbox", "topic = 'email-dlq' AND array_length(keys, 1) = 2") == 1


def test_a_job_whose_row_is_gone_by_retention_is_replayed_as_a_new_one(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("old"))
    loop.ledger.database.run(lambda c: (c.execute("DELETE FROM email_jobs"), c.execute("DELETE FROM email_job_keys")))
    accept_all(loop)
    assert "1 replayed" in dlq("replay", "--all").text
    loop.lease_due()
    assert loop.status("old") == "sent"


def test_a_letter_without_bytes_stays_and_says_so(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("j1"))
    loop.ledger.database.run(lambda c: c.execute("UPDATE dead_letters SET value = NULL"))
    assert "1 still without the original bytes" in dlq("replay", "--all").text
    assert loop.ledger.count("dead_letters", "replayed_at IS NULL") == 1


def test_letters_are_chosen_by_id_reason_time_and_template(loop, dlq):
    reject_all(loop)
    loop.deliver(job_bytes("j1"), job_bytes("j2", "b@example.com", type="security-alert"), job_bytes("j3", "stranger@example.com"))
    ids = dict(loop.ledger.database.read("SELECT job_id, id FROM dead_letters"))
    assert "j2" in dlq("list", "--template", "security-alert").text and "j1" not in dlq("list", "--template", "security-alert").text
    assert "no dead letter fits" in dlq("list", "--since", later(hours=1)).text
    assert "no dead letter fits" in dlq("list", "--until", later(hours=-1)).text
    assert "1 replayed" in dlq("replay", "--template", "security-alert").text
    assert "1 replayed" in dlq("replay", ids["j1"]).text
    assert "no dead letter fits" in dlq("drop", "--until", later(hours=-1)).text
    assert "1 dropped" in dlq("drop", "--reason", "not-allowed", "--since", later(hours=-1)).text
    listed = dlq("list").text
    assert listed.count("settled") == 4 and ids["j3"] in listed
    assert "waiting: none" in listed


@pytest.mark.parametrize("words", [("replay", "not-an-id"), ("replay", "--since", "yesterday"), ("list", "--until", "noon")])
def test_a_choice_that_cannot_be_read_names_the_argument_and_the_fix(dlq, words):
    done = dlq(*words)
    assert done.returncode == 2
    assert b"give" in done.stderr and b"Traceback" not in done.stderr


def test_what_an_operator_abandons_is_told_like_any_other_end(loop, database, tmp_path):
    loop.wire.behave = lambda request: NoReply(True, "no answer")
    loop.deliver(job_bytes("j1"), job_bytes("j2", "b@example.com"))
    console = Console(database, tmp_path)
    console.call("uncertain", "abandon", loop.ledger.job("j1")["attempt_id"])
    console.call("uncertain", "confirm", "--all")
    told = [(topic, json.loads(value)) for topic, value in loop.ledger.database.read("SELECT topic, unnest(values) FROM outbox")]
    assert {(message["jobId"], message["event"]) for topic, message in told if topic == "email-events"} == {("j1", "dead"), ("j2", "sent")}
    assert [message["jobId"] for topic, message in told if topic == "email-dlq"] == ["j1"]
    assert loop.ledger.database.read("SELECT sum(sent)::int FROM esp_cohort_stats") == [(1,)]


def test_what_has_no_bytes_yet_stays_in_doubt_until_they_are_stored(loop, database, tmp_path):
    """Right after a crash, before Kafka has brought the record again."""
    loop.wire.behave = lambda request: NoReply(True, "no answer")
    loop.deliver(job_bytes("j1"))
    loop.ledger.database.run(lambda c: c.execute("DELETE FROM email_payloads"))
    accept_all(loop)
    console, attempt = Console(database, tmp_path), loop.ledger.job("j1")["attempt_id"]
    assert "0 emails" in console.call("uncertain", "resend", attempt).text
    assert (loop.status("j1"), loop.ledger.count("uncertain_attempts")) == ("uncertain", 1)
    loop.deliver(job_bytes("j1"))
    assert "1 emails" in console.call("uncertain", "resend", attempt).text
    loop.lease_due()
    assert loop.status("j1") == "sent"


def set_aside(loop, value):
    """A dead letter that never became a row."""
    letter = DeadLetter(new_id(), "crashes-worker", "", None, 0, {"topic": "email-jobs", "partition": 0, "offset": 1}, value)
    loop.ledger.database.run(lambda cursor: dead_letters.insert(cursor, [letter]))
