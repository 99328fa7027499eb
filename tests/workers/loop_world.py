"""The delivery loop over a real ledger, with a source, ESPs and a wire that the test holds in its hands."""

import json
import mmap

from db import default_templates, due, templates
from db.payloads import Vault
from intake.lanes import LANES
from mail.account import Account
from mail.limits import DecodeLimits
from mail.message import Address
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from render.renderer import Renderer
from routing.router import Router
from routing.snapshot import SIZE_BYTES, SnapshotReader
from tests.workers.ledger_world import BOOT, TOPICS, Ledger, record_of
from workers.delivery import Delivery, Tools
from workers.failpoints import Failpoints
from workers.flight import settlement
from workers.flight.flight_log import FlightLog
from workers.steps.composing import Composer
from workers.steps.dispatch import Dispatcher
from workers.steps.judgement import RetryPolicy
from workers.steps.lane_watch import LaneWatch
from workers.steps.lane_window import open_window
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine
from workers.steps.reception import House, Reception
from workers.steps.sending import Sender
from workers.steps.shelf import Shelf
from workers.steps.store_clock import StoreClock
from workers.supervising.shared import HostLease, Permit, Shared


class Source:
    """Records that the test puts in; what was committed can be looked at."""

    def __init__(self):
        self.waiting, self.committed, self.lost, self.kept_alive, self.held, self.held_lanes = [], [], set(), 0, (), ()

    def poll(self, limit, timeout_s):
        free = [record for record in self.waiting if record.topic not in self.held and record.lane not in self.held_lanes]
        records = free[:limit]
        taken = set(map(id, records))
        self.waiting = [record for record in self.waiting if id(record) not in taken]
        return records

    def hold(self, topics):
        self.held = topics

    def hold_lanes(self, lanes):
        self.held_lanes = lanes

    def commit(self, records):
        self.committed += records

    def owns(self, record):
        return record.name not in self.lost

    def keep_alive(self):
        self.kept_alive += 1

    def close(self):
        pass


class Esp:
    """An ESP that speaks JSON lists of words: one verdict a message, in order."""

    def __init__(self, account, group=1000):
        self.account, self.group, self.cannot = account, group, None

    def unsupported(self, message):
        return self.cannot(message) if self.cannot else None

    def prepare(self, messages):
        groups = [tuple(messages[n : n + self.group]) for n in range(0, len(messages), self.group)]
        return [Request("POST", f"http://{self.account.provider}", {}, b"", group) for group in groups]

    def interpret(self, request, reply):
        if isinstance(reply, NoReply):
            verdict = Verdict.UNKNOWN if reply.has_left else Verdict.UNAVAILABLE
            return [Outcome(m.attempt_id, verdict, Blame.NETWORK, detail=reply.error) for m in request.messages]
        words = json.loads(reply.body)
        return [Outcome(m.attempt_id, Verdict(w), message_id=f"id-{m.attempt_id}") for m, w in zip(request.messages, words, strict=True)]


class Wire:
    """Every request meets `behave(request)`, which answers a list of words, a NoReply, or raises. Keeps what each ESP accepted."""

    def __init__(self):
        self.behave = lambda request: ["accepted"] * len(request.messages)
        self.requests, self.accepted = [], []

    def send_all(self, requests, on_leaving, may_begin):
        for request in requests:
            if not on_leaving(request):
                yield request, NoReply(False, "held back")
                continue
            self.requests.append(request)
            answer = self.behave(request)
            if isinstance(answer, NoReply):
                yield request, answer
                continue
            provider = request.url.removeprefix("http://")
            self.accepted += [(provider, m.to[0].email) for m, w in zip(request.messages, answer, strict=True) if w == "accepted"]
            yield request, Reply(200, {}, json.dumps(answer).encode())


class Unbreakable:
    """Breakers that never open."""

    def note(self, account, outcomes):
        pass

    def is_open(self, account):
        return False

    def take_probe(self, account):
        return False


class Desk:
    def __init__(self):
        self.posted = []

    def serve(self):
        pass

    def delivered(self):
        return []

    def forget(self, ids):
        pass

    def publish(self, postings):
        self.posted += postings

    def events(self):
        return [json.loads(value) for posting in self.posted for value in posting.values if posting.topic == "email-events"]


