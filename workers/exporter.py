"""The exporter: one process that shows this host's metrics and health over HTTP, and carries no mail.

It always answers /metrics with 200: what cannot be read is left out, what is late is left to the next scrape. It must never
ask the database more often than every few seconds, however often it is scraped.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from telemetry import log as logs
from telemetry import metric_files
from telemetry.health import Check, Health, Prober
from telemetry.scrape import CONTENT_TYPE, GaugeSample, Scraper
from workers.connections import open_database
from workers.pages import exporter_page, ledger_gauges
from workers.pages.exporter_http import Page, PageServer, not_found
from workers.supervising.heartbeat import Beat

if TYPE_CHECKING:
    from workers.base import RoleContext

log = logs.get("workers.exporter")

Gauges = Callable[[], Iterable[GaugeSample]]
_TICK_S = 0.5
_BEAT_DEADLINE_S = 15.0
_CHECK_DEADLINE_S = 2.0
# so long after a broken promise to beat the supervisor would have killed the process, were it not stuck itself
_SUPERVISOR_LIMIT_S = 120.0
_S = 1_000_000_000


class Exporter:
    """The pages. `gauges` are read at each scrape; `checks` decide /health/ready, `liveness` decides /health/live, and /health tells
    `alarms` too: what a person must mend, and what neither waiting nor another process would.

    A check returns None, or what is wrong. `port` 0 = any free one; `bound_port` tells which. Raises OSError where it is taken.
    """

    def __init__(
        self,
        metrics_directory: Path,
        port: int,
        gauges: Gauges,
        checks: Mapping[str, Check],
        liveness: Mapping[str, Check] | None = None,
        alarms: Mapping[str, Check] | None = None,
        host: str = "127.0.0.1",
        name: str = "email-worker",
    ):
        self._scraper = Scraper(metrics_directory)
        self._gauges = gauges
        self._readiness = Prober(checks, _CHECK_DEADLINE_S)
        self._liveness = Prober(liveness or {}, _CHECK_DEADLINE_S)
        self._alarms = Prober(alarms or {}, _CHECK_DEADLINE_S)
        self._name = name
        self._server = PageServer(host, port, self.answer)
        self.bound_port = self._server.port

    def serve_until(self, stop: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Answer until `stop()`; `beat()` is called about twice a second. Closes the server at the end."""
        try:
            while not stop():
                beat()
                self._server.serve_one(_TICK_S)
        finally:
            self._server.close()

    def answer(self, path: str) -> Page:
        """The page of a path."""
        if path == "/metrics":
            return Page(200, CONTENT_TYPE, self._scraper.text(self._samples()))
        if path == "/health/live":
            return _health_page(self._liveness.examine())
        if path == "/health/ready":
            return _health_page(self._readiness.examine())
        if path == "/health":
            return _health_page(self._whole_health())
        if path == "/":
            return Page(200, "text/html; charset=utf-8", exporter_page.render(self._name, self._whole_health(), self._samples()))
        return not_found()

    def _whole_health(self) -> Health:
        return Health(self._liveness.examine().findings + self._readiness.examine().findings + self._alarms.examine().findings)

    def _samples(self) -> list[GaugeSample]:
        try:
            return list(self._gauges())
        except Exception:  # the workers' own numbers are shown all the same
            log.exception("the gauges could not be read")
            return []


class CachedGauges:
    """Numbers that cost something to read (from the database): read in a thread, at most once in `keep_s` seconds.

    A reading later than `deadline_s` is left to the next scrape; numbers older than `stale_s` are not shown, for a frozen
    number looks like a healthy one.
    """

    def __init__(self, read: Gauges, keep_s: float = 5.0, deadline_s: float = 2.0, stale_s: float = 60.0):
        self._read = read
        self._keep_s, self._deadline_s, self._stale_s = keep_s, deadline_s, stale_s
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._done.set()
        self._asked_at = self._read_at = float("-inf")
        self._latest: list[GaugeSample] = []

    def __call__(self) -> list[GaugeSample]:
        self._refresh().wait(self._deadline_s)
        return self._latest if time.monotonic() - self._read_at < self._stale_s else []

    def _refresh(self) -> threading.Event:
        with self._lock:
            now = time.monotonic()
            if self._done.is_set() and now - self._asked_at >= self._keep_s:
                self._asked_at = now
                self._done = threading.Event()
                threading.Thread(target=self._read_into, args=(self._done,), name="gauges", daemon=True).start()
            return self._done

    def _read_into(self, done: threading.Event) -> None:
        try:
            self._latest = list(self._read())
            self._read_at = time.monotonic()
        except Exception as error:  # the database may be away: the next reading tells
            log.warning("gauges could not be read", kind=type(error).__name__, error=str(error))
        finally:
            done.set()


