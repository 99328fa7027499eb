"""The lane watch: stops a lane whose emails fail through our own fault, says so loudly, and lets it go on when the cause is gone.

A lane is stopped when more than half of its last 1,000 emails on this host failed because a template was broken by an edit, our
own credentials were refused or workers died; and at once when every ESP of the service refuses them. What failed waits as a row
and the rest stays where it is, so stopping and going on lose nothing. Input that is wrong never counts: dead letters are its end.

The decision is a row in Postgres that all hosts obey. It must never resume what an operator stopped.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import telemetry.log
from db import due, lanes
from db.connection import Database
from db.payloads import Vault
from intake.lanes import LANES
from mail.account import Account
from mail.job import Lane
from mail.outcome import Outcome, Verdict
from mail.record import Record
from workers.steps.lane_window import SIZE, LaneWindow
from workers.steps.letter import Batch, Letter
from workers.steps.patience import Patience
from workers.supervising.shared import LaneBoard

log = telemetry.log.get("workers.steps.lane_watch")

FRESH_S = 1.0
PROBE_EVERY_S = 15.0
PROBE_LEASE_S = 300.0
PROBES_KEPT = 20
ALL_MISCONFIGURED = "every ESP refuses our credentials"
DEATHS = "workers die over its records"
# An ESP that answered one of these has taken our credentials, and the message was rendered.
_HEALTHY = frozenset({Verdict.ACCEPTED, Verdict.REJECTED, Verdict.THROTTLED, Verdict.UNSUPPORTED})


class Probe(NamedTuple):
    """A lane that is stopped, and the row of it that is tried; no record = any email of the lane will do."""

    lane: Lane
    records: list[Record]


class LaneWatch:
    """One worker's part of the watch. `accounts` are all that the settings name, `lanes_served` the lanes of this slot,
    `place` is how leases name the slot."""

    def __init__(
        self,
        database: Database,
        patience: Patience,
        window: LaneWindow,
        board: LaneBoard,
        accounts: Iterable[Account],
        lanes_served: Sequence[Lane],
        place: str,
        vault: Vault,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._database = database
        self._patience = patience
        self._window = window
        self._board = board
        self._refused = {account.provider: False for account in accounts if account.tenant == 0 and account.weight > 0}
        self._lanes_served = lanes_served
        self._place = place
        self._vault = vault
        self._clock = clock
        self._read_at_s = float("-inf")
        self.held: frozenset[Lane] = frozenset()

    def refresh(self) -> frozenset[Lane]:
        """Which lanes are stopped, read every second. Raises StoreUnavailable."""
        if self._clock() - self._read_at_s >= FRESH_S:
            stopped = {pause.lane for pause in self._database.run(lanes.find)}
            self._read_at_s = self._clock()
            self._take_over(frozenset(lane for lane in LANES if lane in stopped))
        return self.held

    def note(self, letters: Iterable[Letter], batch: Batch) -> None:
        """Count what became of a batch; this may stop its lane."""
        counted: dict[Lane, list[Letter | None]] = {}
        for letter in letters:
            counted.setdefault(letter.record.lane, []).append(letter if letter.fate and letter.fate.is_our_fault else None)
        for misfit in batch.misfits:
            counted.setdefault(misfit.record.lane, []).append(None)
        for lane, found in counted.items():
            if lane not in self.held:
                self._judge(lane, found)

    def note_answers(self, account: Account, outcomes: Iterable[Outcome]) -> None:
        """Do the service's accounts still take our credentials?"""
        if account.tenant or account.provider not in self._refused:
            return
        for outcome in outcomes:
            if outcome.verdict is Verdict.MISCONFIGURED:
                self._refused[account.provider] = True
            elif outcome.verdict in _HEALTHY:
                self._refused[account.provider] = False

    def note_death(self, record: str, lane: Lane | None) -> None:
        """A worker of this slot died with this record under its hand; `lane` None = a row, which knows its own."""
        lane = lane or self._lane_of_row(record)
        if lane and self._window.note(lane, [True]) * 2 > SIZE:
            self._stop(lane, DEATHS, [])

    def take_probe(self) -> Probe | None:
        """An email of a stopped lane that this worker, of all hosts' the only one, is to try now. Raises StoreUnavailable."""
        served = [lane for lane in self._lanes_served if lane in self.held]
        if not served:
            return None
        taken = self._database.run(lambda cursor: lanes.take_probe(cursor, served, PROBE_EVERY_S))
        if taken is None:
            return None
        name, rows = taken
        lane = next(lane for lane in LANES if lane == name)
        return Probe(lane, self._lease(lane, rows))

    def conclude(self, lane: Lane, letters: Iterable[Letter]) -> None:
        """What became of the probe: the lane goes on if an ESP took it up."""
        if any(letter.outcome and letter.outcome.verdict in _HEALTHY for letter in letters):
            if self._patience.insist("resume", lambda cursor, _: lanes.resume(cursor, lane, lanes.WATCH)):
                log.warning("a lane goes on: what stopped it is mended", lane=lane)
            self._take_over(self.held - {lane})

    def _judge(self, lane: Lane, found: Sequence[Letter | None]) -> None:
        failed = [letter for letter in found if letter is not None]
        failures = self._window.note(lane, [letter is not None for letter in found])
        if failed and self._refused and all(self._refused.values()) and any(map(_is_misconfigured, failed)):
            self._stop(lane, ALL_MISCONFIGURED, failed)
        elif failed and failures * 2 > SIZE:
            self._stop(lane, Counter(map(_cause_of, failed)).most_common(1)[0][0], failed)

    def _stop(self, lane: Lane, cause: str, failed: Sequence[Letter]) -> None:
        fits = _is_misconfigured if cause == ALL_MISCONFIGURED else lambda letter: _cause_of(letter) == cause
        probes = [letter.row_id for letter in failed if fits(letter)][-PROBES_KEPT:]
        stop = partial(lanes.pause, lane=lane, by=lanes.WATCH, reason=cause, probes=probes, probe_s=PROBE_EVERY_S)
        if self._patience.insist("stop a lane", lambda cursor, _: stop(cursor)):
            log.error(
                "a lane is stopped: it fails through our own fault, and nothing of it is given up meanwhile",
                lane=lane,
                cause=cause,
                way_out=f"mend the cause, and it goes on by itself; or: manage.py lanes resume {lane}",
            )
        self._take_over(self.held | {lane})

    def _take_over(self, held: frozenset[Lane]) -> None:
        """Act on what is stopped now; a lane that was begins with an empty window."""
        for lane in held ^ self.held:
            self._window.clear(lane)
        self.held = held
        self._board.show(held)

    def _lease(self, lane: Lane, rows: Sequence[str]) -> list[Record]:
        """One of those that failed; where none of them waits any more, any row of the lane that is due."""
        chosen = self._database.run(lambda cursor: due.lease_one(cursor, self._place, rows, PROBE_LEASE_S, self._vault))
        return chosen or self._database.run(lambda cursor: due.lease(cursor, self._place, [lane], 1, PROBE_LEASE_S, self._vault))

    def _lane_of_row(self, record: str) -> Lane | None:
        row_id = record.removeprefix("row:")
        name = self._patience.insist("lane of a row", lambda cursor, _: lanes.find_of_row(cursor, row_id))
        return next((lane for lane in LANES if lane == name), None)


def _is_misconfigured(letter: Letter) -> bool:
    return letter.outcome is not None and letter.outcome.verdict is Verdict.MISCONFIGURED


def _cause_of(letter: Letter) -> str:
    """In words that hold neither an address nor a secret."""
    if _is_misconfigured(letter) and letter.account:
        return f"{letter.account.provider} refuses our credentials"
    return f"template {letter.job.template}: {letter.fate.reason if letter.fate else ''}"
