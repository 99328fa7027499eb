import os

import pytest

from mail.ids import new_id
from mail.outcome import Outcome, Verdict
from tests.workers.ledger_world import BOOT, TOPICS, job_bytes, letters_of, record_of
from workers.flight import settlement
from workers.flight.flight_log import FlightLog, read_evidence


@pytest.fixture
def flown(ledger, tmp_path):
    """Six jobs open in slot 0: one prepared, one leaving, four answered (accepted, throttled, unknown, rejected)."""
    slot = ledger.claim()
    names = ("prepared", "leaving", "accepted", "throttled", "unknown", "rejected")
    batch = letters_of(*(record_of(job_bytes(name, f"{name}@example.com")) for name in names))
    log = FlightLog(settlement.flight_path(tmp_path, 0), BOOT, slot.incarnation)
    handles = {letter.job.job_id: log.prepare([letter.attempt_id]) for letter in batch.letters}
    ledger.open(slot, batch)
    for letter in batch.letters:
        name = letter.job.job_id
        if name != "prepared":
            log.mark_leaving(handles[name])
        if name not in ("prepared", "leaving"):
            log.answer(handles[name], [Outcome(letter.attempt_id, Verdict(name), message_id=f"m-{name}")])
    return batch


def take_over(ledger, tmp_path, boot_id=BOOT, slot=0):
    return settlement.take_over(ledger.database, tmp_path, "host", slot, boot_id, os.getpid(), TOPICS.events)


def statuses(ledger, batch):
    return {letter.job.job_id: (ledger.job(letter.job.job_id)["status"], ledger.states(letter.job.job_id)) for letter in batch.letters}


@pytest.mark.usefixtures("expect_errors")
def test_each_open_attempt_is_settled_by_what_the_flight_log_shows(ledger, flown, tmp_path):
    take_over(ledger, tmp_path)
    assert statuses(ledger, flown) == {
        "prepared": ("pending", ["not_taken"]),
        "leaving": ("uncertain", ["uncertain"]),
        "accepted": ("sent", ["accepted"]),
        "throttled": ("pending", ["not_taken"]),
        "unknown": ("uncertain", ["uncertain"]),
        "rejected": ("pending", ["not_taken"]),
    }
    assert ledger.job("accepted")["message_id"] == "m-accepted"
    assert ledger.count("uncertain_attempts") == 2
    assert ledger.count("outbox", "topic = 'email-events'") == 1


def test_settling_twice_changes_nothing(ledger, flown, tmp_path):
    take_over(ledger, tmp_path)
    before = statuses(ledger, flown)
    take_over(ledger, tmp_path)
    assert statuses(ledger, flown) == before
    assert ledger.count("outbox") == 1


def test_a_released_job_is_sent_again_at_once_when_its_record_comes_back(ledger, flown, tmp_path):
    slot = take_over(ledger, tmp_path).slot
    again = letters_of(record_of(job_bytes("prepared", "prepared@example.com")))
    letter = again.letters[0]
    known = ledger.look_up(again)
    letter.row_id, letter.standing = known.keys[letter.key][0], known.standings[known.keys[letter.key][0]]
    assert ledger.open(slot, again) == {letter.attempt_id}
    ledger.record(slot, again)
    assert statuses(ledger, again) == {"prepared": ("sent", ["not_taken", "accepted"])}


@pytest.mark.parametrize("lost", ["missing file", "another boot"])
def test_without_a_trustworthy_log_everything_open_is_uncertain(ledger, flown, tmp_path, lost):
    if lost == "missing file":
        settlement.flight_path(tmp_path, 0).unlink()
    take_over(ledger, tmp_path, boot_id=BOOT if lost == "missing file" else new_id())
    assert {status for status, _ in statuses(ledger, flown).values()} == {"uncertain"}


def test_an_attempt_of_which_the_log_knows_nothing_is_uncertain(ledger, tmp_path):
    slot = ledger.claim()
    FlightLog(settlement.flight_path(tmp_path, 0), BOOT, slot.incarnation)
    batch = letters_of(record_of(job_bytes("j1")))
    ledger.open(slot, batch)
    take_over(ledger, tmp_path)
    assert statuses(ledger, batch) == {"j1": ("uncertain", ["uncertain"])}


def test_only_the_own_slot_is_settled(ledger, flown, tmp_path):
    neighbour = ledger.claim(1)
    other = letters_of(record_of(job_bytes("other")))
    ledger.open(neighbour, other)
    take_over(ledger, tmp_path)
    assert statuses(ledger, other) == {"other": ("sending", ["open"])}


def test_a_lost_host_leaves_everything_uncertain(ledger, flown):
    assert settlement.doubt_all(ledger.database, "host", 0, BOOT, 1, TOPICS.events) == 6


def test_the_record_under_hand_of_a_dead_worker_becomes_a_suspect(ledger, tmp_path):
    log = FlightLog(settlement.flight_path(tmp_path, 0), BOOT, ledger.claim().incarnation)
    for deaths in (1, 2, 3):
        log.take_in_hand("email-jobs/3/41")
        take_over(ledger, tmp_path)
        assert ledger.database.read("SELECT record, deaths FROM crash_suspects") == [("email-jobs/3/41", deaths)]
    assert read_evidence(settlement.flight_path(tmp_path, 0)).hand == "email-jobs/3/41"


def test_leased_rows_of_a_dead_worker_are_due_at_once(ledger, tmp_path):
    from db import due
    from db.payloads import Vault

    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")))
    ledger.open(slot, batch)
    ledger.record(slot, batch, {"j1": Verdict.THROTTLED})
    ledger.database.run(lambda cursor: cursor.execute("UPDATE email_jobs SET next_attempt_at = now()"))
    lease = lambda: ledger.database.run(lambda cursor: due.lease(cursor, slot.place, ["normal"], 10, 300, Vault()))  # noqa: E731
    assert len(lease()) == 1
    assert lease() == []
    take_over(ledger, tmp_path)
    assert len(lease()) == 1


def test_an_answer_that_was_in_hand_while_others_doubted_is_evidence(ledger):
    slot = ledger.claim()
    batch = letters_of(record_of(job_bytes("j1")), record_of(job_bytes("j2")))
    ledger.open(slot, batch)
    assert settlement.doubt_all(ledger.database, "host", 0, BOOT, 1, TOPICS.events) == 2
    ledger.record(slot, batch, {"j2": Verdict.UNKNOWN})
    assert statuses(ledger, batch) == {"j1": ("sent", ["accepted"]), "j2": ("uncertain", ["uncertain"])}
    assert ledger.count("uncertain_attempts") == 1
