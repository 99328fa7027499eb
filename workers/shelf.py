"""The templates at hand: read from the store at most every few seconds, so that an edit is seen soon and no batch reads them twice."""

from collections.abc import Iterable, Mapping
from time import monotonic

from mail.job import Job
from mail.template import Template

FRESH_S = 2.0


class Shelf:
    """Templates by name; None stands for a name that does not exist."""

    def __init__(self) -> None:
        self._templates: dict[str, Template | None] = {}
        self._read_at_s: dict[str, float] = {}

    def missing(self, jobs: Iterable[Job]) -> list[str]:
        """The names that these jobs need and that must be read (again)."""
        now = monotonic()
        names = {job.template for job in jobs if job.inline is None}
        return [name for name in names if now - self._read_at_s.get(name, -FRESH_S) >= FRESH_S]

    def put(self, names: Iterable[str], found: Mapping[str, Template]) -> None:
        """What a read for `names` brought. Names are bounded by what producers ask for, so the shelf is emptied when it grows absurd."""
        if len(self._templates) > 10_000:
            self._templates.clear()
            self._read_at_s.clear()
        for name in names:
            self._templates[name] = found.get(name)
            self._read_at_s[name] = monotonic()

    def take(self, name: str) -> Template | None:
        return self._templates.get(name)
