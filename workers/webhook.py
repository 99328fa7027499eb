"""The webhook role: what ESPs report, in; statuses, counters, suppressions and events for others, out. Read `handle` first.

It must never believe a callback that was not verified, never commit an offset before everything up to it is recorded, and never
let one callback stop the others. A batch that comes twice changes nothing twice.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import NamedTuple, TypeVar

import telemetry.log
from db import outbox, suppressions, watermarks
from db.connection import UnfitValue
from intake.source import Source
from mail.record import Record
from telemetry import metrics
from workers.feedback.callbacks import Mailbag, Refusal, Sorter, is_retried
from workers.feedback.event_books import EventBooks, Findings
from workers.feedback.postponed import Postponed
from workers.feedback.progress import Progress
from workers.feedback.recorder import Recorder
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.lag_gauge import LagGauge
from workers.steps.portions import portions
from workers.steps.quarantine import Quarantine

log = telemetry.log.get("workers.webhook")
T = TypeVar("T")

POLL_S, POLL_LIMIT_S, STAGE_LIMIT_S = 0.5, 30.0, 120.0
RECORDS_MOST = 1_000
LATE_EVERY_S, PROGRESS_EVERY_S, SWEEP_EVERY_S = 1.0, 5.0, 3_600.0
LATE_PAGE, LATE_LIMIT_S = 500, 0.5


class Tools(NamedTuple):
    """What one webhook worker works with; workers/webhook_wiring.py makes them."""

    source: Source
    quarantine: Quarantine
    sorter: Sorter
    postponed: Postponed
    books: EventBooks
    recorder: Recorder
    desk: EventDesk
    lag: LagGauge
    progress: Progress
    beat: Callable[[str, float], None]
    note_batch: Callable[[int], None]
    clock: Callable[[], float] = time.monotonic
    board: StatusBoard = StatusBoard(None, "")


class UnderWay(NamedTuple):
    """A batch that is being recorded: its records, the outbox rows that go with it, and its end."""

    records: Sequence[Record]
    published_ids: list[str]
    end: "Future[Findings]"


class Webhook:
    """The loop of one worker. While Postgres records a batch or two, the next one is read."""

    def __init__(self, tools: Tools):
        self._tools = tools
        self._due_at_s = dict.fromkeys(("late", "progress", "sweep"), 0.0)
        self._under_way: deque[UnderWay] = deque()

    def turn(self) -> int:
        """Poll once and apply what came; returns how many records were handled."""
        self._tools.beat("polling", POLL_LIMIT_S)
        self._tools.desk.serve()
        self._tools.lag.show()
        records = self._take()
        for group in self._tools.quarantine.groups(records):
            for part in portions(group):
                self.handle(part)
        if not records:
            self.finish_all()
        self.do_chores()
        if not records:
            self.tidy()
        return len(records)

    def handle(self, records: Sequence[Record]) -> None:
        """The way of a batch: unwrap, verify and parse; join, settle and record in one transaction; publish, tell, commit. The last
        three are done by `finish`, when the next batches have been read."""
        bag = self._timed("sort", partial(self._tools.sorter.sort, records))
        self._tools.postponed.judge(bag)
        self._finish_down_to(self._tools.recorder.width - 1)
        self._begin(records, bag)

    def finish_all(self) -> None:
        self._finish_down_to(0)

    def finish(self) -> None:
        """The oldest batch under way is on record: now, and not before, it is published, told and committed."""
        records, done, end = self._under_way.popleft()
        try:
            findings = self._timed("record events", partial(self._tools.recorder.finish, end))
        except (UnfitValue, ValueError) as problem:
            self._handle_alone(records, problem)
            return
        self._tools.desk.forget(done)
        self._tools.desk.publish(findings.postings)
        self.tell(findings)
        self._tools.source.commit(records)
        self._tools.quarantine.absolve(records)
        self._tools.note_batch(0)

    def _finish_down_to(self, most: int) -> None:
        while len(self._under_way) > most:
            self.finish()

    def _begin(self, records: Sequence[Record], bag: Mailbag) -> None:
        """One transaction for the whole batch."""
        tools = self._tools
        being_deleted = {id_ for batch in self._under_way for id_ in batch.published_ids}
        done = [id_ for id_ in tools.desk.delivered() if id_ not in being_deleted]
        end = tools.recorder.begin("record events", lambda cursor, number: tools.books.record(cursor, bag, done, number))
        self._under_way.append(UnderWay(records, done, end))

    def tell(self, findings: Findings) -> None:
        """Count what is on record now, and show producers where their jobs stand."""
        self._tools.board.show(findings.statuses)
        for (provider, event), count in findings.tally.items():
            metrics.WEBHOOK_EVENTS.labels(provider, event).inc(count)
        for provider, count in findings.duplicates.items():
            log.error("events confirm two attempts of the same job", provider=provider, jobs=count)
        for reason, count in findings.refused.items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)
        for window in findings.held:
            log.error(
                "an ESP refused many addresses and delivered nothing: nobody is suppressed by that",
                provider=window.provider,
                tenant=window.account_tenant,
                since=datetime.fromtimestamp(window.start_s, UTC).isoformat(),
            )

    def do_chores(self) -> None:
        """What is done every so often, busy or idle; a store that is away has it done later. Late events may be settled beside a
        batch, as by another worker; what is applied reaches furthest when none is under way."""
        for name, every_s, most_under_way, chore in (
            ("late", LATE_EVERY_S, self._tools.recorder.width - 1, self.settle_late),
            ("progress", PROGRESS_EVERY_S, 0, self.note_progress),
            ("sweep", SWEEP_EVERY_S, 0, self.sweep),
        ):
            if self._tools.clock() >= self._due_at_s[name]:
                self._finish_down_to(most_under_way)
                self._timed(name, chore)
                self._due_at_s[name] = self._tools.clock() + every_s

    def settle_late(self) -> None:
        """Events that came before their send was recorded, page after page, for a while: there are many where an account is shared
        with a busy stranger, whose events wait for a send in vain."""
        until_s = self._tools.clock() + LATE_LIMIT_S
        while self._settle_page() == LATE_PAGE and self._tools.clock() < until_s:
            pass

    def _settle_page(self) -> int:
        """Returns how many were looked at."""
        findings = self._tools.recorder.insist(
            "late events", lambda cursor, number: self._tools.books.settle_late(cursor, LATE_PAGE, number)
        )
        self._tools.desk.publish(findings.postings)
        self.tell(findings)
        return findings.looked_at

    def note_progress(self) -> None:
        """Say up to when all that was in our partitions is applied: without that a watermark means nothing."""
        applied = self._tools.progress.reached()
        self._tools.progress.look(self._tools.recorder.insist("progress", lambda cursor, _: watermarks.note_progress(cursor, applied)))

    def sweep(self) -> None:
        """Forget rejections that nothing can change any more, and partitions that are no more."""
        self._tools.recorder.insist("sweep", lambda cursor, _: suppressions.sweep(cursor) + watermarks.sweep_progress(cursor))

    def tidy(self) -> None:
        """Nothing to do: forget the events that the broker has, before the keeper takes them for left over."""
        desk = self._tools.desk
        desk.serve()
        if done := desk.delivered():
            self._tools.recorder.insist("tidy", lambda cursor, _: outbox.delete(cursor, done))
            desk.forget(done)

    def _take(self) -> list[Record]:
        """What was postponed and may be tried now, and what Kafka has: in this order, since a topic with too much of it is held."""
        postponed = self._tools.postponed.take()
        return postponed + self._tools.source.poll(RECORDS_MOST, 0.0 if self._under_way or postponed else POLL_S)

    def _handle_alone(self, records: Sequence[Record], problem: Exception) -> None:
        """Something in these records is what Postgres cannot hold: one after the other, so that it costs itself only."""
        if len(records) > 1:
            for record in records:
                self.handle([record])
                self.finish_all()
            return
        (record,) = records
        log.error("the store cannot hold what a callback says", record=record.name, kind=type(problem).__name__)
        refusal = Refusal(record, f"the store cannot hold it ({type(problem).__name__})")
        bag = Mailbag(refusals=[refusal], read=[record.offset] if is_retried(record) else [])
        findings = self._tools.recorder.insist("refuse", lambda cursor, number: self._tools.books.record(cursor, bag, [], number))
        self._tools.desk.publish(findings.postings)
        self.tell(findings)
        self._tools.source.commit(records)

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        self._tools.beat(stage, STAGE_LIMIT_S)
        started = perf_counter()
        try:
            return work()
        finally:
            metrics.BATCH_SECONDS.labels(stage).observe(perf_counter() - started)
