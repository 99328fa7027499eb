"""The loop as a whole: what becomes of an email whatever the ESPs, the store and the group do."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mail.errors import Fenced, StoreUnavailable
from mail.outcome import NoReply
from mail.record import Record
from tests.workers.ledger_world import job_bytes, record_of
from tests.workers.loop_world import Loop
from workers.steps.portions import portions


def only(loop, provider, words):
    """One ESP answers with these words for every message, the other accepts."""
    loop.wire.behave = lambda r: [words if r.url.endswith(provider) else "accepted"] * len(r.messages)


def jobs(count, **fields):
    return [job_bytes(f"j{n}", f"r{n}@example.com", **fields) for n in range(count)]


def test_a_batch_is_split_over_the_esps_sent_recorded_told_and_committed(loop):
    records = loop.deliver(*jobs(40))
    assert sorted(email for _, email in loop.wire.accepted) == sorted(f"r{n}@example.com" for n in range(40))
    assert {provider for provider, _ in loop.wire.accepted} == {"postmark", "sendgrid"}
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 40
    assert [event["event"] for event in loop.desk.events()] == ["sent"] * 40
    assert loop.source.committed == records


def test_what_one_esp_throttles_goes_out_through_the_other_in_the_same_round(loop):
    only(loop, "sendgrid", "throttled")
    loop.deliver(*jobs(20))
    assert len(loop.wire.accepted) == 20
    assert {provider for provider, _ in loop.wire.accepted} == {"postmark"}
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 20
    attempts = loop.ledger.database.read("SELECT state, count(*) FROM email_attempts GROUP BY state")
    assert dict(attempts)["accepted"] == 20
    assert dict(attempts)["not_taken"] == loop.ledger.count("email_attempts") - 20 > 0


def test_who_dies_between_two_esps_leaves_a_due_row_where_others_have_stored_its_bytes(loop, database, tmp_path):
    (tmp_path / "other").mkdir()
    other = Loop(database, tmp_path / "other", slot=1)

    def refuse_while_the_partition_moves(request):
        other.deliver(job_bytes("j1"))
        loop.ledger.claim(0)  # somebody gives this worker up: it cannot open another attempt
        return ["throttled"]

    loop.wire.behave = refuse_while_the_partition_moves
    with pytest.raises(Fenced):
        loop.deliver(job_bytes("j1"))
    assert (loop.status("j1"), other.wire.requests) == ("pending", [])
    assert loop.ledger.count("email_jobs", "next_attempt_at < now() + interval '1 minute'") == 1
    other.lease_due()
    assert (loop.status("j1"), len(other.wire.accepted)) == ("sent", 1)
    other.flight_log.close()
    other.ledger.database.close()


def test_who_dies_between_two_esps_leaves_what_came_from_kafka_to_kafka(loop):
    loop.wire.behave = lambda request: loop.ledger.claim(0) and ["throttled"]
    with pytest.raises(Fenced):
        loop.deliver(job_bytes("j1"))
    assert loop.ledger.count("email_jobs", "status = 'pending' AND next_attempt_at IS NULL") == 1


def test_no_answer_is_never_failed_over(loop):
    loop.wire.behave = lambda r: NoReply(True, "read timed out") if r.url.endswith("sendgrid") else ["accepted"] * len(r.messages)
    loop.deliver(*jobs(20))
    uncertain = loop.ledger.count("email_jobs", "status = 'uncertain'")
    assert uncertain > 0
    assert len(loop.wire.accepted) + uncertain == 20
    assert loop.ledger.count("email_attempts") == 20
    loop.lease_due()
    assert loop.ledger.count("email_jobs", "status = 'uncertain'") == uncertain


def test_when_all_esps_refuse_for_now_the_email_waits_and_no_retry_is_counted(loop):
    loop.wire.behave = lambda r: ["unavailable"] * len(r.messages)
    (record,) = loop.deliver(job_bytes("j1"))
    job = loop.ledger.job("j1")
    assert (job["status"], job["retry_count"], job["attempts"]) == ("retrying", 0, 2)
    assert loop.source.committed == [record]
    loop.wire.behave = lambda r: ["accepted"] * len(r.messages)
    loop.lease_due()
    assert loop.status("j1") == "sent"
    assert loop.ledger.count("email_payloads") == 0


def test_a_pinned_email_is_not_failed_over(loop):
    only(loop, "sendgrid", "throttled")
    loop.deliver(job_bytes("j1", provider="sendgrid"))
    assert (loop.status("j1"), len(loop.wire.requests)) == ("retrying", 1)


def test_one_bad_neighbour_costs_only_itself_and_few_requests(database, tmp_path):
    loop = Loop(database, tmp_path, providers=("sendgrid",))

    def behave(request):
        emails = [m.to[0].email for m in request.messages]
        if "r77@example.com" not in emails:
            return ["accepted"] * len(emails)
        return ["rejected"] if len(emails) == 1 else ["split"] * len(emails)

    loop.wire.behave = behave
    loop.deliver(*jobs(500))
    assert len(loop.wire.accepted) == 499
    assert loop.status("j77") == "dead"
    assert len(loop.wire.requests) <= 2 * 9 + 1
    assert loop.ledger.count("email_attempts") == 500
    loop.ledger.database.close()


def test_what_no_esp_can_express_is_a_dead_letter_and_what_one_cannot_goes_through_the_other(loop):
    loop.esps["sendgrid"].cannot = lambda message: "too many attachments"
    loop.deliver(*jobs(10))
    assert {provider for provider, _ in loop.wire.accepted} == {"postmark"}
    loop.esps["postmark"].cannot = lambda message: "too large"
    loop.deliver(job_bytes("j-odd"))
    assert loop.status("j-odd") == "dead"
    assert "too" in loop.ledger.job("j-odd")["error"]


def test_repeats_are_told_from_reuse_within_a_batch_and_later(loop):
    loop.deliver(job_bytes("j1"), job_bytes("j1"), job_bytes("j1", data={"n": 2}))
    loop.deliver(job_bytes("j1"), job_bytes("j1", data={"n": 3}))
    assert len(loop.wire.accepted) == 1
    assert loop.ledger.count("dead_letters", "reason = 'id-reused'") == 2
    assert loop.status("j1") == "sent"


def test_a_job_for_later_waits_as_a_row_and_goes_out_when_it_is_due(loop):
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    loop.deliver(job_bytes("j1", scheduledAt=later))
    assert loop.status("j1") == "scheduled"
    assert loop.wire.requests == []
    due_at = loop.ledger.job("j1")["next_attempt_at"]
    assert abs((due_at - datetime.fromisoformat(later)).total_seconds()) < 1
    loop.lease_due()
    assert loop.status("j1") == "sent"


def test_a_cancel_stops_a_scheduled_job_and_claims_an_id_that_has_not_come(loop):
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    loop.deliver(job_bytes("j1", scheduledAt=later))
    loop.deliver(b'{"id": "j1", "type": "cancel"}', b'{"id": "j2", "type": "cancel"}')
    loop.lease_due()
    loop.deliver(job_bytes("j2"))
    assert (loop.status("j1"), loop.status("j2")) == ("cancelled", "cancelled")
    assert loop.wire.requests == []


def test_an_expired_job_ends_unsent(loop):
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    loop.deliver(job_bytes("j1", expiresAt=past))
    assert loop.status("j1") == "expired"
    assert loop.wire.requests == []


def test_a_suppressed_recipient_gets_nothing_and_an_unsubscribe_stops_marketing_only(loop):
    for address, reason in (("gone@example.com", "hard-bounce"), ("shy@example.com", "unsubscribe")):
        loop.ledger.database.run(
            lambda c, a=address, r=reason: c.execute("INSERT INTO suppressions (address, reason) VALUES (%s, %s)", (a, r))
        )
    loop.deliver(
        job_bytes("j1", "Gone@example.com"),
        job_bytes("j2", "shy@example.com"),
        job_bytes("j3", "shy@example.com", type="newsletter", data={"issue": 7}),
    )
    assert [loop.status(j) for j in ("j1", "j2", "j3")] == ["suppressed", "sent", "suppressed"]


def test_whom_the_staging_guard_does_not_allow_gets_nothing(loop):
    loop.deliver(job_bytes("j1", "stranger@example.com"))
    assert loop.status("j1") == "dead"
    assert loop.ledger.count("dead_letters", "reason = 'not-allowed'") == 1


def test_a_partition_lost_before_the_open_drops_the_letter_and_after_it_releases_it(loop):
    record = record_of(job_bytes("j1"))
    loop.source.waiting.append(record)
    loop.source.lost.add(record.name)
    loop.delivery.turn()
    assert (loop.ledger.job("j1"), loop.wire.requests) == (None, [])

    owned = iter([True, False, False, False])
    loop.source.owns = lambda _: next(owned)
    loop.deliver(job_bytes("j2"))
    job = loop.ledger.job("j2")
    assert (job["status"], loop.wire.requests) == ("retrying", [])
    loop.source.owns = lambda _: True
    loop.lease_due()
    assert loop.status("j2") == "sent"


def test_while_the_store_is_away_answers_are_kept_and_the_partitions_too(loop, monkeypatch):
    real, outages = loop.ledger.database.run, [StoreUnavailable("away")] * 3

    def run(work):
        if loop.wire.requests and outages:  # away from the moment the mail has left
            raise outages.pop()
        return real(work)

    monkeypatch.setattr(loop.ledger.database, "run", run)
    loop.deliver(*jobs(3))
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 3
    assert loop.source.kept_alive >= 3
    assert len(loop.wire.accepted) == 3


def test_without_the_hosts_lease_nothing_is_polled_and_nothing_leaves(loop):
    loop.has_lease = False
    loop.deliver(job_bytes("j1"))
    assert (loop.wire.requests, len(loop.source.waiting)) == ([], 1)
    loop.has_lease = True
    loop.delivery.turn()
    assert loop.status("j1") == "sent"


def test_what_was_opened_under_a_lease_that_ran_out_never_leaves_though_there_is_a_new_one(loop):
    def owns(record):
        if (
            loop.ledger.count("email_attempts", "state = 'open'") and loop.lease.term == 1
        ):  # opened; the host stands still until others have given it up, and goes on
            loop.has_lease = False
            loop.ledger.database.run(lambda c: c.execute("UPDATE email_attempts SET state = 'uncertain'"))
            loop.ledger.database.run(lambda c: c.execute("UPDATE email_jobs SET status = 'uncertain'"))
            loop.has_lease = True
        return True

    loop.source.owns = owns
    loop.deliver(job_bytes("j1"))
    states = dict(loop.ledger.database.read("SELECT number, state FROM email_attempts"))
    assert states == {1: "not_taken", 2: "accepted"}
    sent = [message.attempt_id for request in loop.wire.requests for message in request.messages]
    assert loop.ledger.database.read("SELECT id FROM email_attempts WHERE number = 2") == [(sent[0],)]
    assert (loop.status("j1"), len(sent)) == ("sent", 1)


def test_what_is_no_job_is_set_aside_once_however_often_it_is_read(loop):
    loop.deliver(b"\xff", b'{"id": 1}')
    first = loop.ledger.count("dead_letters")
    again = loop.source.committed[:]
    loop.source.waiting += again
    loop.delivery.turn()
    assert first == loop.ledger.count("dead_letters") == 2
    values = [json.loads(v) for p in loop.desk.posted if p.topic == "email-dlq" for v in p.values]
    assert len(values) == 2
    assert values[0]["encoding"] == "base64"


def test_a_large_poll_is_cut_into_batches_by_bytes():
    records = [Record(b"x" * 400, "normal", "t", 0, n) for n in range(10)]
    cut = list(portions(records, 1000))
    assert [len(part) for part in cut] == [2, 2, 2, 2, 2]
    assert [record for part in cut for record in part] == records
    assert [len(part) for part in portions([Record(b"x" * 5000, "normal", "t", 0, 0)], 1000)] == [1]
