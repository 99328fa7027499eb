"""The intake over a real ledger and a real Redis: only what has a row, a dead letter or is a repeat leaves the list."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from db import slots
from db.connection import Database
from intake.redis_list import IN_HAND, QUEUE, RETRY_S, RedisList
from mail.errors import StoreUnavailable
from tests.workers.intake_world import Office
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.intake import Intake
from workers.steps.letter import Fate
from workers.steps.quarantine import DEATHS_MOST


@pytest.fixture
def office(database, tmp_path, own_redis):
    made = Office(database, tmp_path, own_redis)
    yield made
    made.close()


def test_a_job_becomes_a_row_that_is_due_now_with_its_original_bytes(office):
    value = job_bytes("j-1", priority="high")
    assert office.push(value) == 1
    assert office.left() == 0
    assert office.status("j-1") == "pending"
    [row] = office.rows_due()
    assert row.value == value
    assert row.lane == "high"
    assert row.source == {"topic": "redis:email-jobs", "partition": -1, "offset": -1}
    assert row.standing.attempts == 0 and row.standing.has_payload
    assert office.batches == 1
    assert office.shown("j-1") == "pending"


def test_each_email_of_a_content_request_becomes_a_row(office):
    people = [{"To": f"p{number}@example.com", "Substitutions": {"name": f"P{number}"}} for number in range(4)]
    body = {"From": "me@example.com", "Subject": "Hi", "TextBody": "Hello -name-", "Personalizations": people}
    office.push(json.dumps({"MessageID": "m-1", "UserID": 0, "body": body}).encode())
    assert [office.status(f"m-1:{number}") for number in range(4)] == ["pending"] * 4
    assert sorted(row.index for row in office.rows_due()) == [0, 1, 2, 3]


def test_a_job_for_later_waits_as_a_scheduled_row_until_then(office):
    at = datetime.now(UTC) + timedelta(hours=2)
    office.push(job_bytes("later", scheduledAt=at.isoformat()))
    assert office.status("later") == "scheduled"
    assert abs((office.ledger.job("later")["next_attempt_at"] - at).total_seconds()) < 1
    assert office.rows_due() == []
    assert office.ledger.count("email_payloads") == 1
    assert office.shown("later") == "scheduled"


def test_what_can_never_be_sent_is_decided_at_once(office):
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    office.ledger.database.run(
        lambda c: c.execute("INSERT INTO suppressions (address, tenant, reason, source) VALUES ('no@example.com', 0, 'complaint', 'x')")
    )
    office.push(job_bytes("old", expiresAt=past), job_bytes("no", "no@example.com"), job_bytes("guarded", "stranger@example.com"))
    assert [office.status(job) for job in ("old", "no", "guarded")] == ["expired", "suppressed", "dead"]
    assert office.reasons() == ["not-allowed"]
    assert office.left() == 0
    assert office.rows_due() == []
    assert [event["event"] for event in office.desk.events()] == ["expired", "suppressed", "dead"]


def test_bad_items_are_dead_letters_between_good_neighbours(office):
    office.push(job_bytes("good-1"), b"\xff no json", job_bytes("good-2"), job_bytes("bad", "nobody"), job_bytes("good-3"))
    assert office.reasons() == ["invalid-address", "not-json"]
    assert [office.status(f"good-{number}") for number in (1, 2, 3)] == ["pending"] * 3
    sources = office.ledger.database.read("SELECT source, value FROM dead_letters WHERE reason = 'not-json'")
    assert sources[0][0]["topic"] == "redis:email-jobs"
    assert bytes(sources[0][1]) == b"\xff no json"
    assert [posting.topic for posting in office.desk.posted] == ["email-dlq"]


def test_a_bad_item_that_comes_again_is_one_dead_letter_and_told_once(office):
    office.push(b"no json")
    office.push(b"no json")
    assert office.reasons() == ["not-json"]
    assert len(office.desk.posted) == 1


def test_the_same_id_again_is_a_repeat_and_with_other_content_a_dead_letter(office):
    office.push(job_bytes("j-1"), job_bytes("j-1"))
    office.push(job_bytes("j-1"), job_bytes("j-1", data={"n": 2}))
    assert office.ledger.count("email_jobs") == 1
    assert office.reasons() == ["id-reused"]
    assert office.left() == 0
    assert len(office.rows_due()) == 1


def test_a_cancel_ends_a_waiting_job_and_claims_an_id_that_has_not_come(office):
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    office.push(job_bytes("later", scheduledAt=later))
    office.push(*(json.dumps({"id": job, "type": "cancel"}).encode() for job in ("later", "never-seen")))
    office.push(job_bytes("never-seen"))
    assert office.status("later") == office.status("never-seen") == "cancelled"
    assert office.ledger.count("email_payloads") == 0
    assert office.rows_due() == []
    assert office.shown("later") == "cancelled"


def test_a_row_that_waits_for_its_bytes_gets_them_and_is_due(office):
    """Released by a dead delivery worker while its Kafka record had not come again: the same job from Redis serves as well."""
    slot = office.ledger.claim(1)
    batch = letters_of(record_of(job_bytes("j-1")))
    office.ledger.open(slot, batch)
    office.ledger.database.run(lambda c: c.execute("UPDATE email_jobs SET status = 'pending', next_attempt_at = NULL"))
    office.push(job_bytes("j-1"))
    assert len(office.rows_due()) == 1
    assert office.left() == 0


def test_an_id_that_another_worker_wins_between_our_read_and_our_write_is_looked_at_again(office, monkeypatch):
    """It may be another email: then it is not dropped in silence."""
    rival = office.ledger.keeper_of(office.ledger.claim(2))
    record = office.books.record
    elsewhere = Database(office.ledger.parameters)

    def record_after_the_rival(cursor, batch, done):
        monkeypatch.setattr(office.books, "record", record)
        for job, fields in (("same", {}), ("other", {"data": {"n": 2}})):
            theirs = letters_of(record_of(job_bytes(job, **fields)))
            theirs.letters[0].fate = Fate("scheduled", delay_s=60.0, keeps_payload=True)
            elsewhere.run(lambda c, theirs=theirs: rival.record(c, theirs, []))
        return record(cursor, batch, done)

    monkeypatch.setattr(office.books, "record", record_after_the_rival)
    office.push(job_bytes("same"), job_bytes("other"), job_bytes("ours"))
    assert [office.status(job) for job in ("same", "other", "ours")] == ["scheduled", "scheduled", "pending"]
    assert office.reasons() == ["id-reused"]
    assert office.shown("same") is None
    assert office.left() == 0
    elsewhere.close()


def test_while_the_store_is_away_the_items_stay_in_hand_and_nobody_takes_us_for_dead(office, monkeypatch):
    run, fails = office.ledger.database.run, [0]

    def away(work):
        if fails[0] < 40:
            fails[0] += 1
            raise StoreUnavailable("away")
        assert office.client.llen(IN_HAND + office.queue.name) == 2
        assert office.client.zscore("email-jobs:takers", office.queue.name) is not None
        return run(work)

    monkeypatch.setattr(office.ledger.database, "run", away)
    assert office.push(job_bytes("j-1"), job_bytes("j-2")) == 2
    monkeypatch.undo()
    assert office.ledger.count("email_jobs", "status = 'pending'") == 2
    assert office.left() == 0


def test_a_commit_of_which_nobody_heard_makes_nothing_twice(office, monkeypatch):
    run, record = office.ledger.database.run, office.books.record
    tries = []

    def note(cursor, batch, done):
        tries.append(batch)
        return record(cursor, batch, done)

    def lose_the_first_answer(work):
        result = run(work)
        if len(tries) == 1:
            tries.append(None)
            raise StoreUnavailable("the connection broke after COMMIT was sent")
        return result

    monkeypatch.setattr(office.books, "record", note)
    monkeypatch.setattr(office.ledger.database, "run", lose_the_first_answer)
    office.push(job_bytes("j-1"), b"no json")
    monkeypatch.undo()
    assert len(tries) == 3, "the first try, its lost answer, the second try"
    assert office.status("j-1") == "pending"
    assert office.reasons() == ["not-json"]
    assert office.left() == 0
    assert len(office.rows_due()) == 1


def test_what_was_in_hand_at_a_death_comes_again_and_is_one_row(office, own_redis):
    dead = RedisList(own_redis.url, "host/intake-0", "boot-0", lambda: 0.0)
    values = [job_bytes(f"j-{number}") for number in range(3)]
    office.client.rpush(QUEUE, *values)
    dead.take(2)
    assert office.intake.turn() == 3
    assert office.ledger.count("email_jobs", "status = 'pending'") == 3
    assert office.left() == 0
    dead.close()


def test_an_item_that_killed_its_readers_thrice_is_set_aside_alone(office):
    poison = job_bytes("poison")
    name = _name_of(poison)
    for _ in range(DEATHS_MOST):
        office.ledger.database.run(lambda c: slots.add_suspect(c, name))
    office.push(job_bytes("before"), poison, job_bytes("after"))
    assert office.reasons() == ["crashes-worker"]
    assert office.status("before") == office.status("after") == "pending"
    assert office.ledger.job("poison") is None
    assert office.ledger.database.run(slots.find_suspects) == {}


def test_an_item_is_named_before_it_is_read(office, monkeypatch):
    """What the successor finds, should reading it end the process."""
    named = []
    monkeypatch.setattr(office.hand, "take_in_hand", named.append)
    office.push(job_bytes("j-1"), b"no json")
    assert named == [_name_of(job_bytes("j-1")), _name_of(b"no json")]


def _name_of(value):
    from intake.redis_list import record_of as redis_record

    return redis_record(value).name


def test_without_items_it_waits_and_without_redis_too(office, own_redis):
    assert office.intake.turn() == 0
    office.queue = RedisList("redis://127.0.0.1:1/0", "host/intake-0", "boot-9", lambda: office.now_s)
    idle = Intake(office._tools())
    before_s = office.now_s
    for _ in range(20):
        assert idle.turn() == 0
    assert office.now_s - before_s >= RETRY_S
    office.queue.close()
