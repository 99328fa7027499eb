"""The product's own supervisor and roles, but for delivery workers that keep a stopwatch: `python -m bench.measured --workers 2`.

The loop, its parts and their wiring are the product's; only its verbs are called through a clock. While `<STATE_DIR>/hold-<slot>`
is there, that worker takes no records but stays in its group, and where it says FETCHING, its Kafka client fetches what comes
meanwhile; whenever a worker runs dry, it writes what it has measured since.
"""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers import delivery_wiring
from workers.base import RoleContext
from workers.delivery import Delivery
from workers.roles import ROLES, Role
from workers.steps.letter import Letter

FETCHING = "fetching"


class Stopwatch:
    """CPU and wall time by stage, in seconds. The CPU of a stage is that of the main thread, and while it lasts of the senders."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.wall_s: defaultdict[str, float] = defaultdict(float)
        self.noted: dict[str, dict[str, float]] = {"cpu_s": {}, "wall_s": {}}
        self.emails = self.batches = 0
        self.ended_at_s = 0.0
        self._began = self._now()

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time on this watch."""

        def run(*arguments: Any) -> Any:
            before = self._now()
            try:
                return work(*arguments)
            finally:
                after = self._now()
                self.cpu_s[stage] += after[0] - before[0]
                self.cpu_s["senders"] += after[1] - before[1]
                self.wall_s[stage] += after[3] - before[3]

        return run

    def note_batch(self, emails: int) -> None:
        """One batch is over."""
        main_s, senders_s, process_s, wall_s = self._now()
        self.emails += emails
        self.batches += 1
        self.ended_at_s = wall_s
        self.cpu_s["main"] = main_s - self._began[0]
        self.cpu_s["python"] = self.cpu_s["main"] + senders_s - self._began[1]
        self.cpu_s["process"] = process_s - self._began[2]
        self.noted = {"cpu_s": dict(self.cpu_s), "wall_s": dict(self.wall_s)}

    def report(self) -> dict[str, Any]:
        """What one worker measured, up to its last batch. "senders" belongs to "exchange"; "process" - "python" is the Kafka client's."""
        return {"emails": self.emails, "batches": self.batches, "began_at_s": self._began[3], "ended_at_s": self.ended_at_s, **self.noted}

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        senders = [thread.ident for thread in threading.enumerate() if thread.name.startswith("esp-") and thread.ident]
        senders_s = sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in senders)
        return time.thread_time(), senders_s, time.process_time(), time.monotonic()


def run(context: RoleContext) -> None:
    """The delivery role with a stopwatch."""
    watch = Stopwatch()
    folder = context.settings.state_dir
    with delivery_wiring.wire(context) as delivery:
        _attach(watch, delivery)
        while not context.is_draining():
            if hold_file(folder, context.slot).exists():
                _hold(context, delivery, folder)
                watch.reset()
            if delivery.turn() == 0 and watch.emails:
                _write(folder / f"measured-{context.slot}.json", watch.report())
        delivery.tidy()


def _attach(watch: Stopwatch, delivery: Delivery) -> None:
    """Call the loop's verbs through the stopwatch."""
    plain_timed, plain_deliver, source = delivery._timed, delivery.deliver, delivery._tools.source

    def deliver(records: Sequence[Any]) -> list[Letter]:
        letters = plain_deliver(records)
        watch.note_batch(len(records))
        return letters

    instance: Any = delivery
    instance._timed = lambda stage, work: plain_timed(stage, watch.timed(stage, work))
    instance.deliver = deliver
    instance.tell = watch.timed("tell", delivery.tell)
    timed_poll = watch.timed("poll", source.poll)

    def poll(limit: int, timeout_s: float) -> list[Any]:
        records: list[Any] = timed_poll(limit, timeout_s)
        if records and not watch.batches:  # the watch starts with the first records, not with the wait for them
            watch.reset()
        return records

    watched_source: Any = source
    watched_source.poll = poll
    watched_source.commit = watch.timed("commit", source.commit)


def hold_file(folder: Path, slot: int) -> Path:
    """What holds this worker."""
    return folder / f"hold-{slot}"


def _hold(context: RoleContext, delivery: Delivery, folder: Path) -> None:
    hold, held = hold_file(folder, context.slot), folder / f"held-{context.slot}"
    is_fetching = hold.read_text() == FETCHING
    held.touch()
    while hold.exists() and not context.is_draining():
        context.beat("held by a benchmark", 10.0)
        if not is_fetching:
            delivery._tools.source.keep_alive()
        context.wait(0.01)
    held.unlink()


def _write(path: Path, report: dict[str, Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(report))
    draft.replace(path)


def measured_roles() -> tuple[Role, ...]:
    """The product's roles, delivery with the stopwatch."""
    return tuple(replace(role, module="bench.measured") if role.name == "delivery" else role for role in ROLES)


if __name__ == "__main__":
    import supervisor

    sys.exit(supervisor.main(roles=measured_roles()))
