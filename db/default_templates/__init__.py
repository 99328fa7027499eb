"""The templates that come with the product: one folder for each of the 15 job types, with data to show it with.

Only reads the files beside it. Whoever edits a template edits its row in the database; these are what a new database begins with.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mail.template import JOB_TYPES, Template

_FOLDER = Path(__file__).parent
_VERSION_CHARS = 12


def load() -> list[tuple[Template, dict[str, Any]]]:
    """Every template with its sample data, in the order of JOB_TYPES. The version is a hash of the content."""
    return [_read(name) for name in JOB_TYPES]


def _read(name: str) -> tuple[Template, dict[str, Any]]:
    folder = _FOLDER / name
    description = json.loads((folder / "template.json").read_text(encoding="utf-8"))
    subject, html, text = [(folder / part).read_text(encoding="utf-8") for part in ("subject.txt", "body.html", "body.txt")]
    template = Template(
        name=name,
        version=hashlib.sha256("\0".join((subject, html, text)).encode()).hexdigest()[:_VERSION_CHARS],
        type=description["type"],
        subject=subject.strip(),
        html=html,
        text=text,
        variables=tuple(description["variables"]),
    )
    return template, description["sample"]
