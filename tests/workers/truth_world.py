"""Emails brought to where the truth table wants them, by the product's own functions; and what an arrival does to them.

Me is slot 0 with a whole delivery loop, alive is slot 1, dead is slot 2, whose flight log lies there.
"""

import argparse
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from config.settings import load_settings
from db import dead_letters, due
from db.dead_letters import DeadLetter
from db.payloads import Vault
from mail.event import Event, EventType
from mail.ids import job_key, new_id
from mail.outcome import Outcome, Verdict
from operations import replay
from tests.operations.console import Console
from tests.workers.event_world import arrival_of
from tests.workers.intake_world import LANES, Office
from tests.workers.ledger_world import BOOT, TOPICS, job_bytes, letters_of, record_of
from tests.workers.loop_world import Loop
from workers.feedback.callbacks import Mailbag
from workers.feedback.event_books import EventBooks
from workers.flight import settlement
from workers.flight.flight_log import FlightLog
from workers.steps.letter import EXPIRED, Fate, dead

WAITING = ("pending", "pending without bytes", "scheduled", "retrying")
AFTER_SENDING = ("sent", "deferred", "delivered", "dropped", "bounced", "opened", "clicked", "unsubscribed", "complained")
UNSENT = ("suppressed", "expired", "cancelled", "dead")
OWNERS = ("nobody", "me", "alive", "dead")
_numbers = itertools.count()


class Impossible(Exception):
    """This cannot occur."""


class View(NamedTuple):
    """What is on record about a job, without times."""

    status: str
    attempts: int
    generation: int
    is_cancel_asked: bool
    has_bytes: bool
    is_queued: bool
    states: tuple[str, ...]


class Case:
    """One email. `held` is its leased row in its owner's hand, `stale` the same in mine from before it was decided, `batch` its newest
    attempt's."""

    def __init__(self, **fields):
        number = next(_numbers)
        self.job_id, self.address = f"case-{number}", f"case{number}@example.com"
        self.value = job_bytes(self.job_id, self.address, **fields)
        self.held = self.stale = self.batch = None


