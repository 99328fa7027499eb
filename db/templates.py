"""Stored templates."""

from collections.abc import Mapping, Sequence

import msgspec

from db.connection import Cursor, fetch, text_array
from db.queries import sql
from mail.template import Template


def find(cursor: Cursor, names: Sequence[str]) -> dict[str, Template]:
    """The templates of these names that exist, active or not."""
    return {row[0]: _template(row) for row in fetch(cursor, sql("find_templates"), {"names": text_array(names)})}


def find_vanished(cursor: Cursor, names: Sequence[str]) -> frozenset[str]:
    """Those of these names, none of which exists now, that once did and rendered."""
    if not names:
        return frozenset()
    return frozenset(row[0] for row in fetch(cursor, sql("find_vanished_templates"), {"names": text_array(names)}))


def note_rendered(cursor: Cursor, versions: Mapping[str, str]) -> None:
    """These versions (by template name) have rendered an email."""
    if versions:
        values = {"names": text_array(versions), "versions": text_array(versions.values())}
        cursor.execute(sql("note_rendered"), values)


def all_of_them(cursor: Cursor) -> list[Template]:
    return [_template(row) for row in fetch(cursor, sql("list_templates"), {})]


def insert_missing(cursor: Cursor, templates: Sequence[Template]) -> int:
    """Store templates whose names are not taken; returns how many were stored."""
    stored = 0
    for t in templates:
        variables = msgspec.json.encode(list(t.variables)).decode()
        values = {"name": t.name, "type": t.type, "subject": t.subject, "html": t.html, "text": t.text, "variables": variables}
        cursor.execute(sql("upsert_template"), values)
        stored += cursor.rowcount
    return stored


def _template(row: Sequence[object]) -> Template:
    name, version, type_, subject, html, text, variables, is_active, rendered = row
    names = tuple(str(v) for v in variables) if isinstance(variables, list) else ()
    return Template(str(name), str(version), str(type_), str(subject), str(html), str(text), names, bool(is_active), str(rendered))
