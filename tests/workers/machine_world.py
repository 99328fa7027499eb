"""Two workers, an intake, a keeper, an operator and ESPs of which the test knows the truth, for tests of all that may happen in between.

Whatever a worker does is its real loop over a real ledger. At each named point of it something else may happen first, or it dies.
"""

import itertools
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

from db import doubt, due
from db.payloads import Vault
from db.replay import Choice
from mail.errors import Fenced
from mail.event import Event, EventType
from mail.ids import new_id
from mail.job import Cancel
from mail.outcome import NoReply
from operations import cancel as cancelling
from operations import replay as replaying
from operations import uncertain
from tests.workers.event_world import arrival_of
from tests.workers.intake_world import LANES, Office
from tests.workers.ledger_world import BOOT, TOPICS, job_bytes, record_of
from tests.workers.loop_world import Loop
from workers.feedback.callbacks import Mailbag
from workers.feedback.event_books import EventBooks
from workers.flight import settlement
from workers.intake import Intake
from workers.news.status_board import StatusBoard

POINTS = ("after-prepare", "after-open", "leaving", "answered", "before-record", "after-record")
LOST = ("lost but taken", "lost and not taken", "taken, then death")
ANSWERS = ("accepted", "rejected", "throttled", "unavailable", "unsupported", *LOST, "never left")


class Death(BaseException):
    """kill -9."""


class Points:
    """The failpoints of one process: `happenings` are functions by point, each used once; `death` is where it dies."""

    def __init__(self):
        self.happenings, self.death = {}, None

    def hit(self, name):
        happening = self.happenings.pop(name, None)
        if happening:
            happening()
        if name == self.death:
            raise Death

    def touch(self, value):
        pass


class Queue:
    """A Redis list: what is taken and not acknowledged comes again."""

    def __init__(self):
        self.items, self.in_hand = [], []

    def give_back(self):
        self.items, self.in_hand = self.in_hand + self.items, []

    def take(self, limit):
        self.in_hand, self.items = self.items, []
        return list(self.in_hand)

    def acknowledge(self):
        self.in_hand = []

    def keep_alive(self):
        pass


class Reading(Office):
    """An intake at such a queue."""

    def __init__(self, parameters, folder):
        self.queue = Queue()
        self._open(parameters, folder, StatusBoard(None, ""), Points())

    def die(self):
        self.intake = Intake(self._tools())


