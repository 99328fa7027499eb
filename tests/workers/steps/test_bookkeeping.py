import threading

import pytest

from db import due, payloads
from db.connection import Database
from db.payloads import Vault
from mail.errors import Fenced, StoreUnavailable
from mail.outcome import Verdict
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.steps import admission
from workers.steps.letter import REPEAT, STORED


def test_an_accepted_letter_ends_as_sent_with_its_message_id_and_one_event(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")))
    assert ledger.open(slot, batch) == {batch.letters[0].attempt_id}
    assert ledger.job("j1")["status"] == "sending"
    posted = ledger.record(slot, batch)
    assert (ledger.job("j1")["status"], ledger.job("j1")["message_id"]) == ("sent", "m-j1")
    assert ledger.states("j1") == ["accepted"]
    assert [p.topic for p in posted] == ["email-events"]
    assert ledger.count("outbox") == 1
    assert ledger.count("esp_cohort_stats", "sent = 1") == 1


def test_recording_twice_changes_nothing_twice(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")), record_of(job_bytes("j2")))
    ledger.open(slot, batch)
    ledger.record(slot, batch, {"j2": Verdict.THROTTLED})
    before = ledger.job("j2")
    ledger.database.run(lambda cursor: ledger.keeper_of(slot).record(cursor, batch, []))
    assert ledger.job("j2") == before
    assert ledger.count("esp_cohort_stats", "sent = 1") == 1
    assert ledger.count("email_payloads") == 1


def test_an_older_incarnation_of_a_slot_can_open_nothing(ledger):
    old = ledger.claim()
    ledger.claim()
    with pytest.raises(Fenced):
        ledger.open(old, letters_of(record_of(job_bytes("j1"))))
    assert ledger.job("j1") is None


def test_a_claim_waits_for_the_opening_transaction_of_the_old_incarnation(ledger):
    old = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")))
    is_open, may_commit, claimed = threading.Event(), threading.Event(), threading.Event()
    second = Database(ledger.parameters)

    def open_slowly(cursor):
        opened = ledger.keeper_of(old).open(cursor, batch.going(), False)
        is_open.set()
        assert may_commit.wait(10)
        return opened

    def claim():
        ledger.claim()
        claimed.set()

    opening = threading.Thread(target=lambda: second.run(open_slowly))
    opening.start()
    assert is_open.wait(10)
    claiming = threading.Thread(target=claim)
    claiming.start()
    assert not claimed.wait(0.3)
    may_commit.set()
    opening.join(10)
    assert claimed.wait(10)
    claiming.join(10)
    second.close()


def test_the_same_id_on_two_slots_in_opposite_order_is_opened_once(ledger):
    slots = [ledger.claim(0), ledger.claim(1)]
    values = [job_bytes(f"j{n}", f"r{n}@example.com") for n in range(100)]
    batches = [letters_of(*map(record_of, values)), letters_of(*map(record_of, reversed(values)))]
    opened = [set(), set()]
    databases = [Database(ledger.parameters), Database(ledger.parameters)]
    start = threading.Barrier(2)

    def run(n):
        start.wait()
        opened[n] = ledger.open(slots[n], batches[n], database=databases[n])

    threads = [threading.Thread(target=run, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(opened[0]) + len(opened[1]) == 100
    assert ledger.count("email_attempts") == ledger.count("email_jobs") == 100
    for database in databases:
        database.close()


def test_opening_again_after_a_lost_commit_finds_its_own_attempts(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")), record_of(job_bytes("j2")))
    first = ledger.open(slot, batch)
    assert ledger.open(slot, batch, is_repeated=True) == first
    assert ledger.count("email_attempts") == 2


def test_a_throttled_letter_comes_back_as_a_due_row_with_its_original_bytes(ledger):
    slot = ledger.claim()
    value = job_bytes("j1")
    batch = letters_of(record_of(value))
    ledger.open(slot, batch)
    ledger.record(slot, batch, {"j1": Verdict.THROTTLED})
    assert ledger.job("j1")["status"] == "retrying"
    assert lease(ledger, slot) == []
    ledger.database.run(lambda cursor: cursor.execute("UPDATE email_jobs SET next_attempt_at = now()"))
    (record,) = lease(ledger, slot)
    assert record.value == value
    assert record.standing.attempt_id == batch.letters[0].attempt_id
    assert record.source == batch.records[0].source
    assert lease(ledger, slot) == []
    again = letters_of_due(record)
    assert ledger.open(slot, again) == {again.letters[0].attempt_id}
    ledger.record(slot, again)
    assert ledger.states("j1") == ["not_taken", "accepted"]
    assert ledger.job("j1")["attempts"] == 2
    assert ledger.count("email_payloads") == 0


def test_two_workers_with_the_same_due_row_send_it_once(ledger):
    slot = ledger.claim()
    first = letters_of(record_of(job_bytes("j1")))
    ledger.open(slot, first)
    ledger.record(slot, first, {"j1": Verdict.UNAVAILABLE})
    ledger.database.run(lambda cursor: cursor.execute("UPDATE email_jobs SET next_attempt_at = now()"))
    (record,) = lease(ledger, slot)
    here, there = letters_of_due(record), letters_of_due(record)
    assert len(ledger.open(slot, here)) == 1
    assert ledger.open(ledger.claim(1), there) == set()


def test_an_unknown_outcome_is_uncertain_keeps_its_bytes_and_is_in_nobodys_queue(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")))
    ledger.open(slot, batch)
    ledger.record(slot, batch, {"j1": Verdict.UNKNOWN})
    job = ledger.job("j1")
    assert (job["status"], job["next_attempt_at"]) == ("uncertain", None)
    assert ledger.count("uncertain_attempts") == ledger.count("email_payloads") == 1
    again = letters_of(record_of(job_bytes("j1")))
    assert meet(ledger, again.letters[0]) is REPEAT
    assert ledger.open(slot, again) == set()


def test_bytes_stored_for_others_make_a_released_job_due_whichever_comes_first(ledger):
    slot = ledger.claim()
    for order in ("store first", "release first"):
        batch = letters_of(record_of(job_bytes(order)))
        ledger.open(slot, batch)
        later = letters_of(record_of(job_bytes(order)))
        assert meet(ledger, later.letters[0]) is STORED
        later.letters[0].fate = STORED
        steps = [lambda later=later: ledger.record(slot, later), lambda batch=batch: release(ledger, batch)]
        for step in steps if order == "store first" else reversed(steps):
            step()
        assert ledger.job(order)["status"] == "pending"
        assert ledger.job(order)["next_attempt_at"] is not None, order


def test_a_suppression_that_came_after_admission_still_stops_the_letter(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")))
    ledger.database.run(lambda cursor: cursor.execute("INSERT INTO suppressions (address, reason) VALUES ('a@example.com', 'hard-bounce')"))
    assert ledger.open(slot, batch) == set()
    assert ledger.job("j1") is None


def test_the_same_id_with_other_content_is_refused_and_its_row_untouched(ledger):
    slot = ledger.claim()
    first = letters_of(record_of(job_bytes("j1")))
    ledger.open(slot, first)
    ledger.record(slot, first)
    other = letters_of(record_of(job_bytes("j1", data={"n": 2})))
    other.letters[0].fate = meet(ledger, other.letters[0])
    assert other.letters[0].fate.reason == "id-reused"
    ledger.record(slot, other)
    assert ledger.job("j1")["status"] == "sent"
    assert ledger.count("dead_letters", "reason = 'id-reused' AND row_id IS NULL") == 1


def test_a_rejected_letter_is_a_dead_letter_with_its_bytes(ledger):
    slot = ledger.claim()
    value = job_bytes("j1")
    batch = letters_of(record_of(value))
    ledger.open(slot, batch)
    posted = ledger.record(slot, batch, {"j1": Verdict.REJECTED})
    assert ledger.job("j1")["status"] == "dead"
    rows = ledger.database.read("SELECT reason, value, attempts FROM dead_letters")
    assert [(reason, bytes(stored), attempts) for reason, stored, attempts in rows] == [("rejected", value, 1)]
    assert {p.topic for p in posted} == {"email-events", "email-dlq"}


def test_a_cancel_that_comes_first_claims_the_id(ledger):
    slot = ledger.claim()
    cancel = letters_of(record_of(b'{"id": "j1", "type": "cancel"}'))
    assert len(cancel.cancels) == 1
    ledger.record(slot, cancel)
    assert ledger.job("j1")["status"] == "cancelled"
    late = letters_of(record_of(job_bytes("j1")))
    assert meet(ledger, late.letters[0]) is REPEAT


def test_a_lost_connection_is_store_unavailable_and_the_next_call_connects_anew(ledger):
    other = Database(ledger.parameters)
    pid = other.read("SELECT pg_backend_pid()")[0][0]
    ledger.database.read("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
    with pytest.raises(StoreUnavailable):
        other.read("SELECT 1")
    assert other.read("SELECT 1") == [(1,)]
    other.close()


def test_an_encrypted_payload_says_what_is_missing_when_its_key_is_gone():
    sealed = Vault(["zGRzYVJgVvVGeoFXgOqJCUhOJKcUg4ieNG-sbGUwtfE="]).seal(b"secret bytes")
    assert b"secret" not in sealed
    with pytest.raises(ValueError, match="ENCRYPTION_KEYS"):
        Vault().open(sealed)


def lease(ledger, slot):
    return ledger.database.run(lambda cursor: due.lease(cursor, slot.place, ["normal"], 10, 300, Vault()))


def letters_of_due(record):
    batch = letters_of(record)
    assert batch.letters[0].row_id == record.standing.row_id
    return batch


def meet(ledger, letter):
    known = ledger.look_up(type("B", (), {"letters": [letter]}))
    row_id, content_hash = known.keys[letter.key]
    letter.row_id, letter.standing = row_id, known.standings[row_id]
    return admission.meet_known(letter, letter.standing, content_hash)


def release(ledger, batch):
    (letter,) = batch.letters
    rows = [(letter.attempt_id, letter.row_id, 0, "postmark", 0, "other", None, letter.job.job_id, "", None, 0)]
    from db.slots import OpenAttempt, release_jobs

    ledger.database.run(lambda cursor: release_jobs(cursor, [OpenAttempt(*row) for row in rows]))


def test_payload_bodies_are_stored_once_per_content(ledger):
    slot = ledger.claim()
    value = (
        b'{"MessageID": "m", "UserID": 1, "body": {"From": "a@example.com", "Subject": "s", "TextBody": "t",'
        b' "Personalizations": [{"To": "a@example.com"}, {"To": "b@example.com"}]}}'
    )
    batch = letters_of(record_of(value))
    ledger.open(slot, batch)
    ledger.record(slot, batch, {"m:0": Verdict.THROTTLED, "m:1": Verdict.THROTTLED})
    assert (ledger.count("email_payloads"), ledger.count("email_payload_bodies")) == (2, 1)
    ledger.database.run(lambda cursor: payloads.delete(cursor, [letter.row_id for letter in batch.letters]))
    assert ledger.count("email_payloads") == 0
