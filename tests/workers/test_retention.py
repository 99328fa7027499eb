"""What is older than the settings keep it goes by whole days; whoever works in a table meanwhile is not made to wait."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from db import partitions
from db.connection import Database
from mail.errors import StoreUnavailable
from mail.ids import new_id
from tests.workers.event_world import EventWorld
from workers.keeper import Keeper

pytestmark = pytest.mark.thorough

TABLES = ("email_jobs", "email_attempts", "email_tracking")
NOW = datetime.now(UTC)


@pytest.fixture
def world(database):
    made = EventWorld(database)
    yield made
    made.database.close()


@pytest.fixture
def keeper(world):
    settings = SimpleNamespace(worker_name="w", worker_concurrency=1, mx_lookups=False, dedup_days=45)
    settings.retention_jobs_days, settings.retention_tracking_days = 5, 9
    return Keeper(settings, world.database, None, None)


def put(world, days_ago):
    """A row of each table from that day."""
    at = NOW - timedelta(days=days_ago)
    id_ = new_id(int(at.timestamp() * 1000))
    world.run(lambda c: c.execute("INSERT INTO email_jobs (id, job_id, status) VALUES (%s, 'j', 'sent')", (id_,)))
    world.run(lambda c: c.execute("INSERT INTO email_attempts (id, job_id, provider, state) VALUES (%s, %s, 'x', 'accepted')", (id_, id_)))
    world.run(lambda c: c.execute("INSERT INTO email_tracking (id, event_type, occurred_at) VALUES (%s, 'opened', %s)", (id_, at)))


def counts(world):
    return [world.count(table) for table in TABLES]


def test_each_table_is_kept_as_long_as_its_setting_says_also_what_has_no_day_of_its_own(world, keeper):
    world.run(lambda cursor: partitions.make(cursor, (NOW - timedelta(days=10)).date(), NOW.date()))
    for days_ago in (0, 4, 6, 8, 10, 400):
        put(world, days_ago)
    assert world.count("email_tracking_default") == world.count("email_jobs_default") == 1
    keeper.retire()
    assert counts(world) == [2, 2, 4]
    assert world.count("email_tracking_default") == world.count("email_jobs_default") == 0
    keeper.retire()
    assert counts(world) == [2, 2, 4]


def test_while_somebody_works_in_the_table_it_is_put_off_and_nobody_waits_long(world, keeper):
    world.run(lambda cursor: partitions.make(cursor, (NOW - timedelta(days=10)).date(), NOW.date()))
    put(world, 10)
    other = Database(world.parameters)

    def work(cursor):
        cursor.execute("SELECT count(*) FROM email_jobs")
        with pytest.raises(StoreUnavailable):
            keeper.retire()
        return world.rows("SHOW lock_timeout")

    assert other.run(work) == [{"lock_timeout": "10s"}], "the short wait was for that transaction only"
    keeper.retire()
    assert world.count("email_jobs") == 0
    other.close()
