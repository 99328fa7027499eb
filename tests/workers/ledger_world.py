"""A migrated database, slots and letters for tests of what the workers write."""

import itertools
import json
from datetime import UTC, datetime

from db import migrate, slots
from db.connection import Database
from db.payloads import Vault
from mail.account import Account
from mail.decode import decode
from mail.ids import job_key, new_id
from mail.limits import DecodeLimits
from mail.message import Address, Message
from mail.outcome import Blame, Outcome, Verdict
from mail.record import Record
from workers.steps.bookkeeping import Bookkeeper, Topics
from workers.steps.judgement import RetryPolicy
from workers.steps.letter import Batch

ACCOUNT = Account("postmark", 0, "http://127.0.0.1:1", {"server_token": "x"})
BOOT = new_id()
TOPICS = Topics("email-events", "email-dlq")
_offsets = itertools.count()


def job_bytes(job_id, recipient="a@example.com", **fields):
    return json.dumps({"id": job_id, "type": "welcome-email", "recipient": {"email": recipient}, "data": {"n": 1}, **fields}).encode()


def record_of(value, topic="email-jobs", partition=0):
    return Record(value=value, lane="normal", topic=topic, partition=partition, offset=next(_offsets))


def letters_of(*records):
    """Decoded letters, as if rendered and routed."""
    batch = Batch(list(records))
    for record in records:
        for item in decode(record.value, DecodeLimits()):
            batch.add(record, item)
    for letter in batch.letters:
        make_ready(letter)
    return batch


def make_ready(letter):
    letter.account = ACCOUNT
    letter.cohort_id = new_id()
    letter.message = Message(letter.attempt_id, letter.job.tenant, Address("me@example.com"), letter.job.to, "Hello", "<p>x</p>", "x")


class Ledger:
    """One database as the tests see it."""

    def __init__(self, parameters):
        self.parameters = {key: str(value) for key, value in parameters.items()}
        self.database = Database(self.parameters)
        migrate.migrate(self.database)
        self.policy = RetryPolicy(60, 3, uniform=lambda low, high: high)

    def claim(self, number=0, host="host"):
        return self.database.run(lambda cursor: slots.claim(cursor, host, number, BOOT, 1)).slot

    def keeper_of(self, slot):
        return Bookkeeper(slot, Vault(), TOPICS, max_retries=3)

    def open(self, slot, batch, is_repeated=False, database=None):
        books = self.keeper_of(slot)
        return (database or self.database).run(lambda cursor: books.open(cursor, batch.going(), is_repeated))

    def look_up(self, batch):
        return self.database.run(lambda cursor: self.keeper_of(None).look_up(cursor, batch.letters, []))

    def record(self, slot, batch, verdicts=None, blame=Blame.ESP):
        for letter in batch.going():
            verdict = (verdicts or {}).get(letter.job.job_id, Verdict.ACCEPTED)
            letter.outcome = Outcome(letter.attempt_id, verdict, blame, message_id=f"m-{letter.job.job_id}", detail="said so")
            letter.fate = self.policy.judge(letter, letter.outcome, datetime.now(UTC))
        return self.database.run(lambda cursor: self.keeper_of(slot).record(cursor, batch, []))

    def job(self, job_id, tenant=0):
        rows = self.database.read(
            "SELECT j.id, j.status, j.attempt_id, j.attempts, j.next_attempt_at, j.message_id, j.retry_count, j.error_message"
            " FROM email_jobs j JOIN email_job_keys k ON k.id = j.id WHERE k.key = %(key)s",
            {"key": job_key(tenant, job_id)},
        )
        names = ("id", "status", "attempt_id", "attempts", "next_attempt_at", "message_id", "retry_count", "error")
        return dict(zip(names, rows[0], strict=True)) if rows else None

    def states(self, job_id):
        rows = self.database.read("SELECT state FROM email_attempts WHERE job_id = %(id)s ORDER BY number", {"id": self.job(job_id)["id"]})
        return [row[0] for row in rows]

    def count(self, table, where="true"):
        return self.database.read(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]
