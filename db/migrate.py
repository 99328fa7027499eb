"""Applies db/migrations/*.sql in order, each once, under an advisory lock; old code keeps running on a newer schema."""

from pathlib import Path

from db import partitions
from db.connection import Cursor, Database

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7_003_411  # any number that only we use
_LEDGER = "CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"


def known() -> list[str]:
    """The names of the migrations that this program brings, in order."""
    return [path.stem for path in sorted(_FOLDER.glob("*.sql"))]


def applied(database: Database) -> list[str]:
    """The names of the migrations that the database has; empty where it was never migrated."""
    found = database.read("SELECT to_regclass('schema_migrations') IS NOT NULL")
    return [row[0] for row in database.read("SELECT name FROM schema_migrations ORDER BY name")] if found[0][0] else []


def difference(database: Database) -> str | None:
    """What is wrong with the schema, or None: "missing ..." wants `manage.py migrate`, "newer ..." a newer program."""
    ours, theirs = set(known()), set(applied(database))
    if missing := sorted(ours - theirs):
        return f"missing migrations: {', '.join(missing)}; run `python manage.py migrate`"
    if newer := sorted(theirs - ours):
        return f"the database is newer than this program: it has {', '.join(newer)}; deploy the version that brings them"
    return None


def migrate(database: Database, partition_days: int = 7) -> list[str]:
    """Apply what is missing and make the coming days' partitions; returns the names applied now."""

    def work(cursor: Cursor) -> list[str]:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(_LEDGER)
        cursor.execute("SELECT name FROM schema_migrations")
        have = {row[0] for row in cursor.fetchall()}
        missing = [name for name in known() if name not in have]
        for name in missing:
            cursor.execute((_FOLDER / f"{name}.sql").read_text().replace("%", "%%"))
            cursor.execute("INSERT INTO schema_migrations (name) VALUES (%s)", (name,))
        partitions.make_ahead(cursor, partition_days)
        return missing

    return database.run(work)
