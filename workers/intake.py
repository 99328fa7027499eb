"""The intake role: what producers put into the Redis list becomes rows, from which delivery workers lease it. Read `turn` first.

It must never acknowledge an item before its row, dead letter or cancel is committed, and sends nothing itself. An item that
comes twice is a repeat like any other. While Redis is away it waits, and nothing else does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from db import ledger, outbox
from db.connection import Cursor
from db.outbox import Posting
from intake.redis_list import RedisList
from mail.record import Record
from telemetry import metrics
from workers.failpoints import Failpoints
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.admission import settle_repeats
from workers.steps.bookkeeping import Bookkeeper
from workers.steps.letter import REPEAT, STORED, Batch, Fate, Letter
from workers.steps.patience import Patience
from workers.steps.portions import portions
from workers.steps.quarantine import Quarantine
from workers.steps.reception import Reception

ITEMS_MOST = 500
IDLE_S = 0.1
TURN_LIMIT_S, STAGE_LIMIT_S = 60.0, 120.0
WAITING = Fate("pending", reason="waiting", delay_s=0.0, keeps_payload=True)  # due at once, for whichever worker serves its lane


class Tools(NamedTuple):
    """What the intake works with; workers/intake_wiring.py makes them."""

    queue: RedisList
    reception: Reception
    bookkeeper: Bookkeeper
    patience: Patience
    quarantine: Quarantine
    desk: EventDesk
    board: StatusBoard
    failpoints: Failpoints
    beat: Callable[[str, float], None]
    wait: Callable[[float], None]
    note_batch: Callable[[int], None]


class Intake:
    """The loop of one process."""

    def __init__(self, tools: Tools):
        self._tools = tools

    def turn(self) -> int:
        """Take what is there, store it, acknowledge it; returns how many items that were."""
        self._tools.beat("taking", TURN_LIMIT_S)
        self._tools.desk.serve()
        self._tools.queue.give_back()
        items = self._tools.queue.take(ITEMS_MOST)
        if not items:
            self.tidy()
            self._tools.wait(IDLE_S)
            return 0
        self._tools.failpoints.hit("taken")
        for group in self._tools.quarantine.groups(items):
            for part in portions(group):
                self.handle(part)
        self._tools.failpoints.hit("stored")
        self._tools.queue.acknowledge()
        return len(items)

    def handle(self, items: Sequence[Record]) -> None:
        """From bytes to rows: one read, one transaction."""
        self._tools.beat("storing", STAGE_LIMIT_S)
        batch = self._tools.reception.decode(items)
        settle_repeats(batch.letters)
        self.store(batch)
        self._tools.quarantine.absolve(items)
        self._tools.note_batch(0)

    def store(self, batch: Batch) -> None:
        """Everything has a fate, and it is written down. An id that somebody else won in that very moment is looked at again."""
        self._tools.reception.admit(batch.going())
        for letter in batch.going():
            letter.fate = _fate_of_welcome(letter)
        desk = self._tools.desk
        done = desk.delivered()

        def record(cursor: Cursor, _: bool) -> tuple[list[Posting], list[Letter]]:
            posted = self._tools.bookkeeper.record(cursor, batch, done)
            return posted, _find_beaten(cursor, batch.letters)

        posted, beaten = self._tools.patience.insist("store", record)
        desk.forget(done)
        desk.publish(posted)
        lost = {letter.row_id for letter in beaten}
        self.tell(Batch(batch.records, [x for x in batch.letters if x.row_id not in lost], batch.misfits, batch.cancels))
        if beaten:
            for letter in beaten:
                letter.fate = None
            self.store(Batch(batch.records, beaten))

    def tell(self, batch: Batch) -> None:
        """Count what is on record now, and show producers where their jobs stand."""
        self._tools.board.show_batch(batch)
        decided = [(letter.job, letter.fate) for letter in batch.letters if letter.fate]
        for (status, priority), count in Counter((fate.status or fate.reason, job.priority) for job, fate in decided).items():
            metrics.JOBS_PROCESSED.labels(status, "", priority).inc(count)
        reasons = [fate.reason for _, fate in decided if fate.is_dead_letter] + [misfit.reason for misfit in batch.misfits]
        for reason, count in Counter(reasons).items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)

    def tidy(self) -> None:
        """Nothing to do: forget the events that the broker has, before the keeper takes them for left over."""
        desk = self._tools.desk
        desk.serve()
        if done := desk.delivered():
            self._tools.patience.insist("tidy", lambda cursor, _: outbox.delete(cursor, done))
            desk.forget(done)


def _fate_of_welcome(letter: Letter) -> Fate:
    """A job that may be sent now is due at once. One whose row waits for exactly these bytes gets them."""
    if letter.standing is None:
        return WAITING
    return REPEAT if letter.standing.has_payload else STORED


def _find_beaten(cursor: Cursor, letters: Sequence[Letter]) -> list[Letter]:
    """New jobs whose id was won by somebody else between our read and our write: perhaps with other content."""
    claimed = [letter for letter in letters if letter.standing is None and letter.fate and letter.fate.status]
    winners = ledger.find_keys(cursor, [letter.key for letter in claimed])
    return [letter for letter in claimed if letter.key in winners and winners[letter.key][0] != letter.row_id]
