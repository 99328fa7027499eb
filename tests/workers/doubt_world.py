"""A delivery worker, ESPs that can be asked, and keepers, over one ledger and a clock that the test winds: for tests of doubt."""

import json
import time
from datetime import UTC, datetime, timedelta

from db import doubt, templates, watermarks
from db.connection import Database
from db.default_templates import load
from esp.base import Limits, Search
from mail.outcome import NoReply, Reply, Request
from tests.workers.event_world import Sent, arrival_of, event
from tests.workers.ledger_world import TOPICS, job_bytes
from tests.workers.loop_world import Loop
from workers.failpoints import Failpoints
from workers.feedback.callbacks import Mailbag
from workers.feedback.event_books import EventBooks
from workers.keeping.doubt_keeper import DoubtKeeper, Terms
from workers.keeping.doubt_rules import Policies

MARGIN_S, GRACE_S = 300.0, 900.0
USUAL = Policies("resend", "hold", "hold")
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


class Silent:
    """An ESP that never reports and cannot be asked."""

    limits = Limits(1, 1, 1, 1, 1, evidence_margin_s=MARGIN_S)

    def __init__(self, account):
        self.account = account


class Reporting(Silent):
    """One that calls back."""

    def verify(self, callback):
        pass

    def parse_events(self, document):
        return []


class Searchable(Reporting):
    """One that can be asked, too: it answers a JSON list of the attempts that it knows."""

    def find(self, attempts):
        return [Search(Request("GET", "http://search", {}, b"", ()), (sought,)) for sought in attempts]

    def read_found(self, search, reply):
        if isinstance(reply, NoReply) or reply.status != 200:
            return {}
        return {sought.attempt_id: sought.attempt_id in json.loads(reply.body) for sought in search.attempts}


class Records:
    """What the ESP's search answers: `answer(request)`; counts how often it was asked."""

    def __init__(self):
        self.asked, self.answer = 0, lambda: NoReply(True, "read timed out")

    def knows(self, *attempt_ids):
        self.answer = lambda: Reply(200, {}, json.dumps(attempt_ids).encode())

    def send_all(self, requests, on_leaving):
        for request in requests:
            self.asked += on_leaving(request)
            yield request, self.answer()


class Board:
    """What producers are shown."""

    def __init__(self):
        self.shown = []

    def show(self, statuses):
        self.shown += [(each.job_id, each.status) for each in statuses]


class DoubtWorld(Loop):
    """Emails go out through one of two ESPs with the wire saying nothing; the simulated clock starts three hours ago."""

    def __init__(self, parameters, folder, esp=Reporting):
        super().__init__(parameters, folder)
        self.ledger.database.run(lambda c: templates.insert_missing(c, [template for template, _ in load()]))
        self.esp, self.records, self.board = esp, Records(), Board()
        self.began = self.now = datetime.now(UTC) - timedelta(hours=3)
        self.books = EventBooks("host/webhook-0", TOPICS)

    def close(self):
        self.flight_log.close()
        self.ledger.database.close()

    # -- what happens --------------------------------------------------------------------------------------------------

    def doubt(self, *job_ids, **fields):
        """These emails leave and nobody answers; from then on the ESPs accept."""
        self.wire.behave = lambda request: NoReply(True, "read timed out")
        self.deliver(*(job_bytes(job_id, f"{job_id}@example.com", **fields) for job_id in job_ids))
        self.wire.behave = lambda request: ["accepted"] * len(request.messages)
        self.date_doubts()

    def date_doubts(self):
        """The youngest doubts began at the simulated time."""
        self.run(
            "UPDATE uncertain_attempts SET since = %(now)s, check_at = %(now)s WHERE since > now() - interval '1 hour'", {"now": self.now}
        )

    def report(self, newest, *events, is_behind=False):
        """Events are applied, and with them the accounts' webhooks have reported up to that moment; nothing waits, unless we are behind."""
        bag = Mailbag([arrival_of(one) for one in events])
        bag.newest.update(dict.fromkeys([(a.provider, a.tenant) for a in self.accounts], newest))
        found = self.ledger.database.run(lambda cursor: self.books.record(cursor, bag, []))
        applied = dict.fromkeys([(topic, 0) for topic in self.topics.values()], None if is_behind else datetime.now(UTC))
        self.ledger.database.run(lambda cursor: watermarks.note_progress(cursor, applied))
        return found

    def postpone_callback(self, at):
        """A callback of each ESP came at that moment and could not be verified."""
        for topic in self.topics.values():
            put = (
                "INSERT INTO postponed_callbacks (topic, partition, record_offset, value, stored_at) VALUES (%(topic)s, 0, 0, 'x', %(at)s)"
            )
            self.run(put, {"topic": topic, "at": at})

    def keeper(self, policies=USUAL, failpoints=None, database=None, clock=None, exchange=None, monotonic=time.monotonic):
        return DoubtKeeper(
            Terms(policies, GRACE_S, self.topics, TOPICS.events),
            self.accounts,
            self.esp,
            exchange or self.records,
            database or self.ledger.database,
            "host/keeper-0",
            failpoints or Failpoints({}, None),
            self.board,
            clock or (lambda cursor: self.now),
            monotonic,
        )

    def keep(self, minutes, keeper=None):
        """So many minutes pass, a round of the keeper in each."""
        keeper = keeper or self.keeper()
        for _ in range(minutes):
            self.now += MINUTE
            keeper.round()

    def pass_watermark(self):
        """The webhooks have long reported everything there is up to the simulated time."""
        self.report(self.now)

    # -- what it came to -----------------------------------------------------------------------------------------------

    @property
    def topics(self):
        return {account.provider: f"webhook-{account.provider}" for account in self.accounts}

    def run(self, statement, values=None):
        self.ledger.database.run(lambda cursor: cursor.execute(statement, values or {}))

    def sent(self, job_id):
        """The job and its attempts, oldest first, as events speak of them."""
        row_id = self.ledger.job(job_id)["id"]
        sent = Sent(row_id, job_id, 0, f"{job_id}@example.com")
        rows = self.ledger.database.read("SELECT id FROM email_attempts WHERE job_id = %(id)s ORDER BY number", {"id": row_id})
        sent.attempts = [row[0] for row in rows]
        return sent

    def event(self, kind, job_id, attempt=0):
        sent = self.sent(job_id)
        (row,) = self.ledger.database.read("SELECT provider FROM email_attempts WHERE id = %(id)s", {"id": sent.attempts[attempt]})
        return event(kind, sent, attempt=attempt, provider=row[0])

    def providers(self, job_id):
        """Through whom its attempts went, oldest first."""
        row_id = self.ledger.job(job_id)["id"]
        rows = self.ledger.database.read("SELECT provider FROM email_attempts WHERE job_id = %(id)s ORDER BY number", {"id": row_id})
        return [row[0] for row in rows]

    def waits(self):
        """What the doubts wait for, by job."""
        found = self.ledger.database.run(lambda cursor: doubt.find(cursor, doubt.Choice()))
        return {u.job_id: u.waits_for for u in found}

    def resends(self):
        """Emails that a policy has sent again, by the audit log."""
        rows = self.ledger.database.read("SELECT details->'jobs' FROM audit_log WHERE action = 'uncertain resend by policy' ORDER BY id")
        return [job_id for row in rows for job_id in row[0]]

    def duplicates(self):
        return dict(self.ledger.database.read("SELECT provider, jobs FROM duplicate_counts"))

    def another_connection(self):
        return Database(self.ledger.parameters)
