from datetime import UTC, datetime, timedelta

import pytest

from db import migrate, partitions, queries
from db.connection import Database
from mail.ids import new_id


@pytest.fixture
def store(database):
    made = Database({key: str(value) for key, value in database.items()})
    yield made
    made.close()


def shape(store):
    """Tables, columns, indexes and constraints, without the day partitions."""
    return store.read(
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name !~ '_[0-9]{8}$' ORDER BY 1, 2"
    ) + store.read(
        "SELECT tablename, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '_[0-9]{8}$' ORDER BY 2"
    )


def test_an_unmigrated_database_is_told_apart_from_a_newer_one(store):
    assert "manage.py migrate" in migrate.difference(store)
    migrate.migrate(store)
    assert migrate.difference(store) is None
    store.run(lambda cursor: cursor.execute("INSERT INTO schema_migrations (name) VALUES ('9999_future')"))
    assert "newer" in migrate.difference(store)


def test_step_by_step_and_at_once_give_the_same_tables(store, postgres):
    postgres.create_database("at_once")
    other = Database({key: str(value) for key, value in postgres.parameters("at_once").items()})
    try:
        migrate.migrate(other)
        for _ in migrate.known():
            migrate.migrate(store)
        assert shape(store) == shape(other)
    finally:
        other.close()
        postgres.drop_database("at_once")


def test_what_an_operator_suppressed_for_everybody_stays_so(store, monkeypatch):
    """Before 0003 an entry of tenant 0 was one for everybody; afterwards only an operator's is."""
    names = migrate.known()
    monkeypatch.setattr(migrate, "known", lambda: [name for name in names if name < "0003"])
    migrate.migrate(store)
    insert = (
        "INSERT INTO suppressions (address, reason, source) VALUES ('a@a.test', 'manual', 'operator ann'), ('b@a.test', 'complaint', 'x/0')"
    )
    store.run(lambda cursor: cursor.execute(insert))
    monkeypatch.undo()
    migrate.migrate(store)
    assert store.read("SELECT address, is_global FROM suppressions ORDER BY 1") == [("a@a.test", True), ("b@a.test", False)]


def test_postgres_understands_every_statement(store):
    migrate.migrate(store)
    store.run(queries.check)
    assert len(queries.statements()) > 40


def test_rows_go_to_the_partition_of_their_day_and_absurd_dates_to_the_default(store):
    migrate.migrate(store)
    today = datetime.now(UTC)
    for moment in (today, today - timedelta(days=400)):
        row = new_id(int(moment.timestamp() * 1000))
        store.run(lambda cursor, row=row: cursor.execute("INSERT INTO email_jobs (id, job_id) VALUES (%s, 'j')", (row,)))
    names = store.read("SELECT tableoid::regclass::text FROM email_jobs ORDER BY 1")
    assert sorted(name for (name,) in names) == sorted([f"email_jobs_{today:%Y%m%d}", "email_jobs_default"])


def test_retention_drops_whole_days_and_nothing_younger(store):
    migrate.migrate(store)
    today = datetime.now(UTC).date()
    store.run(lambda cursor: partitions.make(cursor, today - timedelta(days=5), today))
    dropped = store.run(lambda cursor: partitions.drop_before(cursor, "email_jobs", today - timedelta(days=3)))
    assert dropped == [f"email_jobs_{today - timedelta(days=n):%Y%m%d}" for n in (5, 4)]
    assert store.run(lambda cursor: partitions.drop_before(cursor, "email_jobs", today - timedelta(days=3))) == []