class MachineWorld:
    def __init__(self, parameters, folder, settings):
        self.folder, self.settings = folder, settings
        self.loops = [Loop(parameters, folder, slot=n, failpoints=Points()) for n in (0, 1)]
        self.office = Reading(parameters, folder)
        self.database = self.office.ledger.database
        self.books = EventBooks("host/webhook-0", TOPICS)
        self.examples = itertools.count()
        self.clear()

    def clear(self):
        """A world in which nothing has happened yet."""
        self.prefix = f"x{next(self.examples)}-"
        for table in ("email_jobs", "email_attempts", "email_tracking", "email_job_keys", "email_payloads", "email_payload_bodies"):
            self.run(f"DELETE FROM {table}")
        for table in ("dead_letters", "uncertain_attempts", "outbox", "suppressions", "esp_cohort_stats", "unmatched_events", "audit_log"):
            self.run(f"DELETE FROM {table}")
        self.office.queue.items, self.office.queue.in_hand = [], []
        self.kafka, self.acknowledged = [], set()
        self.taken = defaultdict(list)
        self.frozen, self.dropped, self.is_dead, self.hands = {}, False, [False, False], [None, None]
        for loop in self.loops:
            loop.source.waiting, loop.source.committed, loop.failpoints.happenings, loop.failpoints.death = [], [], {}, None
            loop.succeed(self.folder)

    def close(self):
        for loop in self.loops:
            loop.flight_log.close()
            loop.ledger.database.close()
        self.office.hand.close()
        self.database.close()

    # -- what comes ----------------------------------------------------------------------------------------------------------

    def value_of(self, job):
        """The bytes of a job by its name: "later" is scheduled, "old" has expired, "other" has the id of "first"."""
        more = {"later": {"scheduledAt": _in(3600)}, "old": {"expiresAt": _in(-60)}, "other": {"data": {"n": 2}}}.get(job, {})
        return job_bytes(self.id_of(job), f"{self.id_of(job)}@example.com", **more)

    def id_of(self, job):
        return self.prefix + ("first" if job == "other" else job)

    def produce(self, job, way):
        value = self.value_of(job)
        if way != "Redis":
            self.kafka.append(record_of(value))
        if way != "Kafka":
            self.office.queue.items.append(_redis_record(value))

    # -- what workers do -----------------------------------------------------------------------------------------------------

    def work(self, slot, source, answers, death=None, happenings=()):
        """One turn of a worker over all that Kafka has for it, or all due rows. It may die."""
        loop = self.loops[slot]
        if self.is_dead[slot]:
            return
        answers = itertools.cycle(answers)
        loop.wire.behave = lambda request: self.answer(request, answers)
        loop.failpoints.death, loop.failpoints.happenings = death, dict(happenings)
        lease = lambda c: due.lease(c, loop.slot.place, LANES, 100, 300, Vault())  # noqa: E731
        loop.source.waiting = list(self.kafka) if source == "Kafka" else loop.ledger.database.run(lease)
        loop.source.committed = []
        # the first job that it takes
        self.hands[slot] = next((_job_of(r).removeprefix(self.prefix) for r in loop.source.waiting), None)
        try:
            loop.delivery.turn()
        except (Death, Fenced):
            self.is_dead[slot] = True
        loop.failpoints.death, loop.failpoints.happenings = None, {}
        done = {record.name for record in loop.source.committed}
        self.acknowledged |= {_job_of(r) for r in self.kafka if r.name in done}
        self.kafka = [record for record in self.kafka if record.name not in done]

    def overtake(self, slot):
        """All leases have run out, and this worker tries the rows."""
        self.pass_time(is_lease_over=True)
        self.work(slot, "due", ["throttled"])

    def answer(self, request, answers):
        """What the ESP does with a request, and what it says; the truth is kept."""
        words = [next(answers) for _ in request.messages]
        first = words[0]
        if first == "never left":
            return NoReply(False, "refused")
        if first in LOST:
            if first != "lost and not taken":
                self.take(request.messages)
            if first == "taken, then death":
                raise Death
            return NoReply(True, "read timed out")
        words = ["accepted" if word in LOST or word == "never left" else word for word in words]
        self.take(m for m, word in zip(request.messages, words, strict=True) if word == "accepted")
        return words

    def take(self, messages):
        for message in messages:
            self.taken[message.to[0].email.removesuffix("@example.com")].append(message.attempt_id)

    def succeed(self, slot):
        if self.is_dead[slot]:
            self.loops[slot].succeed(self.folder)
            self.is_dead[slot] = False

    def take_in(self, death=None):
        """The intake stores what Redis has; it may die before or after that."""
        self.office.failpoints.death = death
        queue = self.office.queue
        before = {_job_of(record) for record in queue.items + queue.in_hand}
        try:
            self.office.intake.turn()
        except Death:
            self.office.die()
        self.acknowledged |= before - {_job_of(record) for record in queue.items + queue.in_hand}
        self.office.failpoints.death = None

    # -- what others do ------------------------------------------------------------------------------------------------------

    def lose_host(self, slot):
        """The keeper of another host takes this one for lost: nothing leaves it any more, though it lives and may hold answers."""
        self.loops[slot].has_lease = False
        settlement.doubt_all(self.database, "host", slot, BOOT, 1, TOPICS.events)

    def give_up(self, slot, other):
        """The host is lost, an operator says that nothing of it was taken, and another worker sends it."""
        self.lose_host(slot)
        self.decide("resend")
        self.pass_time()
        self.work(other, "due", ["accepted"])

    def pass_time(self, is_lease_over=False):
        where = "" if is_lease_over else " AND leased_by IS NULL"
        self.run(f"UPDATE email_jobs SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL{where}")

    def report(self, job, kind):
        """An event of an email that was taken; never of another."""
        taken = self.taken[self.id_of(job)]
        if taken:
            attempt_id = taken[0]
            provider = self.rows("SELECT provider FROM email_attempts WHERE id = %(id)s", id=attempt_id)[0][0]
            event = Event(EventType(kind), provider, new_id(), f"{self.id_of(job)}@example.com", datetime.now(UTC), attempt_id=attempt_id)
            self.database.run(lambda cursor: self.books.record(cursor, Mailbag([arrival_of(event)]), []))

    def cancel(self, job):
        answers = self.database.run(lambda c: cancelling._cancel(c, [Cancel(0, self.id_of(job))], TOPICS.events))
        if answers[0].word in ("cancelled", "again", "noted"):
            self.freeze(job)

    def suppress(self, job):
        address = f"{self.id_of(job)}@example.com"
        self.run("INSERT INTO suppressions (address, reason) VALUES (%(a)s, 'manual') ON CONFLICT DO NOTHING", a=address)
        self.freeze(job)

    def freeze(self, job):
        """From here on no attempt may be opened for it."""
        self.frozen.setdefault(self.id_of(job), self.attempts_of(self.id_of(job)))

    def attempts_of(self, job_id):
        return self.rows("SELECT count(*) FROM email_attempts a JOIN email_jobs j ON j.id = a.job_id WHERE j.job_id = %(id)s", id=job_id)[
            0
        ][0]

    def replay(self):
        vault = Vault()
        work = lambda cursor, letters: replaying.revive(cursor, letters, vault, self.settings)  # noqa: E731
        list(replaying._pages(self.database, Choice(), work, "dlq replay"))

    def drop(self):
        work = lambda _, letters: replaying.Page([x.id for x in letters], [], Counter())  # noqa: E731
        list(replaying._pages(self.database, Choice(), work, "dlq drop"))
        self.dropped = True

    def decide(self, word):
        """An operator who has looked at the ESP's own pages: confirms what was taken; resends or abandons what was not."""
        doubted = self.rows("SELECT u.attempt_id, j.job_id FROM uncertain_attempts u JOIN email_jobs j ON j.id = u.job_id")
        ids = [id_ for id_, job_id in doubted if (id_ in self.taken[job_id]) == (word == "confirm")]
        if ids:
            self.database.run(lambda c: uncertain._decide_page(c, word, doubt.Choice(ids), None, Vault(), self.settings))

    # -- what is on record -----------------------------------------------------------------------------------------------------

    def rows(self, statement, **values):
        return self.database.read(statement, values)

    def run(self, statement, **values):
        self.database.run(lambda cursor: cursor.execute(statement, values))


def _redis_record(value):
    from intake.redis_list import record_of as redis_record

    return redis_record(value)


def _job_of(record):
    return json.loads(record.value)["id"]


def _in(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
