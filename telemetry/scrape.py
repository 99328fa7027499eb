"""A scrape: what all processes of this host counted, merged, as Prometheus' text; the exporter adds what it asked for itself.

It must always give an answer: a broken file costs its own numbers only, and is named once in the log.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from telemetry import log as logs
from telemetry import metric_files, metrics

log = logs.get("telemetry.scrape")
CONTENT_TYPE = CONTENT_TYPE_LATEST
_TRIES = 3


class GaugeSample(msgspec.Struct, frozen=True):
    """One number that is read at the time of the scrape. `name` is a declared metric's, as dashboards know it."""

    name: str
    labels: Mapping[str, str]
    value: float


class Scraper:
    """Reads the metric files of one folder."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._known_broken: set[str] = set()

    def text(self, samples: Iterable[GaugeSample] = ()) -> bytes:
        """All metrics in Prometheus' text format. A metric that `samples` speak of is shown as they say."""
        families = self._from_files()
        for name, fresh in _families_of(samples).items():
            families[name] = fresh
        return generate_latest(_Families(_all_declared(families)))

    def _from_files(self) -> dict[str, Metric]:
        # a file may break or go between the check and the reading
        for _ in range(_TRIES):
            files = metric_files.readable_files(self._directory, self._note_broken)
            try:
                return {metric.name: metric for metric in _merged(files)}
            except Exception as error:  # whatever a torn file raises in a library must not cost the scrape
                log.warning("the metric files could not be merged", error=str(error), kind=type(error).__name__)
        return {}

    def _note_broken(self, path: Path) -> None:
        if path.name not in self._known_broken and len(self._known_broken) < 1_000:
            self._known_broken.add(path.name)
            log.warning("a metric file cannot be read and is left out", file=path.name)


class _Families(Collector):
    """Metric families as prometheus_client's writer wants to be given them."""

    def __init__(self, families: Iterable[Metric]):
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _merged(files: list[str]) -> Iterator[Metric]:
    for metric in MultiProcessCollector.merge(files):  # type: ignore[no-untyped-call]
        # NaN says: no longer known here
        metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
        yield metric


def _families_of(samples: Iterable[GaugeSample]) -> dict[str, Metric]:
    families: dict[str, Metric] = {}
    for sample in samples:
        if sample.name not in metrics.DECLARED:
            log.error("a gauge of an undeclared name is left out", metric=sample.name)
            continue
        declared = metrics.family(sample.name)
        family = families.setdefault(declared.name, Metric(declared.name, declared.documentation, declared.type))
        if not math.isnan(sample.value):
            family.add_sample(sample.name, dict(sample.labels), sample.value)
    return families


def _all_declared(families: dict[str, Metric]) -> list[Metric]:
    """Families in the order of declaration, also those without a number yet; then what nobody here declared."""
    declared = [metrics.family(name) for name in metrics.DECLARED]
    names = {metric.name for metric in declared}
    strangers = [family for name, family in sorted(families.items()) if name not in names]
    return [families.get(metric.name, metric) for metric in declared] + strangers
