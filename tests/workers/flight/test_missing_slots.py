"""The keeper and slots beyond the configured number: one that was added while it ran is left alone while a worker lives in it."""

import os
import signal
from types import SimpleNamespace

import pytest

from db import slots
from tests.workers.ledger_world import Ledger, job_bytes, letters_of, record_of
from workers.connections import host_name
from workers.flight import flight_log, settlement
from workers.flight.flight_log import FlightLog
from workers.keeper import Keeper


@pytest.fixture
def ledger(database):
    world = Ledger(database)
    yield world
    world.database.close()


@pytest.fixture
def settings(tmp_path):
    return SimpleNamespace(worker_name="w", worker_concurrency=4, state_dir=tmp_path, kafka_topic_email_events="email-events")


def start_worker(state_dir, slot):
    """A process that holds the slot until it is killed."""
    from workers.flight import slot_lock

    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writable, b"y" if slot_lock.take(state_dir, slot, patience_s=0.0) else b"n")
        while True:
            signal.pause()
    os.close(writable)
    assert os.read(readable, 1) == b"y"
    os.close(readable)
    return pid


def test_the_keeper_settles_an_added_slot_only_when_its_worker_is_dead(ledger, settings):
    host = host_name(settings)
    slot = ledger.claim(4, host)
    batch = letters_of(record_of(job_bytes("j1")))
    log = FlightLog(settlement.flight_path(settings.state_dir, 4), flight_log.boot_id(), slot.incarnation)
    log.prepare([letter.attempt_id for letter in batch.letters])
    ledger.open(slot, batch)
    keeper = Keeper(settings, ledger.database, None, None)
    worker = start_worker(settings.state_dir, 4)
    try:
        keeper.settle_missing_slots()
        assert ledger.states("j1") == ["open"], "its worker lives and is about to send"
        assert settlement.flight_path(settings.state_dir, 4).exists()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    keeper.settle_missing_slots()
    assert (ledger.job("j1")["status"], ledger.states("j1")) == ("pending", ["not_taken"])
    assert ledger.database.run(lambda cursor: slots.find(cursor, host)) == []
    log.close()
