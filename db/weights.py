"""Computed ESP weights: every snapshot is a row, the newest one counts."""

from typing import Any

from db.connection import Database
from db.queries import sql


def newest(database: Database) -> dict[str, Any] | None:
    """The newest snapshot, None where none was ever computed: {"generation": int, "computed_at": Unix seconds,
    "weights": {tenant: {mailbox provider or "*": {provider: permille}}}}."""
    rows = database.read(sql("newest_weights"))
    if not rows:
        return None
    generation, weights, computed_at = rows[0]
    return {"generation": generation, "weights": weights, "computed_at": computed_at}
