"""A ledger with sends in it, and events that come for them, for tests of what the webhook role writes."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import msgspec

from db import cohorts
from db import ledger as ledger_rows
from db.connection import text_array, uuid_array
from mail.callback import Callback
from mail.event import Event, EventType
from mail.ids import job_key, new_id, time_of, tracking_id, wire_id
from tests.workers.ledger_world import TOPICS, Ledger
from workers.feedback import event_rules
from workers.feedback.callbacks import Mailbag
from workers.feedback.event_books import EventBooks
from workers.feedback.event_rules import Arrival

SENT_MS = 1_790_000_000_000
SENT_AT = datetime.fromtimestamp(SENT_MS / 1000, UTC)
_numbers = itertools.count()


class Sent:
    """One job and its attempts, as the delivery loop left them."""

    def __init__(self, row_id, job_id, tenant, recipient):
        self.row_id, self.job_id, self.tenant, self.recipient = row_id, job_id, tenant, recipient
        self.attempts = []

    @property
    def attempt_id(self):
        return self.attempts[-1]


class EventWorld(Ledger):
    """`send` puts a job into the ledger, `apply` has events for it recorded, `final` says what all of it came to."""

    def __init__(self, parameters, **options):
        super().__init__(parameters)
        self.books = EventBooks("host/webhook-0", TOPICS, **options)

    def clear(self):
        """An empty ledger; the default partitions and those of the days around now are all that there are."""
        names = self.rows(
            "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
            " AND c.relname <> 'schema_migrations' AND pg_relation_size(c.oid) > 0"
        )
        for row in names:
            self.run(lambda cursor, name=row["name"]: cursor.execute(f"DELETE FROM {name}"))

    def run(self, work):
        return self.database.run(work)

    def send(self, recipient="ann@a.test", *, tenant=0, provider="sendgrid", account_tenant=0, answer="accepted", message_id="mid", **more):
        """A job with one attempt: open, or answered so. `cohort` and `at_ms` may be given, and the `stream` of a cohort of its own."""
        sent = Sent(new_id(more.get("at_ms", SENT_MS)), f"job-{next(_numbers)}", tenant, recipient)
        attempt_id = new_id(more.get("at_ms", SENT_MS))
        job = ledger_rows.NewJob(
            row_id=sent.row_id,
            key=job_key(tenant, sent.job_id),
            content_hash=b"x" * 32,
            tenant=tenant,
            job_id=sent.job_id,
            type="newsletter",
            template="n",
            email=recipient,
            name="",
            subject="s",
            priority="normal",
            lane="normal",
            status="sending",
            max_retries=3,
            attempt_id=attempt_id,
            provider=provider,
        )
        self.run(lambda cursor: ledger_rows.insert_jobs(cursor, [job]))
        cohort = more.get("cohort") or new_id()
        if "stream" in more:
            self.run(lambda cursor: cohorts.insert(cursor, [(cohort, tenant, more["stream"], 0)]))
        self._open(sent, attempt_id, provider, account_tenant, cohort, 1)
        if answer != "open":
            self.answer(sent, answer, message_id)
        return sent

    def try_again(self, sent, *, provider="postmark", account_tenant=0, answer="accepted", message_id="mid-2", at_ms=SENT_MS + 60_000):
        """Another attempt for the same job."""
        attempt_id = new_id(at_ms)
        taking = ledger_rows.Taking(sent.row_id, attempt_id, sent.attempt_id, provider, "s")
        assert self.run(lambda cursor: ledger_rows.take_jobs(cursor, [taking])) == {sent.row_id}
        self._open(sent, attempt_id, provider, account_tenant, new_id(), len(sent.attempts) + 1)
        if answer != "open":
            self.answer(sent, answer, message_id)

    def answer(self, sent, answer, message_id="mid", attempt=-1):
        """What the ESP said to an attempt, recorded as the delivery loop does."""
        status, state, delay_s = {
            "accepted": ("sent", "accepted", None),
            "rejected": ("dead", "rejected", None),
            "throttled": ("retrying", "not_taken", 60.0),
            "unknown": ("uncertain", "uncertain", None),
        }[answer]
        attempt_id = sent.attempts[attempt]
        is_yes = state == "accepted"
        result = ledger_rows.Result(
            attempt_id, sent.row_id, state, status, message_id if is_yes else "", "" if is_yes else "said so", 0, delay_s
        )

        def record(cursor):
            closed = ledger_rows.record_results(cursor, [result])
            if status == "uncertain" and closed:
                doubt = ledger_rows.Doubt(attempt_id, sent.row_id, sent.tenant, "sendgrid", 0, "no answer")
                ledger_rows.insert_doubts(cursor, [doubt])
            return closed

        return self.run(record)

    def apply(self, *events, account_tenant=0, books=None):
        """Have these events recorded in one transaction, as coming from that account."""
        bag = Mailbag([arrival_of(event, account_tenant) for event in events])
        return self.run(lambda cursor: (books or self.books).record(cursor, bag, []))

    def settle_late(self, books=None):
        return self.run(lambda cursor: (books or self.books).settle_late(cursor, 500))

    def status(self, sent):
        return self.job(sent.job_id, sent.tenant)["status"]

    def attempt(self, sent, number=-1):
        """An attempt's columns by name."""
        return self.rows("SELECT * FROM email_attempts WHERE id = %(id)s", {"id": sent.attempts[number]})[0]

    def rows(self, statement, values=None):
        """The rows of a statement as dictionaries."""

        def read(cursor):
            cursor.execute(statement, values or {})
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self.run(read)

    def told(self):
        """Everything published on email-events so far, oldest first."""
        values = [row[0] for row in self.database.read("SELECT unnest(values) FROM outbox WHERE topic = 'email-events' ORDER BY id")]
        return [json.loads(value) for value in values]

    def counters(self, sent, number=-1):
        """A cohort's counters over all writers, those that are not 0."""
        cohort = self.attempt(sent, number)["cohort_id"]
        names = ("sent", "delivered", "opened", "opened_machine", "clicked", "bounced", "bounced_hard", "complained")
        sums = ", ".join(f"coalesce(sum({name}), 0)::int AS {name}" for name in names)
        row = self.rows(f"SELECT {sums} FROM esp_cohort_stats WHERE cohort_id = %(id)s", {"id": cohort})[0]
        return {name: count for name, count in row.items() if count}

    def suppressed(self, address="ann@a.test"):
        """The reasons and sources for which an address gets no mail."""
        rows = self.rows("SELECT tenant, reason, source FROM suppressions WHERE address = %(a)s ORDER BY 1, 2, 3", {"a": address})
        return [(row["tenant"], row["reason"], row["source"]) for row in rows]

    def final(self, sent, account_tenants=(0,)):
        """All that is on record about a job, without ids and times of writing: equal for equal histories."""
        job = self.rows(
            "SELECT status, delivered_at, opened_at, clicked_at, sent_at IS NULL, next_attempt_at IS NULL, message_id, error_message"
            " FROM email_jobs WHERE id = %(id)s",
            {"id": sent.row_id},
        )
        attempts = self.rows(
            "SELECT number, state, message_id, reported, bounce_class, delivered_at, opened_first_at, machine_opened_at,"
            " clicked_first_at, bounced_at, complained_at FROM email_attempts WHERE job_id = %(id)s ORDER BY number",
            {"id": sent.row_id},
        )
        tracking = self.rows(
            "SELECT event_type, occurred_at, provider, is_machine, ip_address, user_agent, job_id IS NULL AS is_unmatched"
            " FROM email_tracking WHERE job_id = %(id)s OR recipient = %(recipient)s ORDER BY 2, 1, 3, 4, 6, 5, 7",
            {"id": sent.row_id, "recipient": sent.recipient.lower()},
        )
        counters = [self.counters(sent, number) for number in range(len(sent.attempts))]
        marks = {"tenants": list(account_tenants)}
        watermarks = self.rows("SELECT newest_at FROM webhook_watermarks WHERE account_tenant = ANY(%(tenants)s) ORDER BY 1", marks)
        windows = self.rows(
            "SELECT has_delivery, is_held FROM account_windows WHERE account_tenant = ANY(%(tenants)s) ORDER BY window_start", marks
        )
        suppressed = [(tenant, reason) for tenant, reason, _ in self.suppressed(sent.recipient.lower())]
        doubts = self.count("uncertain_attempts", f"job_id = '{sent.row_id}'")
        return job, attempts, tracking, counters, watermarks, windows, suppressed, doubts

    def _open(self, sent, attempt_id, provider, account_tenant, cohort, number):
        attempt = ledger_rows.NewAttempt(attempt_id, sent.row_id, sent.tenant, account_tenant, provider, "other", cohort, number)
        self.run(lambda cursor: ledger_rows.insert_attempts(cursor, [attempt], "host/0/1"))
        sent.attempts.append(attempt_id)


