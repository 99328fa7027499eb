"""Health: named questions, each with a deadline, and what their answers mean to whoever asks.

live: is it of no use to wait, must this process group be started anew? ready: can it do its work now?
/health tells both with all details. A question that hangs must never hang the answer, nor be asked twice at once;
no detail may hold a secret or an address.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from telemetry.redaction import Redactor

Check = Callable[[], str | None]
Status = Literal["ok", "failing"]
_MAX_DETAIL = 300


class Finding(msgspec.Struct, frozen=True):
    """The answer to one question: `problem` is None where all is well. `took_s` is None while no answer has come."""

    name: str
    problem: str | None
    took_s: float | None


class Health(msgspec.Struct, frozen=True):
    """The findings together; failing where one of them found a problem."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        return "failing" if any(finding.problem is not None for finding in self.findings) else "ok"

    @property
    def http_status(self) -> int:
        """200 where all is well, else 503, which probes and load balancers understand."""
        return 200 if self.status == "ok" else 503

    def to_json(self) -> bytes:
        """`{"status": "ok", "checks": {"database": {"status": "ok", "seconds": 0.002}}}`; a failing check also has a "detail"."""
        return json.dumps({"status": self.status, "checks": {f.name: _as_json(f) for f in self.findings}}, indent=2).encode() + b"\n"


class Prober:
    """Asks questions side by side, each in a thread of its own and at most once at a time, and waits no longer than the deadline.

    `checks`: each returns None, or what is wrong; one that raises is a problem too. Not for the supervisor, which has no threads.
    """

    def __init__(self, checks: Mapping[str, Check], deadline_s: float = 2.0, clock: Callable[[], float] = time.monotonic):
        self._probes = [_Probe(name, check, clock) for name, check in checks.items()]
        self._deadline_s = deadline_s
        self._clock = clock
        self._lock = threading.Lock()

    def examine(self) -> Health:
        """All findings, at the latest when the deadline has passed."""
        with self._lock:
            until = self._clock() + self._deadline_s
            asked = [probe.ask() for probe in self._probes]
        for done in asked:
            done.wait(max(0.0, until - self._clock()))
        return Health(tuple(probe.finding() for probe in self._probes))


class _Probe:
    """One question, and its newest answer."""

    def __init__(self, name: str, check: Check, clock: Callable[[], float]):
        self._name, self._check, self._clock = name, check, clock
        self._done = threading.Event()
        self._done.set()
        self._since = 0.0
        self._latest = Finding(name, "not asked yet", None)

    def ask(self) -> threading.Event:
        """Ask unless the last question still waits; the event is set when there is an answer."""
        if self._done.is_set():
            self._done = threading.Event()
            self._since = self._clock()
            threading.Thread(target=self._answer, args=(self._done,), name=f"health {self._name}", daemon=True).start()
        return self._done

    def finding(self) -> Finding:
        if self._done.is_set():
            return self._latest
        return Finding(self._name, f"no answer for {self._clock() - self._since:.1f} s", None)

    def _answer(self, done: threading.Event) -> None:
        try:
            problem = self._check()
        except Exception as error:  # a question that fails is an answer
            problem = f"{type(error).__name__}: {error}"
        self._latest = Finding(self._name, problem and Redactor().clean(problem, _MAX_DETAIL), self._clock() - self._since)
        done.set()


def _as_json(finding: Finding) -> dict[str, object]:
    told: dict[str, object] = {"status": "ok" if finding.problem is None else "failing"}
    if finding.took_s is not None:
        told["seconds"] = round(finding.took_s, 4)
    if finding.problem is not None:
        told["detail"] = finding.problem
    return told
