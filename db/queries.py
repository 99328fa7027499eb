"""Loads db/sql/*.sql: each file holds named statements (`-- name: open_new`), each with a comment that says what it is for.

SQL is kept out of Python so that it can be read, reviewed and checked at boot in one place.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from db.connection import Cursor

_FOLDER = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")


@cache
def statements() -> dict[str, str]:
    """Every statement by its name; raises ValueError where a name stands twice."""
    found: dict[str, str] = {}
    for path in sorted(_FOLDER.glob("*.sql")):
        for name, text in _split(path.read_text()):
            if name in found:
                raise ValueError(f"{path.name}: the statement {name} stands twice")
            found[name] = text
    return found


def sql(name: str) -> str:
    """The statement of this name."""
    return statements()[name]


def check(cursor: Cursor) -> None:
    """Have Postgres parse and plan every statement against the schema at hand; raises psycopg2's error for the first bad one."""
    for name, text in statements().items():
        cursor.execute(f"PREPARE boot_check_{name} AS {_numbered(text)}")
        cursor.execute(f"DEALLOCATE boot_check_{name}")


def _split(text: str) -> Iterator[tuple[str, str]]:
    pieces = _NAME.split(text)
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        yield name, "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")


def _numbered(text: str) -> str:
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", text).replace("%%", "%")
