"""Emails for later: seconds to years ahead, by the database's clock. What is looked at again when the time comes is in
docs/truth-table.md and its test."""

from datetime import UTC, datetime, timedelta

import pytest

from db import due, housekeeping, partitions
from db.payloads import Vault
from mail.outcome import NoReply
from tests.waiting import wait_until
from tests.workers.ledger_world import job_bytes
from tests.workers.loop_world import Loop

pytestmark = pytest.mark.thorough

LANES = ["high", "normal", "bulk"]


def ahead(**time):
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def take_due(loop):
    """One look for due rows, as a worker has it; returns how many there were."""
    rows = loop.ledger.database.run(lambda c: due.lease(c, loop.slot.place, LANES, 100, 300, Vault()))
    loop.source.waiting += rows
    loop.delivery.turn()
    return len(rows)


def test_a_job_for_in_a_second_goes_out_then_and_not_before(loop):
    loop.deliver(job_bytes("soon", scheduledAt=ahead(seconds=1)))
    assert loop.status("soon") == "scheduled"
    wait_until(lambda: take_due(loop))
    assert loop.status("soon") == "sent"
    (early,) = loop.ledger.database.read("SELECT processed_at < scheduled_at FROM email_jobs")[0]
    assert not early


def test_a_job_for_in_ten_years_outlives_every_retention_and_goes_out_once(loop):
    at = ahead(days=3650)
    loop.deliver(job_bytes("far", "far@example.com", scheduledAt=at), job_bytes("done", "done@example.com"))
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)

    def grow_old(cursor):
        for table in ("email_jobs", "email_attempts"):
            partitions.drop_before(cursor, table, tomorrow)
            partitions.sweep_default(cursor, table, tomorrow)
        cursor.execute("UPDATE email_job_keys SET seen_at = now() - interval '11 years'")
        cursor.execute("UPDATE email_payload_bodies SET created_at = now() - interval '11 years'")
        housekeeping.forget_old_keys(cursor, 45)
        housekeeping.sweep_payloads(cursor)

    loop.ledger.database.run(grow_old)
    assert loop.ledger.job("done") is None
    assert loop.status("far") == "scheduled"
    assert take_due(loop) == 0
    loop.deliver(job_bytes("far", "far@example.com", scheduledAt=at))  # its id is still known
    loop.lease_due()
    loop.lease_due()
    assert loop.status("far") == "sent"
    assert [address for _, address in loop.wire.accepted].count("far@example.com") == 1
    assert loop.ledger.database.run(lambda cursor: partitions.sweep_default(cursor, "email_jobs", tomorrow)) == 1
    assert loop.ledger.count("email_jobs") == 0


def test_an_attempt_in_doubt_outlives_retention_too(loop):
    loop.wire.behave = lambda request: NoReply(True, "no answer")
    loop.deliver(job_bytes("doubted"))
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    for table in ("email_jobs", "email_attempts"):
        loop.ledger.database.run(lambda cursor, table=table: partitions.drop_before(cursor, table, tomorrow))
    assert loop.status("doubted") == "uncertain"
    assert loop.ledger.states("doubted") == ["uncertain"]


@pytest.mark.parametrize("wrong_by", [timedelta(days=400), timedelta(days=-400)])
def test_a_workers_wrong_clock_sends_nothing_early_and_nothing_late(loop, wrong_by):
    loop.clock.set(datetime.now(UTC) + wrong_by)
    loop.deliver(
        job_bytes("later", "l@example.com", scheduledAt=ahead(hours=1)), job_bytes("past", "p@example.com", scheduledAt=ahead(hours=-1))
    )
    assert (loop.status("later"), loop.status("past")) == ("scheduled", "sent")
    assert take_due(loop) == 0


@pytest.mark.parametrize("wrong_by", [timedelta(days=400), timedelta(days=-400)])
def test_a_workers_wrong_clock_expires_nothing_early_and_nothing_late(loop, wrong_by):
    """Also where it is a refusal that asks how long the email may wait."""
    loop.wire.behave = lambda request: ["throttled"] * len(request.messages)
    loop.clock.set(datetime.now(UTC) + wrong_by)
    loop.deliver(
        job_bytes("long", "l@example.com", expiresAt=ahead(hours=5)), job_bytes("short", "s@example.com", expiresAt=ahead(seconds=10))
    )
    assert (loop.status("long"), loop.status("short")) == ("retrying", "expired")


def test_a_scheduled_time_in_the_past_means_now_and_another_time_for_the_same_id_is_a_repeat(loop):
    loop.deliver(job_bytes("j", scheduledAt="2020-01-01T00:00:00Z"))
    loop.deliver(job_bytes("j", scheduledAt=ahead(hours=1)))
    assert loop.status("j") == "sent"
    assert len(loop.wire.accepted) == 1
    assert loop.ledger.count("dead_letters") == 0


def test_a_cancel_during_a_failover_stops_the_next_attempt(loop, tmp_path):
    """The first ESP refuses; before the second one is asked, the producer changes their mind."""
    cancel = b'{"id": "j", "type": "cancel"}'
    others = Loop(loop.ledger.parameters, tmp_path, slot=1)

    def refuse(request):
        others.deliver(cancel)
        return ["throttled"] * len(request.messages)

    loop.wire.behave = refuse
    loop.deliver(job_bytes("j"))
    loop.lease_due()
    assert loop.status("j") == "cancelled"
    assert loop.ledger.states("j") == ["not_taken"]
    assert [event["event"] for event in loop.desk.events()].count("cancelled") == 1
    others.flight_log.close()
    others.ledger.database.close()