class Loop:
    """One worker. `providers` have equal weights."""

    def __init__(self, parameters, folder, providers=("postmark", "sendgrid"), slot=0, breakers=None, failpoints=None):
        self.ledger = Ledger(parameters)
        self.failpoints = failpoints or Failpoints({}, None)
        self.ledger.database.run(lambda c: templates.insert_missing(c, [template for template, _ in default_templates.load()]))
        self.source, self.desk, self.folder = Source(), Desk(), folder
        self.equip(providers)
        self.slot = self.ledger.claim(slot)
        self.flight_log = FlightLog(settlement.flight_path(folder, slot), BOOT, self.slot.incarnation)
        self.lease = HostLease(mmap.mmap(-1, mmap.PAGESIZE))
        self.permit = Permit(self.lease)
        self.has_lease, self.beats, self.on_wait = True, [], lambda: None
        self.suppress_now = None
        self.breakers = breakers or Unbreakable()
        self.board = Shared(SIZE_BYTES).lanes
        self.clock = StoreClock()
        self.delivery = Delivery(self._tools(), 500, 60.0)

    @property
    def has_lease(self):
        return self.lease.is_held()

    @has_lease.setter
    def has_lease(self, is_held):
        self.lease.hold_until(self.lease.now_ns() + 3600 * 10**9 if is_held else 0)

    def equip(self, providers):
        """The ESPs and the wire to them."""
        self.wire = Wire()
        self.accounts = [Account(name, 0, f"http://{name}", {}) for name in providers]
        self.esps = {account.provider: Esp(account) for account in self.accounts}

    def make_sender(self, points):
        return Sender(lambda a: self.esps[a.provider], self.wire, self.flight_log, self.permit.is_good, points, self.note_answers)

    def note_answers(self, account, outcomes):
        self.breakers.note(account, outcomes)
        self.lanes.note_answers(account, outcomes)

    def _tools(self):
        books, shelf, points = self.ledger.keeper_of(self.slot), Shelf(), self.failpoints
        patience = Patience(self.ledger.database, self.source.keep_alive, lambda s: self.on_wait(), self.note_beat)
        quarantine = Quarantine(patience)
        self.clock_s = 0.0
        self.lanes = LaneWatch(
            self.ledger.database,
            patience,
            open_window(self.folder / "lanes"),
            self.board,
            self.accounts,
            LANES,
            self.slot.place,
            Vault(),
            lambda: self.clock_s,
        )
        sender = self.make_sender(points)
        policy = RetryPolicy(60, 3, uniform=lambda low, high: high)
        now = self.clock
        house = House(DecodeLimits(), lambda address: not address.startswith("stranger"))
        return Tools(
            source=self.source,
            reception=Reception(house, books, patience, shelf, quarantine, self.flight_log, points, now),
            composer=Composer(Renderer(), shelf, self.flight_log, Address("me@example.com"), None, None, policy, now),
            dispatcher=Dispatcher(self._router(), SnapshotReader(bytearray(SIZE_BYTES)), sender, policy, now),
            sender=sender,
            bookkeeper=books,
            patience=patience,
            policy=policy,
            quarantine=quarantine,
            flight_log=self.flight_log,
            desk=self.desk,
            lag=type("Lag", (), {"show": lambda self: None})(),
            lanes=self.lanes,
            failpoints=points,
            may_send=self.lease.is_held,
            beat=self.note_beat,
            wait=lambda s: None,
            note_batch=lambda n: None,
            now=now,
            take_permit=self.permit.take,
        )

    def _router(self):
        return Router(self.accounts, is_open=self.breakers.is_open, take_probe=self.breakers.take_probe)

    def note_beat(self, stage, deadline_s):
        self.beats.append(stage)

    def succeed(self, folder):
        """A new process in the same slot, which settles what the last one left."""
        self.flight_log.close()
        number = self.slot.number
        self.slot = settlement.take_over(self.ledger.database, folder, self.slot.host, number, BOOT, 1, TOPICS.events).slot
        self.flight_log = FlightLog(settlement.flight_path(folder, number), BOOT, self.slot.incarnation)
        self.has_lease = True
        self.delivery = Delivery(self._tools(), 500, 60.0)

    def deliver(self, *values):
        """Put these values into the source and turn once; returns their records."""
        records = [record_of(value) for value in values]
        self.source.waiting += records
        self.delivery.turn()
        return records

    def lease_due(self):
        """Make every waiting row due and turn until none is left."""
        self.ledger.database.run(lambda c: c.execute("UPDATE email_jobs SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL"))
        return self.take_due()

    def take_due(self):
        """Lease what is due and turn; returns the rows."""
        lanes = [lane for lane in LANES if lane not in self.lanes.held]
        rows = self.ledger.database.run(lambda c: due.lease(c, self.slot.place, lanes, 100, 300, Vault()))
        self.source.waiting += rows
        self.delivery.turn()
        return rows

    def forget_suspects(self):
        """What this worker read about suspects is old: it will ask again."""
        self.delivery._tools.quarantine._read_at_s = float("-inf")

    def status(self, job_id):
        return self.ledger.job(job_id)["status"]
