"""What an operator does after a storm, by the commands that he has: bring dead letters back, settle what is in doubt.

He looks at the ESPs' own records, which here are the fakes' ledgers: the only place where an answer that nobody heard can be seen.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import msgspec

from db import default_templates, templates
from db.connection import Database
from sandbox.children import PROJECT
from sandbox.product import Product
from tests.chaos.sources import LATE_TEMPLATE, MODEL

NO_STORE = 3
LIMIT_S = 60.0
_IDS_A_COMMAND = 500


class Operator:
    """Works on one product; every command may be repeated."""

    def __init__(self, product: Product):
        self._product = product

    def add_late_template(self, database: Database) -> None:
        """From now on the jobs that died of a missing template can be sent."""
        model = next(template for template, _ in default_templates.load() if template.name == MODEL)
        made = msgspec.structs.replace(model, name=LATE_TEMPLATE)
        database.run(lambda cursor: templates.insert_missing(cursor, [made]))

    def replay(self, *choice: str) -> int:
        """Bring dead letters back; returns how many jobs were revived, also where the database went away in the middle."""
        said = self._manage("dlq", "replay", *choice)
        return sum(int(part.split()[0]) for part in said.split(", ") if part.endswith("replayed"))

    def settle(self, database: Database, taken: frozenset[str]) -> tuple[list[str], list[str]]:
        """Confirm the doubted attempts that an ESP took, send the others again; returns the ids of both."""
        doubted = [row[0] for row in database.read("SELECT attempt_id FROM uncertain_attempts ORDER BY 1")]
        known = [attempt_id for attempt_id in doubted if attempt_id in taken]
        lost = [attempt_id for attempt_id in doubted if attempt_id not in taken]
        for decision, ids in (("confirm", known), ("resend", lost)):
            for part in _parts(ids):
                self._manage("uncertain", decision, *part)
        return known, lost

    def _manage(self, *arguments: str) -> str:
        command = [sys.executable, str(PROJECT / "manage.py"), "--env-file", os.devnull, *arguments]
        ended = subprocess.run(command, env=self._product.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if ended.returncode not in (0, 1, NO_STORE):
            raise RuntimeError(f"manage.py {arguments[0]} {arguments[1]} ended with {ended.returncode}: {ended.stderr[-500:]}")
        return ended.stdout.strip()


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), _IDS_A_COMMAND):
        yield ids[first : first + _IDS_A_COMMAND]
