"""`supervisor.py --seed`: a month of made-up history for a development database. It never touches one that is in use.

Runs in the supervisor's short-lived child; what it raises ends the start with the reason in the log.
"""

from typing import Any

from config.catalog import CATALOG, read_catalog
from config.settings import Settings
from db.connection import Cursor
from db.seed import guard
from db.seed.fill import fill
from db.seed.plan import Esp, Plan
from mail.errors import BadSettings, SettingProblem
from mail.job import Job
from mail.message import Address
from mail.template import Template
from operations import screen
from operations.store import open_database
from render.renderer import Renderer
from routing.apportion import normalise

_SENDER = Address("sender@example.com")
_READER = Address("reader@example.org", "Ada Berg")


def run(settings: Settings) -> None:
    """Fill the database and print what is in it now; say so and change nothing where that was done before.

    Raises BadSettings in production and where the database holds rows that were not seeded, StoreUnavailable.
    """
    if settings.is_production:
        raise BadSettings([SettingProblem("ENVIRONMENT", "is production, and --seed makes up emails that never were; set development")])
    database = open_database(settings, "seed")
    try:
        counts = database.run(seed)
    finally:
        database.close()
    if counts is None:
        print(f"database {settings.db_name} was seeded before: nothing was changed")
        return
    print(screen.table(("table", "rows made up"), sorted(counts.items())))
    print(f"\ndatabase {settings.db_name} is seeded; nothing in it is due, so nothing will be sent")


def seed(cursor: Cursor) -> dict[str, int] | None:
    """The rows made, by table; None = it was seeded before. Raises BadSettings where there are rows of somebody's."""
    guard.lock(cursor)
    if guard.find_seeding(cursor):
        return None
    if filled := guard.find_filled_tables(cursor):
        raise BadSettings([SettingProblem("DB_NAME", f"has rows that were not seeded ({', '.join(filled)}); name an empty database")])
    return fill(cursor, plan(cursor))


def plan(cursor: Cursor) -> Plan:
    """The month until now, by the database's clock, through the ESPs of the catalogue."""
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None
    stanzas, problems = read_catalog(CATALOG)
    if problems:
        raise BadSettings(problems)
    esps = tuple(Esp(stanza.provider, stanza.weight, stanza.has_callbacks) for stanza in stanzas if stanza.weight)
    return Plan(row[0], esps, _Subjects(), normalise)


class _Subjects:
    """The subject that a template gives with data."""

    def __init__(self) -> None:
        self._renderer = Renderer()

    def __call__(self, template: Template, data: dict[str, Any]) -> str:
        job = Job(0, "seed", template.type, template.name, (_READER,), b"", data=data)
        return self._renderer.render(job, template, "", _SENDER).subject