class TruthWorld:
    def __init__(self, parameters, folder, server):
        self.folder = folder
        self.loop, self.office = Loop(parameters, folder), Office(parameters, folder, server)
        self.ledger = self.loop.ledger
        self.settings = load_settings(Console(parameters, folder).environment, None)
        self.alive = self.ledger.claim(1)
        self.events = EventBooks("host/webhook-0", TOPICS)
        self.flight_log = None
        self.begin()

    def begin(self):
        """Nothing of an earlier case is in a queue; the worker that will be dead is new."""
        self.run("UPDATE email_jobs SET next_attempt_at = NULL, leased_by = NULL WHERE next_attempt_at IS NOT NULL")
        self.loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
        if self.flight_log:
            self.flight_log.close()
        self.dead = self.ledger.claim(2)
        self.flight_log = FlightLog(settlement.flight_path(self.folder, 2), BOOT, self.dead.incarnation)

    def close(self):
        self.flight_log.close()
        self.loop.flight_log.close()
        self.office.close()
        self.ledger.database.close()

    # -- where it stands ---------------------------------------------------------------------------------------------------

    def stand(self, status, owner, arrival):
        """An email of this status that this owner has; raises Impossible."""
        if status == "none":
            if owner != "nobody" or arrival == "due row":
                raise Impossible("there is no row that anybody could have")
            return Case()
        slot = {"nobody": None, "me": self.loop.slot, "alive": self.alive, "dead": self.dead}[owner]
        if status in WAITING:
            return self._wait(status, slot, arrival)
        if slot is None and status not in UNSENT:
            raise Impossible("an attempt names its owner")
        case = Case()
        if arrival == "due row":
            self.office.push(case.value)
            case.stale = self.lease(self.loop.slot, case)
        self._reach(case, status, slot)
        return case

    def _wait(self, status, slot, arrival):
        case = Case(scheduledAt=_in(3600)) if status == "scheduled" else Case()
        if status == "pending":
            self.office.push(case.value)
        elif status == "scheduled":
            self.loop.deliver(case.value)
        elif status == "retrying":
            self.attempt(case, self.loop.slot, Verdict.THROTTLED)
        else:
            self.fly(case, "prepared")
            self.take_over()
            if slot is not None or arrival == "due row":
                assert self.lease(self.loop.slot, case) is None
                raise Impossible("it is in no queue")
        if status != "pending without bytes":
            self.make_due(case)
        case.held = self.lease(slot, case) if slot else None
        return case

    def _reach(self, case, status, slot):
        if status == "sending":
            self.fly(case, "prepared") if slot is self.dead else self.open(case, slot)
        elif status == "uncertain" and slot is self.dead:
            self.fly(case, "leaving")
            self.take_over()
        elif status == "uncertain":
            self.attempt(case, slot, Verdict.UNKNOWN)
        elif status in AFTER_SENDING:
            self.attempt(case, slot, Verdict.ACCEPTED)
            if status != "sent":
                self.report(case, status)
        elif status == "dead" and slot:
            self.attempt(case, slot, Verdict.REJECTED)
        else:
            self._end_unsent(case, status, slot)

    def _end_unsent(self, case, status, slot):
        """By a decision about its newest standing: before any attempt, or after one that was refused for now."""
        record = case.stale
        if slot:
            self.attempt(case, slot, Verdict.THROTTLED)
            self.make_due(case)
            record = self.lease(slot, case)
        if status == "cancelled":
            self.loop.deliver(self.cancel_of(case))
            return
        batch = letters_of(record or record_of(case.value))
        fates = {"suppressed": Fate("suppressed", event="suppressed"), "expired": EXPIRED, "dead": dead("not-allowed", "guarded")}
        batch.letters[0].fate = fates[status]
        self.ledger.record(slot or self.loop.slot, batch)

    # -- steps ---------------------------------------------------------------------------------------------------------------

    def open(self, case, slot):
        """Its attempt is open; of a waiting row it must be the one that the lease or the stale record shows."""
        record = case.held or case.stale
        case.batch = letters_of(record or record_of(case.value))
        assert self.ledger.open(slot, case.batch), "not ours"

    def attempt(self, case, slot, verdict):
        self.open(case, slot)
        self.answer(case, slot, verdict)

    def answer(self, case, slot, verdict):
        """The answer to its newest attempt is recorded, however late."""
        for letter in case.batch.letters:
            letter.fate = letter.outcome = None
        return self.ledger.record(slot, case.batch, {case.job_id: verdict})

    def fly(self, case, stage, verdict=None):
        """The worker that is dead now came so far with it."""
        case.batch = letters_of(case.stale or record_of(case.value))
        ids = [letter.attempt_id for letter in case.batch.letters]
        handle = self.flight_log.prepare(ids)
        assert self.ledger.open(self.dead, case.batch)
        if stage != "prepared":
            self.flight_log.mark_leaving(handle)
        if verdict:
            self.flight_log.answer(handle, [Outcome(id_, verdict, message_id="m") for id_ in ids])

    def take_over(self, boot_id=BOOT):
        """The dead worker has a successor."""
        settlement.take_over(self.ledger.database, self.folder, "host", 2, boot_id, 1, TOPICS.events)

    def lose_host(self):
        settlement.doubt_all(self.ledger.database, "host", 2, BOOT, 1, TOPICS.events)

    def report(self, case, kind, attempt_id=None):
        """An event of its ESP."""
        attempt_id = attempt_id or case.batch.letters[0].attempt_id
        event = Event(EventType(kind), "postmark", new_id(), case.address, datetime.now(UTC), attempt_id=attempt_id)
        self.ledger.database.run(lambda cursor: self.events.record(cursor, Mailbag([arrival_of(event)]), []))

    def lease(self, slot, case, vault=None):
        """Its due row as this slot's worker gets it, or None. All other rows of the case's moment are in no queue."""
        records = self.ledger.database.run(lambda c: due.lease(c, slot.place, LANES, 100, 300, vault or Vault()))
        assert all(record.topic == f"row:{self.row(case)}" for record in records)
        return records[0] if records else None

    def make_due(self, case):
        """Its time has come, unless somebody has leased it or it is in no queue."""
        self.run(
            "UPDATE email_jobs SET next_attempt_at = now() WHERE id = %(id)s AND next_attempt_at IS NOT NULL AND leased_by IS NULL",
            id=self.row(case),
        )

    def cancel_of(self, case):
        return json.dumps({"id": case.job_id, "type": "cancel"}).encode()

    def replay(self, case):
        """`manage.py dlq replay` of its dead letters; where it has none, of one that was told before it came to where it is."""
        row_id = self.row(case)
        if not self.letters(case):
            letter = DeadLetter(new_id(), "rejected", "", case.job_id, 0, {}, case.value, row_id)
            self.ledger.database.run(lambda cursor: dead_letters.insert(cursor, [letter]))
        arguments = argparse.Namespace(ids=self.letters(case), reason=None, since=None, until=None, template=None, all=False)
        replay.run_replay(self.settings, arguments)
        assert self.letters(case) == []

    def arrive(self, case, owner, arrival):
        """It arrives by this way, and is acknowledged."""
        if arrival in ("Kafka", "cancel"):
            records = self.loop.deliver(case.value if arrival == "Kafka" else self.cancel_of(case))
            assert self.loop.source.committed[-1:] == records
        elif arrival == "Redis":
            self.office.push(case.value)
            assert self.office.left() == 0
        elif arrival == "replay":
            self.replay(case)
        else:
            self.deliver_row(case, owner)

    def deliver_row(self, case, owner):
        record = case.stale or (case.held if owner == "me" else None)
        if record is None:
            if owner == "dead":
                self.take_over()
            record = self.lease(self.loop.slot, case)
        self.turn(record)

    def turn(self, record):
        if record:
            self.loop.source.waiting.append(record)
            self.loop.delivery.turn()

    # -- what came of it -------------------------------------------------------------------------------------------------------

    def run_on(self, case, owner):
        """Everybody does what is left to do: holders deliver what they hold, owners get their answer, the dead get a successor, what
        is due goes out, and a record that was never acknowledged comes again. Returns the end."""
        if case.batch and owner in ("me", "alive") and self.view(case).status == "sending":
            self.answer(case, self.loop.slot if owner == "me" else self.alive, Verdict.ACCEPTED)
        self.take_over()
        if case.held and owner == "alive":
            batch = letters_of(case.held)
            if self.ledger.open(self.alive, batch):
                self.ledger.record(self.alive, batch)
        elif case.held and owner == "me":
            self.turn(case.held)
        self.run_due(case)
        end = self.view(case)
        if end.status == "pending" and not end.is_queued:
            self.loop.deliver(case.value)
        return self.view(case)

    def run_due(self, case):
        self.make_due(case)
        self.turn(self.lease(self.loop.slot, case))

    def sent_to(self, case):
        """How often the ESPs took it from my loop."""
        return sum(address == case.address for _, address in self.loop.wire.accepted)

    def view(self, case):
        rows = self.ledger.database.read(
            "SELECT j.status, j.attempts, j.generation, j.cancel_asked_at IS NOT NULL, EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id),"
            " j.next_attempt_at IS NOT NULL, ARRAY(SELECT a.state FROM email_attempts a WHERE a.job_id = j.id ORDER BY a.number)"
            " FROM email_jobs j WHERE j.id = %(id)s",
            {"id": self.row(case)},
        )
        return View(*rows[0][:-1], tuple(rows[0][-1])) if rows else None

    def row(self, case):
        rows = self.ledger.database.read("SELECT id FROM email_job_keys WHERE key = %(key)s", {"key": job_key(0, case.job_id)})
        return rows[0][0] if rows else None

    def letters(self, case):
        """The ids of its dead letters that wait."""
        values = {"job_id": case.job_id}
        rows = self.ledger.database.read("SELECT id FROM dead_letters WHERE job_id = %(job_id)s AND replayed_at IS NULL", values)
        return [row[0] for row in rows]

    def reasons(self, case):
        rows = self.ledger.database.read("SELECT reason FROM dead_letters WHERE job_id = %(job_id)s", {"job_id": case.job_id})
        return [row[0] for row in rows]

    def run(self, statement, **values):
        self.ledger.database.run(lambda cursor: cursor.execute(statement, values))


def word_for(before, after, sent):
    """What the table calls this change; `sent`: how often the ESPs took it by it."""
    if sent:
        return "sends" if sent == 1 and after.status == "sent" and after.attempts == (before.attempts if before else 0) + 1 else f"{after}"
    if before is None:
        made = after and after.is_queued and after.has_bytes and after.states == ()
        return "row" if made else "cancels" if after and after.status == "cancelled" else f"{after}"
    if after == before:
        return "nothing"
    changes = {
        "keeps": before._replace(has_bytes=True, is_queued=after.is_queued),
        "notes": before._replace(is_cancel_asked=True),
        "cancels": before._replace(status="cancelled", has_bytes=False, is_queued=False),
        "revives": before._replace(status="pending", generation=before.generation + 1, has_bytes=True, is_queued=True),
    }
    return next((word for word, change in changes.items() if change == after), f"{before} became {after}")


def _in(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
