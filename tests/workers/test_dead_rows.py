"""Due rows that can never be sent end under their own names: a dead letter with job id and bytes, told once for each time they die."""

import json
from hashlib import sha256

import pytest

from db import payloads, slots
from db.connection import Database
from db.housekeeping import sweep_payloads
from db.payloads import Payload, Vault
from mail.errors import StoreUnavailable
from tests.operations.console import Console
from tests.workers.ledger_world import job_bytes
from workers.steps.quarantine import DEATHS_MOST


def keep_waiting(loop, *values):
    """These jobs are due rows: every ESP was away when they came."""
    loop.wire.behave = lambda request: ["unavailable"] * len(request.messages)
    loop.deliver(*values)
    loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
    loop.desk.posted.clear()


def condemn(loop, job_id):
    for _ in range(DEATHS_MOST):
        loop.ledger.database.run(lambda cursor: slots.add_suspect(cursor, f"row:{loop.ledger.job(job_id)['id']}"))
    loop.forget_suspects()


def letters(loop):
    rows = loop.ledger.database.read(
        "SELECT reason, job_id, tenant_id, value, attempts, row_id IS NOT NULL FROM dead_letters ORDER BY created_at"
    )
    return [
        (reason, job_id, tenant, value and bytes(value), attempts, has_row) for reason, job_id, tenant, value, attempts, has_row in rows
    ]


def told(loop):
    return [
        (posting.topic, key, json.loads(value))
        for posting in loop.desk.posted
        for key, value in zip(posting.keys, posting.values, strict=True)
    ]


def test_a_row_that_killed_three_workers_is_a_dead_letter_with_its_job_id_and_is_told(loop):
    value = job_bytes("poison", "p@example.com", tenant=7, campaignId="c")
    keep_waiting(loop, value, job_bytes("good", "g@example.com"))
    row = loop.ledger.job("poison", 7)["id"]
    for _ in range(DEATHS_MOST):
        loop.ledger.database.run(lambda cursor: slots.add_suspect(cursor, f"row:{row}"))
    loop.forget_suspects()
    loop.lease_due()
    assert (loop.ledger.job("poison", 7)["status"], loop.status("good")) == ("dead", "sent")
    assert letters(loop) == [("crashes-worker", "poison", 7, value, 2, True)]
    topics = {topic: (key, message) for topic, key, message in told(loop) if key == "poison"}
    assert topics["email-dlq"][1]["jobId"] == "poison"
    event = topics["email-events"][1]
    assert (event["event"], event["tenant"], event["recipient"], event["campaignId"]) == ("dead", 7, "p@example.com", "c")


def test_it_can_be_replayed_and_is_told_anew_when_it_dies_again(loop, database, tmp_path):
    keep_waiting(loop, job_bytes("poison"))
    for _ in range(2):
        condemn(loop, "poison")
        loop.lease_due()
        assert loop.status("poison") == "dead"
        assert "1 replayed" in Console(database, tmp_path).call("dlq", "replay", "--all").text
    loop.lease_due()
    assert loop.status("poison") == "sent"
    assert [letter[1] for letter in letters(loop)] == ["poison"] * 2
    deaths = [message["eventId"] for topic, _, message in told(loop) if topic == "email-events" and message["event"] == "dead"]
    assert len(set(deaths)) == 2


def test_a_row_that_moved_on_while_it_was_read_is_no_dead_letter(loop):
    """Its lease ran out, and another worker has sent it meanwhile."""
    keep_waiting(loop, job_bytes("j"))
    condemn(loop, "j")
    deliver = loop.delivery.deliver

    def deliver_too_late(records):
        loop.ledger.database.run(lambda cursor: cursor.execute("UPDATE email_jobs SET status = 'sent', next_attempt_at = NULL"))
        return deliver(records)

    loop.delivery.deliver = deliver_too_late
    loop.lease_due()
    assert loop.status("j") == "sent"
    assert letters(loop) == told(loop) == []


def test_bytes_that_are_no_job_any_more_or_are_lost_cost_themselves_only(loop):
    values = {name: job_bytes(name, f"{name}@example.com") for name in ("bad", "lost", "good")}
    keep_waiting(loop, *values.values())
    row = loop.ledger.job("bad")["id"]
    loop.ledger.database.run(lambda cursor: payloads.delete(cursor, [row]))
    loop.ledger.database.run(lambda cursor: payloads.store(cursor, [Payload(row, b"[]", None, {"topic": "t"})], Vault()))
    loop.ledger.database.run(
        lambda cursor: cursor.execute("DELETE FROM email_payload_bodies WHERE hash = %s", (sha256(values["lost"]).digest(),))
    )
    loop.lease_due()
    assert [loop.status(name) for name in values] == ["dead", "dead", "sent"]
    found = {job_id: (reason, value) for reason, job_id, _, value, _, _ in letters(loop)}
    assert found == {"bad": ("invalid-job", b"[]"), "lost": ("invalid-job", None)}


@pytest.mark.usefixtures("expect_errors")
def test_rows_whose_key_is_not_set_wait_for_it_and_stop_nobody(loop):
    keep_waiting(loop, job_bytes("locked", "l@example.com"), job_bytes("good", "g@example.com"))
    key = "zGRzYVJgVvVGeoFXgOqJCUhOJKcUg4ieNG-sbGUwtfE="
    seal = (Vault([key]).seal(job_bytes("locked", "l@example.com")), sha256(job_bytes("locked", "l@example.com")).digest())
    loop.ledger.database.run(lambda cursor: cursor.execute("UPDATE email_payload_bodies SET body = %s WHERE hash = %s", seal))
    loop.lease_due()
    assert (loop.status("locked"), loop.status("good"), letters(loop)) == ("retrying", "sent", [])
    with pytest.raises(ValueError, match="ENCRYPTION_KEYS"):
        Vault(["XGRzYVJgVvVGeoFXgOqJCUhOJKcUg4ieNG-sbGUwtfE="]).open(seal[0])


def test_bytes_that_are_stored_again_are_not_swept_under_their_new_row(loop):
    """The sweep may look just when an old body gets a new row: it must not take it before that row can be seen."""
    value = job_bytes("j")
    keep_waiting(loop, value)
    row = loop.ledger.job("j")["id"]
    age = "UPDATE email_payload_bodies SET created_at = now() - interval '1 hour'"
    loop.ledger.database.run(lambda cursor: (payloads.delete(cursor, [row]), cursor.execute(age)))
    sweeper = Database(loop.ledger.parameters | {"options": "-c lock_timeout=200"})

    def store_while_it_is_swept(cursor):
        payloads.store(cursor, [Payload(row, value, None, {})], Vault())
        with pytest.raises(StoreUnavailable):
            sweeper.run(sweep_payloads)

    loop.ledger.database.run(store_while_it_is_swept)
    sweeper.run(sweep_payloads)
    assert loop.ledger.database.run(lambda cursor: payloads.load(cursor, [row], Vault()))[0].value == value
    sweeper.close()
