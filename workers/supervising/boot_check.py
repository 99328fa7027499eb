"""Before any role is forked: is the database there, migrated, and does it understand every statement of ours?"""

from typing import TYPE_CHECKING

from db import migrate, queries
from mail.errors import StoreUnavailable
from workers.connections import open_database

if TYPE_CHECKING:
    from config.settings import Settings


def find_problem(settings: "Settings") -> str | None:
    """Why the roles cannot start, with the way out; None = they can."""
    database = open_database(settings, "boot check")
    where = f"{settings.db_host}:{settings.db_port}/{settings.db_name}"
    try:
        problem = migrate.difference(database)
        if problem is None:
            database.run(queries.check)
        return problem and f"database {where}: {problem}"
    except StoreUnavailable as error:
        return f"database {where}: {error}; check DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_SSL_MODE, and that the server runs"
    finally:
        database.close()
