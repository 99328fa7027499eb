"""The keeper and slots beyond the configured number: one that was added while it ran is left alone while a worker lives in it."""

from types import SimpleNamespace

import pytest

from db import slots
from tests.workers.flight.slot_holder import kill, start_holder
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.connections import host_name
from workers.flight import flight_log, settlement
from workers.flight.flight_log import FlightLog
from workers.keeper import Keeper


@pytest.fixture
def settings(tmp_path):
    return SimpleNamespace(worker_name="w", worker_concurrency=4, state_dir=tmp_path, kafka_topic_email_events="email-events")


def test_the_keeper_settles_an_added_slot_only_when_its_worker_is_dead(ledger, settings):
    host = host_name(settings)
    slot = ledger.claim(4, host)
    batch = letters_of(record_of(job_bytes("j1")))
    log = FlightLog(settlement.flight_path(settings.state_dir, 4), flight_log.boot_id(), slot.incarnation)
    log.prepare([letter.attempt_id for letter in batch.letters])
    ledger.open(slot, batch)
    keeper = Keeper(settings, ledger.database, None, None)
    worker = start_holder(settings.state_dir, 4)
    try:
        keeper.settle_missing_slots()
        assert ledger.states("j1") == ["open"], "its worker lives and is about to send"
        assert settlement.flight_path(settings.state_dir, 4).exists()
    finally:
        kill(worker)
    keeper.settle_missing_slots()
    assert (ledger.job("j1")["status"], ledger.states("j1")) == ("pending", ["not_taken"])
    assert ledger.database.run(lambda cursor: slots.find(cursor, host)) == []
    log.close()