def worker_gauges(beats: Sequence[Beat], now_ns: int) -> list[GaugeSample]:
    """email_worker_up of every slot and email_worker_restarts_total of every role, from the heartbeats."""
    restarts: Counter[str] = Counter()
    samples = []
    for beat in beats:
        restarts[beat.role] += beat.restarts
        samples.append(GaugeSample("email_worker_up", {"role": beat.role, "slot": str(beat.slot)}, float(_is_well(beat, now_ns))))
    return samples + [GaugeSample("email_worker_restarts_total", {"role": role}, float(n)) for role, n in restarts.items()]


def check_workers(beats: Sequence[Beat], now_ns: int) -> str | None:
    """Ready: every role has a process that lives and keeps its promise. One dead among several is the supervisor's daily work."""
    well = {beat.role for beat in beats if _is_well(beat, now_ns)}
    missing = [role for role in dict.fromkeys(beat.role for beat in beats) if role not in well]
    return f"no process is up for: {', '.join(missing)}" if missing else None


def check_supervisor(beats: Sequence[Beat], now_ns: int) -> str | None:
    """Live: no stuck process is left unkilled for minutes, which would mean that the supervisor itself is stuck."""
    left = [f"{beat.role}-{beat.slot}" for beat in beats if beat.pid and now_ns - beat.deadline_ns > _SUPERVISOR_LIMIT_S * _S]
    return f"stuck and not replaced: {', '.join(left)}" if left else None


def run(context: RoleContext) -> None:
    """The role: serve until asked to leave."""
    exporter = _wire(context)
    _announce(context.settings.state_dir, exporter.bound_port)
    exporter.serve_until(
        stop=lambda: context.is_draining() or context.is_stopping_now(),
        beat=lambda: context.beat("serving", _BEAT_DEADLINE_S),
    )


def _wire(context: RoleContext) -> Exporter:
    settings, heartbeats = context.settings, context.shared.heartbeats
    # each in a thread of its own, so each with a connection of its own
    ledger, probe, alarm = (open_database(settings, f"{context.name}{purpose}") for purpose in ("", " check", " alarm"))
    from_ledger = CachedGauges(lambda: ledger_gauges.read(ledger, frozenset(settings.webhook_topics)))
    return Exporter(
        metric_files.directory_in(settings.state_dir),
        settings.metrics_port,
        gauges=lambda: [*worker_gauges(heartbeats.assigned(), time.monotonic_ns()), *from_ledger()],
        checks={
            "workers": lambda: check_workers(heartbeats.assigned(), time.monotonic_ns()),
            "database": lambda: ledger_gauges.check(probe),
        },
        alarms={"lanes": lambda: ledger_gauges.find_stopped_lanes(alarm)},
        liveness={"supervisor": lambda: check_supervisor(heartbeats.assigned(), time.monotonic_ns())},
        host=settings.metrics_host,
        name=settings.worker_name,
    )


def _announce(state_dir: Path, port: int) -> None:
    """Say where the pages are: in the log, and in STATE_DIR/exporter.json for scripts that let us choose the port."""
    path = state_dir / "exporter.json"
    half = path.with_suffix(f".{os.getpid()}.tmp")
    half.write_text(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
    half.replace(path)
    log.info("metrics and health are served", port=port)


def _is_well(beat: Beat, now_ns: int) -> bool:
    return beat.is_up and now_ns <= beat.deadline_ns


def _health_page(health: Health) -> Page:
    return Page(health.http_status, "application/json", health.to_json())
