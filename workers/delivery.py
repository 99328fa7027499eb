"""The delivery role: jobs in, mail out. One batch after the other, each through the same verbs; read `deliver` first.

It must never send a message whose attempt is not open in the ledger, never commit an offset before the fate of everything up
to it is recorded, and never exit with answers in hand.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from time import perf_counter
from typing import NamedTuple, TypeVar

import telemetry.log
from db import outbox
from intake.lanes import LANES
from intake.source import Source
from mail.errors import StoreUnavailable
from mail.job import Lane
from mail.outcome import FAILOVER_VERDICTS, Blame, Outcome, Verdict
from mail.record import Record
from telemetry import metrics
from workers.failpoints import Failpoints
from workers.flight.flight_log import FlightLog
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.admission import settle_repeats
from workers.steps.bookkeeping import Bookkeeper
from workers.steps.composing import Composer
from workers.steps.dispatch import Dispatcher
from workers.steps.judgement import RetryPolicy
from workers.steps.lag_gauge import LagGauge
from workers.steps.lane_watch import LaneWatch
from workers.steps.letter import AGAIN, DROPPED, REPEAT, STORED, Batch, Fate, Letter
from workers.steps.patience import Patience
from workers.steps.portions import portions
from workers.steps.quarantine import Quarantine
from workers.steps.reception import Reception
from workers.steps.sending import Departure, Sender

log = telemetry.log.get("workers.delivery")
T = TypeVar("T")

POLL_S = 0.5
POLL_LIMIT_S = 30.0
FAILOVERS_MOST = 2  # in one round; after that the email waits as a row
LEASE_TRIES = 300  # tenths of a second


class Tools(NamedTuple):
    """What one delivery worker works with; workers/delivery_wiring.py makes them."""

    source: Source
    reception: Reception
    composer: Composer
    dispatcher: Dispatcher
    sender: Sender
    bookkeeper: Bookkeeper
    patience: Patience
    policy: RetryPolicy
    quarantine: Quarantine
    flight_log: FlightLog
    desk: EventDesk
    lag: LagGauge
    lanes: LaneWatch
    failpoints: Failpoints
    may_send: Callable[[], bool]
    beat: Callable[[str, float], None]
    wait: Callable[[float], None]
    note_batch: Callable[[int], None]
    now: Callable[[], datetime]
    take_permit: Callable[[], None]
    board: StatusBoard = StatusBoard(None, "")


class Delivery:
    """The loop of one worker; `batch_size` is how many records one poll takes, `stage_limit_s` when a stage counts as stuck."""

    def __init__(self, tools: Tools, batch_size: int, stage_limit_s: float):
        self._tools = tools
        self._batch_size = batch_size
        self._stage_limit_s = stage_limit_s

    def turn(self) -> int:
        """Poll once and deliver what came; returns how many records that were."""
        self._tools.beat(self._doing(), POLL_LIMIT_S)
        self._tools.desk.serve()
        self._tools.lag.show()
        if not self._tools.may_send():  # no lease yet, or no longer: another host may already doubt what we send
            return self._idle(0.1)
        try:
            self._tools.source.hold_lanes(self._tools.lanes.refresh())
            self.probe()
            records = self._tools.source.poll(self._batch_size, POLL_S)
            if not records:
                self.tidy()
        except StoreUnavailable as error:
            log.warning("waiting for the store, with nothing in hand", problem=str(error))
            self._tools.beat("waiting for the store", POLL_LIMIT_S)
            return self._idle(1.0)
        for group in self._tools.quarantine.groups(records):
            for part in portions(group):
                self.deliver(part)
        return len(records)

    def deliver(self, records: Sequence[Record]) -> list[Letter]:
        """The way of a batch: from bytes to committed offsets. Returns its letters as they ended."""
        self._tools.flight_log.begin()
        batch = self._timed("decode", lambda: self._tools.reception.decode(records))
        self._timed("admit", lambda: self.admit(batch))
        batch.rendered = self._timed("render", lambda: self._tools.composer.render(batch.going()))
        self.attempt(batch, may_fail_over=True)
        rounds = [batch]
        for turn in range(FAILOVERS_MOST):
            refused = rounds[-1].refused()
            if not refused.letters:
                break
            self.attempt(refused, may_fail_over=turn + 1 < FAILOVERS_MOST)
            rounds.append(refused)
        self._tools.source.commit(records)
        self._tools.quarantine.absolve(records)
        ended = [x for each in rounds for x in each.letters if not (x.fate and x.fate.goes_elsewhere)]
        self._tools.lanes.note(ended, batch)
        return ended

    def probe(self) -> None:
        """A lane that is stopped through our own fault: one of its emails is tried now and then, and nobody is set aside by that."""
        lanes = self._tools.lanes
        probe = lanes.take_probe()
        if probe is None:
            return
        records = probe.records or self._take_one_of(probe.lane)
        for record in records:
            self._tools.quarantine.pardon(record)
            letters = self.deliver([record])
            if record.lane == probe.lane:
                lanes.conclude(probe.lane, letters)
        self._tools.source.hold_lanes(lanes.held)

    def _take_one_of(self, lane: Lane) -> list[Record]:
        """One record of a lane that is stopped; of another one where that comes first."""
        source = self._tools.source
        source.hold_lanes(self._tools.lanes.held - {lane})
        records = source.poll(1, POLL_S)
        source.hold_lanes(self._tools.lanes.held)
        return records

    def attempt(self, batch: Batch, may_fail_over: bool) -> None:
        """One attempt for each letter that is still going, from the choice of its ESP to the record of what became of it."""
        departures = self._timed("route", lambda: self._tools.dispatcher.route(batch.going()))
        departures = self._timed("open", lambda: self.open(batch, departures))
        self._timed("exchange", lambda: self.exchange(batch, departures, may_fail_over))
        self._timed("record", lambda: self.record(batch))
        self.tell(batch)

    def admit(self, batch: Batch) -> None:
        """One read decides who may be sent at all; of repeats within the batch only the first goes on."""
        settle_repeats(batch.letters)
        self._tools.reception.admit(batch.going())

    def open(self, batch: Batch, departures: Sequence[Departure]) -> list[Departure]:
        """Attempts are opened. What turns out to be somebody else's is left to them; the others' requests are made anew without it."""
        for letter in batch.going():
            letter.fate = None if self._tools.source.owns(letter.record) else DROPPED
        going = batch.going()
        if not going:
            return []
        self._tools.take_permit()
        self._tools.failpoints.hit("after-prepare")
        opened = self._tools.patience.insist("open", lambda cursor, again: self._tools.bookkeeper.open(cursor, going, again))
        self._tools.failpoints.hit("after-open")
        lost = [letter for letter in going if letter.attempt_id not in opened]
        self._tools.reception.admit(lost)
        for letter in lost:
            letter.fate = letter.fate or _fate_of_lost(letter)
        if len(opened) == sum(len(departure.request.messages) for departure in departures):
            return list(departures)
        return self._tools.dispatcher.prepare(letter for letter in going if letter.attempt_id in opened)

    def exchange(self, batch: Batch, departures: Sequence[Departure], may_fail_over: bool) -> None:
        """Requests leave, outcomes come back; each letter's fate is judged by its own."""
        letters = {letter.attempt_id: letter for letter in batch.going()}
        self._await_lease()
        owned = all(self._tools.source.owns(letter.record) for letter in letters.values())
        for outcome in self._tools.sender.send(departures if owned else []):
            letter = letters.pop(outcome.attempt_id)
            letter.outcome = outcome
            letter.fate = self._tools.policy.judge(letter, outcome, self._tools.now())
            if may_fail_over and outcome.verdict in FAILOVER_VERDICTS and self._tools.dispatcher.has_another(letter):
                letter.fate = self._tools.policy.send_elsewhere(letter, outcome, letter.fate)
        for letter in letters.values():  # their partition went elsewhere while the store was away: they go out as due rows
            letter.outcome = Outcome(letter.attempt_id, Verdict.UNAVAILABLE, Blame.US, detail="released before the request left")
            letter.fate = Fate("retrying", "released", "", 0.0, keeps_payload=True, retry_count=letter.retry_count)

    def record(self, batch: Batch) -> None:
        """The fate of everything is written down, and only then told."""
        if not (batch.letters or batch.misfits or batch.cancels):
            return
        desk = self._tools.desk
        done = desk.delivered()
        self._tools.failpoints.hit("before-record")
        posted = self._tools.patience.insist("record", lambda cursor, _: self._tools.bookkeeper.record(cursor, batch, done))
        self._tools.failpoints.hit("after-record")
        desk.forget(done)
        desk.publish(posted)
        self._tools.board.show_batch(batch)

    def tell(self, batch: Batch) -> int:
        """Count what happened; returns how many emails it was about."""
        sent = sum(1 for letter in batch.letters if letter.fate and letter.fate.status == "sent")
        self._tools.note_batch(sent)
        for (status, provider, priority), count in Counter(map(_cell, batch.letters)).items():
            metrics.JOBS_PROCESSED.labels(status, provider, priority).inc(count)
        for letter in batch.letters:
            if letter.fate and letter.fate.is_dead_letter:
                metrics.DEAD_LETTERS.labels(letter.fate.reason).inc()
            elif letter.fate and (letter.fate.status == "retrying" or letter.fate.goes_elsewhere):
                metrics.RETRIES.labels(letter.account.provider if letter.account else "none", letter.fate.reason).inc()
        for misfit in batch.misfits:
            metrics.DEAD_LETTERS.labels(misfit.reason).inc()
        return len(batch.letters) + len(batch.misfits)

    def tidy(self) -> None:
        """Nothing to do: forget the events that the broker has, before the keeper takes them for left over."""
        desk = self._tools.desk
        desk.serve()
        if done := desk.delivered():
            self._tools.patience.insist("tidy", lambda cursor, _: outbox.delete(cursor, done))
            desk.forget(done)

    def _doing(self) -> str:
        stopped = [lane for lane in LANES if lane in self._tools.lanes.held]
        return f"polling, stopped: {', '.join(stopped)}" if stopped else "polling"

    def _idle(self, seconds: float) -> int:
        self._tools.source.keep_alive()
        self._tools.wait(seconds)
        return 0

    def _await_lease(self) -> None:
        """The store was away and is back: the keeper will have a lease in a moment. Where the old one had run out, what was opened
        under it is held back and goes out under a new attempt."""
        tries = 0
        while not self._tools.may_send() and tries < LEASE_TRIES:
            self._tools.beat("waiting for the host's lease", POLL_LIMIT_S)
            self._idle(0.1)
            tries += 1

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        self._tools.beat(stage, self._stage_limit_s)
        started = perf_counter()
        try:
            return work()
        finally:
            metrics.BATCH_SECONDS.labels(stage).observe(perf_counter() - started)


def _fate_of_lost(letter: Letter) -> Fate:
    """Somebody was faster. A row is theirs, and bytes from Kafka are kept with it, since they may still be needed.

    Without a row (the reason has gone in this very moment) it is tried again.
    """
    if letter.record.standing is not None:
        return REPEAT
    return STORED if letter.standing is not None else AGAIN


def _cell(letter: Letter) -> tuple[str, str, str]:
    fate = letter.fate
    status = "elsewhere" if fate and fate.goes_elsewhere else (fate.status or fate.reason) if fate else "none"
    provider = letter.account.provider if letter.outcome and letter.account else ""
    return status, provider, letter.job.priority
