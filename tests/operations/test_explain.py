"""`manage.py explain` over real lives: whatever happened to an email is told, by whichever id it is asked for, and nothing is changed."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from db import life
from mail.errors import StoreUnavailable
from mail.ids import new_id, wire_id
from tests.workers.doubt_world import DoubtWorld
from tests.workers.ledger_world import job_bytes
from workers.keeping.doubt_rules import Policies

pytestmark = pytest.mark.thorough


@pytest.fixture
def world(database, tmp_path):
    made = DoubtWorld(database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def explain(console):
    """What is printed, with the lines of each entry joined."""

    def ask(*words, code=0):
        done = console.call("explain", *words)
        assert done.returncode == code, done.text + done.stderr.decode()
        return " ".join((done.text + done.stderr.decode()).split())

    return ask


def in_five_hours():
    return (datetime.now(UTC) + timedelta(hours=5)).isoformat()


def refuse(world, answers):
    """From now on each ESP answers so (a word for every message)."""
    world.wire.behave = lambda request: [answers.get(request.url.removeprefix("http://"), "accepted")] * len(request.messages)


def test_a_delivered_email_is_told_whichever_of_its_ids_is_given(world, explain):
    world.deliver(job_bytes("order-1", "order-1@example.com"))
    world.report(world.now, world.event("delivered", "order-1"))
    job = world.ledger.job("order-1")
    provider = world.providers("order-1")[0]
    told = explain("order-1")
    assert told.startswith(f"order-1 of tenant 0 is delivered: reported by {provider}")
    assert "recipient o…@example.com" in told and "order-1@" not in told
    for words in ("it came in", f"attempt 1: through {provider}/0", f"{provider} took it", "it was delivered", "nothing is left to send"):
        assert words in told
    assert told.index("it came in") < told.index("took it") < told.index("next:")
    attempt_id = job["attempt_id"]
    for id_ in (job["id"], attempt_id, wire_id(attempt_id), f"<{wire_id(attempt_id)}@mail.example.com>", f"id-{attempt_id}"):
        assert explain(id_) == told
    assert "order-1@example.com" in explain("order-1", "--show-addresses")
    assert "still in the outbox: sent" in told, "this loop has no Kafka"
    read = json.loads(explain("order-1", "--json"))
    assert read["records"]["row"]["status"] == "delivered" and read["records"]["attempts"][0]["attempt_id"] == attempt_id


def test_a_failover_names_both_esps_and_the_weights_of_then(world, explain):
    world.run('INSERT INTO esp_weights (weights) VALUES (\'{"0": {"*": {"postmark": 700, "sendgrid": 300}}}\')')
    refuse(world, {"postmark": "throttled"})
    world.deliver(*(job_bytes(f"j{n}", f"j{n}@example.com") for n in range(4)))
    world.run('INSERT INTO esp_weights (weights) VALUES (\'{"0": {"*": {"sendgrid": 1000}}}\')')
    moved = [f"j{n}" for n in range(4) if len(world.providers(f"j{n}")) == 2]
    told = explain(moved[0])
    assert "attempt 1: not taken" in told and "by failover to sendgrid" in told and "attempt 2: sendgrid took it" in told
    assert "postmark 70 %, sendgrid 30 %" in told


def test_an_email_that_waits_says_until_when_and_where_it_came_from(world, explain):
    refuse(world, {"postmark": "throttled", "sendgrid": "throttled"})
    (record,) = world.deliver(job_bytes("slow"))
    told = explain("slow")
    assert "is retrying: it was put off" in told and "cancel slow --tenant 0" in told
    assert f"Kafka, email-jobs partition 0 offset {record.offset}" in told
    world.deliver(job_bytes("for-later", scheduledAt=in_five_hours()))
    assert "is scheduled: its time has not come" in explain("for-later") and "in 5 hours" in explain("for-later")


def test_a_doubt_that_an_event_ended_and_one_that_is_held(world, explain):
    world.doubt("proved", "held")
    assert "is uncertain: nobody knows whether" in explain("proved")
    assert "grace" in explain("proved")
    world.report(world.now, world.event("delivered", "proved"))
    told = explain("proved")
    assert "attempt 1: read timed out" in told and f"that proves that {world.providers('proved')[0]} took it" in told
    world.keep(20, world.keeper(Policies("hold", "hold", "hold")))
    told = explain("held")
    attempt_id = world.ledger.job("held")["attempt_id"]
    assert "held: UNCERTAIN_POLICY" in told and f"uncertain resend {attempt_id}" in told and wire_id(attempt_id) in told


def test_a_policys_resend_and_an_operators_word_are_told_with_who_decided(world, explain, console):
    world.doubt("policy", "person")
    world.pass_watermark()
    console.call("uncertain", "confirm", world.ledger.job("person")["attempt_id"])
    assert "decided that it was taken" in explain("person") and "counts as taken: confirmed by an operator" in explain("person")
    world.keep(2)
    world.now += timedelta(minutes=30)
    world.pass_watermark()
    world.keep(3)
    assert world.resends() == ["policy"]
    assert "host/keeper-0 had it sent again by policy" in explain("policy")
    assert f"through {world.providers('policy')[0]} only" in explain("policy")


def test_a_dead_letter_its_replay_and_its_second_life(world, explain, console):
    refuse(world, {"postmark": "rejected", "sendgrid": "rejected"})
    (record,) = world.deliver(job_bytes("dead-1"))
    letter = world.ledger.database.read("SELECT id FROM dead_letters")[0][0]
    told = explain("dead-1")
    assert "refused it for good" in told and f"dlq replay {letter}" in told
    assert f"partition 0 offset {record.offset}" in told
    assert explain(letter) == told, "a dead letter's id means its email"
    refuse(world, {})
    console.call("dlq", "replay", letter)
    world.lease_due()
    told = explain("dead-1")
    assert "replayed its dead letter" in told and "generation 1" in told and "attempt 2:" in told and "is sent:" in told


def test_what_never_became_an_email_is_found_by_the_id_that_could_be_read(world, explain):
    world.deliver(job_bytes("bad-1", priority="soon"), b"{no json")
    assert "bad-1 of tenant 0 never became an email: it was refused, invalid-job: priority" in explain("bad-1")
    (letter,) = world.ledger.database.read("SELECT id FROM dead_letters WHERE reason = 'not-json'")
    assert "a record without a job id of tenant 0 never became an email" in explain(letter[0])


def test_a_suppressed_email_names_the_entry_that_stopped_it(world, explain, console):
    console.call("suppress", "add", "ada@example.com", "--tenant", "0")
    world.deliver(job_bytes("unwanted", "ada@example.com"))
    told = explain("unwanted")
    assert "is suppressed: the recipient is suppressed: manual" in told and "manual by operator" in told
    assert "suppress remove ADDRESS --tenant 0" in told
    assert "suppress remove ada@example.com --tenant 0" in explain("unwanted", "--show-addresses")
    console.call("suppress", "remove", "ada@example.com")
    told = explain("unwanted")
    assert "took its recipient off the suppression list" in told and "no entry is on the list now" in told


def test_cancels_before_and_after_it_came(world, explain, console):
    console.call("cancel", "early")
    told = explain("early")
    assert "is cancelled: a cancel came before it" in told and "asked to cancel it" in told
    world.deliver(job_bytes("waiting", scheduledAt=in_five_hours()))
    console.call("cancel", "waiting")
    assert "it ended, cancelled: cancelled by its producer" in explain("waiting")
    world.doubt("late")
    console.call("cancel", "late")
    assert "a cancel came too late to stop what had left" in explain("late")


def test_an_expired_email_a_stopped_lane_and_a_forgotten_person(world, explain, console):
    world.deliver(job_bytes("old", expiresAt="2026-01-01T00:00:00Z"), job_bytes("waiting", "w@example.com", scheduledAt=in_five_hours()))
    assert "is expired: it could not be sent before 2026-01-01" in explain("old")
    console.call("lanes", "pause", "normal", "--reason", "incident 7")
    assert "stopped its lane" in explain("waiting") and "incident 7" in explain("waiting")
    console.call("forget", "w@example.com", "--yes")
    assert "erased by `manage.py forget`" in explain("waiting")


def test_the_same_id_with_other_content_is_told_with_its_dead_letter(world, explain):
    world.deliver(job_bytes("twice", "a@example.com"))
    world.deliver(job_bytes("twice", "b@example.com"))
    letter = world.ledger.database.read("SELECT id FROM dead_letters WHERE reason = 'id-reused'")[0][0]
    told = explain("twice")
    assert "is sent:" in told and "the same id came with other content, by Kafka, email-jobs partition 0 offset" in told and letter in told


def test_an_id_of_two_tenants_is_told_after_saying_which(world, explain):
    world.deliver(job_bytes("shared", "a@example.com"), job_bytes("shared", "b@example.com", tenant=7))
    told = explain("shared", code=2)
    assert "2 emails have this job id" in told and "tenant 7, job shared, sent, to b…@example.com" in told
    assert "shared of tenant 7 is sent" in explain("shared", "--tenant", "7")
    assert "shared of tenant 0 is sent" in explain(world.ledger.job("shared")["id"])
    assert "of tenant 9" in explain("shared", "--tenant", "9", code=1)


def test_what_happened_to_a_namesake_of_another_tenant_is_not_told(world, explain, console):
    world.deliver(job_bytes("shared", "a@example.com"), job_bytes("shared", "a@example.com", tenant=7))
    world.deliver(job_bytes("shared", "b@example.com", tenant=7))
    console.call("cancel", "shared", "--tenant", "7")
    console.call("suppress", "add", "a@example.com", "--tenant", "7")
    told, others = explain("shared", "--tenant", "0"), explain("shared", "--tenant", "7")
    for words in ("with other content", "asked to cancel", "came onto the suppression list"):
        assert words in others and words not in told
    assert told.endswith("still in the outbox: sent") and "still in the outbox: sent, dead letter" not in told


def test_emails_that_share_an_esps_message_id_are_listed(world, explain):
    world.deliver(job_bytes("j1", "a@example.com"), job_bytes("j2", "b@example.com"))
    world.run("UPDATE email_attempts SET message_id = 'shared.by.a.request'")
    told = explain("shared.by.a.request", code=2)
    assert "2 emails have this message id" in told and world.ledger.job("j2")["id"] in told
    world.run("UPDATE email_attempts SET message_id = 'other' WHERE job_id = %(id)s", {"id": world.ledger.job("j2")["id"]})
    assert explain("shared.by.a.request").startswith("j1 of tenant 0")


def test_an_unknown_id_says_what_was_looked_for_and_where(world, explain):
    world.deliver(job_bytes("known", "a@example.com", tenant=42))
    own = new_id()
    for id_, spelled in (("nothing", "it spells none"), (own, own), (wire_id(own), own)):
        told = explain(id_, code=1)
        assert "tenants 0, 42" in told and spelled in told and "last 7 days" in told and "--days 30" in told


def test_the_id_of_a_content_request_is_answered_with_the_names_of_its_emails(world, explain):
    body = {"From": "a@x.com", "To": ["b@y.com"], "Subject": "s", "TextBody": "t"}
    world.deliver(json.dumps({"MessageID": "req-1", "UserID": 0, "body": body}).encode())
    assert "req-1:0 of tenant 0 is sent" in explain("req-1:0") and "as part of a content request" in explain("req-1:0")
    assert "explain req-1:0" in explain("req-1", code=1)


def test_a_row_that_retention_took_is_said_to_be_gone(world, explain):
    world.deliver(job_bytes("gone"))
    world.run("DELETE FROM email_jobs")
    assert "gone by retention" in explain("gone", code=1)


@pytest.mark.parametrize("words", [("",), ("a\nb",), ("x", "--days", "0"), ("x", "--days", "many"), ("x", "--tenant", "seven")])
def test_what_is_no_id_is_refused_with_the_fix(console, words):
    done = console.call("explain", *words)
    assert done.returncode == 2 and ("1 to 1000 printable" in done.stderr.decode() or "argument --" in done.stderr.decode())


def test_it_cannot_change_anything(world):
    world.deliver(job_bytes("j1"))
    row_id = world.ledger.job("j1")["id"]

    def write(cursor):
        assert life.read(cursor, row_id, 7, str).row.job_id == "j1"
        cursor.execute("UPDATE email_jobs SET status = 'dead'")

    with pytest.raises(StoreUnavailable, match="25006"):
        world.ledger.database.run(write)
    assert world.status("j1") == "sent"