def event(kind, sent=None, *, after_s=10.0, provider="sendgrid", attempt=-1, recipient=None, **more):
    """An event for an attempt of a job; `sent=None` leaves out our attempt id."""
    attempt_id = sent.attempts[attempt] if sent else ""
    sent_at = datetime.fromtimestamp(time_of(attempt_id), UTC) if sent else SENT_AT
    fields = {
        "type": EventType(kind),
        "provider": provider,
        "event_id": f"{kind}-{next(_numbers)}",
        "recipient": recipient if recipient is not None else sent.recipient if sent else "ann@a.test",
        "at": sent_at + timedelta(seconds=after_s),
        "attempt_id": attempt_id,
    }
    return Event(**(fields | more))


def arrival_of(event_, account_tenant=0, received_at_s=None):
    """What the sorter makes of an event that was verified for this account."""
    return Arrival(
        id=tracking_id(event_.provider, account_tenant, event_.event_id),
        event=event_,
        account_tenant=account_tenant,
        at=event_rules.moment_of(event_, received_at_s),
        recipient=event_.recipient.lower(),
        has_signs=event_rules.has_signs(event_),
        attempt_id=event_.attempt_id,
    )


class ListeningEsp:
    """A stand-in for an ESP's reader: its callbacks are events in our own JSON, believed where they say "genuine"."""

    def __init__(self, account, verify=lambda callback: None):
        self.account = account
        self.verify = verify

    def parse_events(self, document):
        events = document if isinstance(document, list) else [document]
        return [msgspec.convert(one, Event) for one in events]


def callback(raw, headers=None):
    """A callback as it reaches an ESP's `verify`."""
    return Callback(headers or {}, raw, json.loads(raw), None)


def spelled(sent):
    """An attempt's id as it travels."""
    return wire_id(sent.attempt_id)


__all__ = ["SENT_AT", "SENT_MS", "EventWorld", "ListeningEsp", "arrival_of", "callback", "event", "spelled", "text_array", "uuid_array"]
