"""One migrated database per module for the tests of events, emptied before each test: a migration for each would cost a second."""

import uuid

import pytest

from tests.workers.event_world import EventWorld


@pytest.fixture(scope="module")
def event_ledger(postgres):
    name = f"events_{uuid.uuid4().hex}"
    postgres.create_database(name)
    made = EventWorld(postgres.parameters(name))
    yield made
    made.database.close()
    postgres.drop_database(name)


@pytest.fixture
def world(event_ledger):
    event_ledger.clear()
    return event_ledger
