"""The operator's own connection to Postgres."""

from config.settings import Settings
from db.connection import Database


def open_database(settings: Settings, command: str) -> Database:
    """A connection that shows up in Postgres under the command's name; it connects on first use."""
    return Database({"dsn": settings.database_url.reveal()}, application_name=f"email-worker {command}")
