"""The templates at hand: read from the store at most every few seconds, so that an edit is seen soon and no batch reads them twice."""

from collections.abc import Iterable, Mapping, Set
from time import monotonic

from mail.job import Job
from mail.template import Template
from workers.steps.template_cache import TemplateCache

FRESH_S = 2.0
NAMES_MOST = 10_000


class Shelf:
    """Templates by name; None stands for a name that does not exist."""

    def __init__(self, cache: TemplateCache | None = None) -> None:
        self._cache = cache or TemplateCache()
        self._templates: dict[str, Template | None] = {}
        self._read_at_s: dict[str, float] = {}
        self._vanished: Set[str] = frozenset()

    def missing(self, jobs: Iterable[Job]) -> list[str]:
        """The names that these jobs need and that must be read (again). Names are bounded by what producers ask for, so the shelf
        is emptied when it grows absurd."""
        if len(self._templates) > NAMES_MOST:
            self._templates.clear()
            self._read_at_s.clear()
        now = monotonic()
        names = {job.template for job in jobs if job.inline is None}
        old = [name for name in names if now - self._read_at_s.get(name, -FRESH_S) >= FRESH_S]
        cached = self._cache.read(old)
        self._put(cached, cached)
        return [name for name in old if name not in cached]

    def put(self, names: Iterable[str], found: Mapping[str, Template], vanished: Set[str] = frozenset()) -> None:
        """What a read of the store for `names` brought; `vanished` are names that rendered once and exist no more."""
        self._put(names, found)
        self._vanished = self._vanished - set(names) | vanished
        self._cache.keep(found)

    def has_vanished(self, name: str) -> bool:
        """Did this template once render, and is it gone now?"""
        return name in self._vanished

    def take(self, name: str) -> Template | None:
        return self._templates.get(name)

    def _put(self, names: Iterable[str], found: Mapping[str, Template]) -> None:
        for name in names:
            self._templates[name] = found.get(name)
            self._read_at_s[name] = monotonic()
