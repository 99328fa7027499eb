"""Rows into tables by COPY, the fastest way that Postgres has."""

import io
import json
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from db.connection import Cursor

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(cursor: Cursor, table: str, rows: Sequence[object]) -> int:
    """Put rows of one class (of db/seed/rows.py) into their table; returns how many."""
    if not rows:
        return 0
    columns = tuple(type(rows[0]).__annotations__)
    values = attrgetter(*columns)
    lines = ["\t".join([_spelled(value) for value in values(row)]) for row in rows]
    text = io.StringIO("\n".join(lines) + "\n")
    cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", text)
    return len(rows)


def _spelled(value: object) -> str:
    """One value as COPY's text format has it."""
    match value:
        case None:
            return "\\N"
        case str():
            return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)
        case bool():
            return "t" if value else "f"
        case datetime():
            return value.isoformat()
        case bytes():
            return "\\\\x" + value.hex()
        case list():
            return "{" + ",".join(map(str, value)) + "}"
        case dict():
            return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)
        case _:
            return str(value)
