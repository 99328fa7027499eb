"""What is older than the settings keep it goes by whole days; whoever works in a table meanwhile is not made to wait."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from db import dead_letters, partitions
from db.connection import Database
from db.dead_letters import DeadLetter
from mail.errors import StoreUnavailable
from mail.ids import new_id
from telemetry import metrics
from tests.workers.event_world import event
from workers.keeper import Keeper

pytestmark = pytest.mark.thorough

TABLES = ("email_jobs", "email_attempts", "email_tracking")
NOW = datetime.now(UTC)


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.fixture
def keeper(world):
    settings = SimpleNamespace(worker_name="w", worker_concurrency=1, mx_lookups=False, dedup_days=45)
    settings.retention_jobs_days, settings.retention_tracking_days, settings.retention_dead_letters_days = 5, 9, 7
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


def test_an_event_of_the_year_2100_is_not_kept_until_then(world, keeper):
    for days in (399, 27_000):
        world.apply(event("delivered", recipient="nobody@a.test", message_id=f"{days}", at=NOW + timedelta(days=days)))
    keeper.retire()
    (row,) = world.rows("SELECT occurred_at FROM email_tracking")
    assert row["occurred_at"] < NOW + timedelta(days=400)


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


def put_letter(world, reason, days_ago, is_settled):
    letter = DeadLetter(new_id(), reason, "", None, 0, {}, b"x")
    world.run(lambda cursor: dead_letters.insert(cursor, [letter]))
    age = "UPDATE dead_letters SET created_at = now() - %s * interval '1 day', replayed_at = CASE WHEN %s THEN now() END WHERE id = %s"
    world.run(lambda cursor: cursor.execute(age, (days_ago, is_settled, letter.id)))


def test_old_dead_letters_go_page_by_page_and_how_many_is_on_the_audit_log_and_counted(world, keeper, monkeypatch):
    monkeypatch.setattr("workers.keeper.LETTERS_PAGE", 2)
    before = metrics.DEAD_LETTERS_RETIRED.labels("rejected")._value.get()
    for days_ago, is_settled in ((8, True), (9, False), (400, False), (6, False), (6, True)):
        put_letter(world, "rejected", days_ago, is_settled)
    put_letter(world, "not-json", 30, False)
    for left in (4, 2, 2):
        keeper.retire_dead_letters()
        assert world.count("dead_letters") == left
    assert world.count("dead_letters", "created_at > now() - interval '7 days'") == 2
    entries = world.rows("SELECT actor, action, details FROM audit_log ORDER BY id")
    assert [(entry["actor"].split("@")[0], entry["action"]) for entry in entries] == [("w", "dlq retire")] * 2
    told = Counter()
    for entry in entries:
        told.update(entry["details"])
    assert told == {"rejected settled": 1, "rejected waiting": 2, "not-json waiting": 1}
    assert metrics.DEAD_LETTERS_RETIRED.labels("rejected")._value.get() - before == 3


def test_cohorts_are_kept_as_long_as_the_weights_look_back_and_then_go_with_their_counters(world, keeper):
    cohorts = {days: new_id() for days in (32, 30)}
    for days, cohort in cohorts.items():
        world.apply(event("delivered", world.send(stream="marketing", cohort=cohort)))
        values = {"days": days, "id": cohort}
        age = "UPDATE send_cohorts SET started_at = now() - %(days)s * interval '1 day' WHERE id = %(id)s"
        world.run(lambda cursor, age=age, values=values: cursor.execute(age, values))
    keeper.retire()
    assert world.rows("SELECT id FROM send_cohorts") == [{"id": cohorts[30]}]
    assert world.rows("SELECT cohort_id, delivered FROM esp_cohort_stats") == [{"cohort_id": cohorts[30], "delivered": 1}]
