import os
import signal
import time

import pytest

from mail.ids import new_id
from mail.outcome import Outcome, Verdict
from workers.flight.flight_log import FlightLog, Stage, boot_id, read_evidence


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slot-0.flight"


def accepted(ids):
    return [Outcome(attempt_id=i, verdict=Verdict.ACCEPTED, message_id=f"m-{i}") for i in ids]


def test_a_missing_or_foreign_file_is_no_evidence(path):
    assert read_evidence(path) is None
    path.write_bytes(b"something else" * 1000)
    assert read_evidence(path) is None


def test_each_stage_is_read_back_with_its_ids_and_outcomes(path):
    log = FlightLog(path, boot_id(), 7)
    first, second, third = ([new_id() for _ in range(n)] for n in (3, 1, 2))
    handles = [log.prepare(ids) for ids in (first, second, third)]
    log.mark_leaving(handles[1])
    log.mark_leaving(handles[2])
    log.answer(handles[2], accepted(third))
    evidence = read_evidence(path)
    assert (evidence.incarnation, evidence.boot_id) == (7, boot_id())
    assert [f.stage for f in evidence.flights] == [Stage.PREPARED, Stage.LEAVING, Stage.ANSWERED]
    assert [f.attempt_ids for f in evidence.flights] == [tuple(first), tuple(second), tuple(third)]
    assert [o.message_id for o in evidence.flights[2].outcomes] == [f"m-{i}" for i in third]


def test_the_newest_flight_of_an_attempt_decides(path):
    log = FlightLog(path, boot_id(), 1)
    ids = [new_id(), new_id()]
    whole = log.prepare(ids)
    log.mark_leaving(whole)
    log.answer(whole, [Outcome(attempt_id=i, verdict=Verdict.SPLIT) for i in ids])
    half = log.prepare(ids[:1])
    log.mark_leaving(half)
    log.prepare(ids[1:])
    last = read_evidence(path).last_flights()
    assert last[ids[0]].stage == Stage.LEAVING
    assert last[ids[1]].stage == Stage.PREPARED


def test_an_answer_whose_state_byte_is_missing_counts_as_leaving(path):
    log = FlightLog(path, boot_id(), 1)
    ids = [new_id()]
    handle = log.prepare(ids)
    log.mark_leaving(handle)
    log.answer(handle, accepted(ids))
    log._map[handle + 1] = Stage.LEAVING  # as if killed between the outcomes and the byte
    assert read_evidence(path).flights[0].stage == Stage.LEAVING
    assert read_evidence(path).flights[0].outcomes == ()


def test_a_damaged_answer_counts_as_leaving(path):
    log = FlightLog(path, boot_id(), 1)
    handle = log.prepare([new_id()])
    log.mark_leaving(handle)
    log.answer(handle, accepted([new_id()]))
    position = log._map.find(b"accepted")
    log._map[position : position + 1] = b"X"
    assert read_evidence(path).flights[0].stage == Stage.LEAVING


def test_begin_forgets_and_the_file_grows_with_the_batch(path):
    log = FlightLog(path, boot_id(), 1)
    for _ in range(40):
        ids = [new_id() for _ in range(500)]
        log.answer(log.prepare(ids), accepted(ids))
    assert sum(len(f.attempt_ids) for f in read_evidence(path).flights) == 20_000
    log.begin()
    assert read_evidence(path).flights == ()


def test_the_record_under_hand_is_named_until_let_go(path):
    log = FlightLog(path, boot_id(), 1)
    log.take_in_hand("email-jobs/3/41")
    assert read_evidence(path).hand == "email-jobs/3/41"
    log.let_go()
    assert read_evidence(path).hand == ""


def _keep_flying(path, ready):
    log = FlightLog(path, boot_id(), 1)
    os.write(ready, b"x")
    while True:
        log.begin()
        ids = [new_id() for _ in range(20)]
        handles = [log.prepare(ids[n : n + 5]) for n in range(0, 20, 5)]
        for n, handle in enumerate(handles):
            log.mark_leaving(handle)
            log.answer(handle, accepted(ids[n * 5 : n * 5 + 5]))


def test_kill_9_at_any_moment_leaves_a_log_that_can_be_read(path):
    stages = set()
    for trial in range(60):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _keep_flying(path, writer)
            finally:
                os._exit(1)
        os.read(reader, 1)
        deadline = time.monotonic() + 0.0005 * (trial % 20)
        while time.monotonic() < deadline:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        evidence = read_evidence(path)
        for flight in evidence.flights:
            stages.add(flight.stage)
            assert len(flight.attempt_ids) == 5
            if flight.stage == Stage.ANSWERED:
                assert [o.attempt_id for o in flight.outcomes] == list(flight.attempt_ids)
    assert Stage.ANSWERED in stages
