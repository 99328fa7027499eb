"""The mails and callbacks that bench.webhooks measures: sends on record, and an ordinary life for each of them, as the ESPs word it."""

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from db import ledger
from db.connection import Database
from mail.ids import job_key, new_id, wire_id
from routing.mailbox_provider import mailbox_provider
from sandbox.fakes.callbacks import CallbackBuilder, Happening, Kind, Post
from sandbox.fakes.ledger import Line

PAGE = 500
AGE_S = 7_200.0  # how long ago they were sent: all that happened to them has happened by now
# How many of a hundred mails meet this, and how long after they were sent.
_LATER: tuple[tuple[Kind, int, float], ...] = (("open", 40, 3_600.0), ("click", 6, 3_700.0), ("unsubscribe", 1, 3_800.0))
_DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "example.com")


def make(database: Database, builders: dict[str, CallbackBuilder], emails: int, per_post: int, mark: str) -> Iterator[tuple[str, Post]]:
    """Mails on record, and all callbacks that they lead to."""
    for esp, builder in builders.items():
        lines = list(_send(database, esp, emails // len(builders), mark))
        for group in _groups([happening for line in lines for happening in _life(line)], per_post):
            yield from ((esp, post) for post in builder.posts(group, time.time()))


def _send(database: Database, esp: str, count: int, mark: str) -> Iterator[Line]:
    """So many mails of one ESP, on record as sent; yields what the fake would have in its ledger."""
    for start in range(0, count, PAGE):
        page = [_mail(esp, f"{mark}{start + n}") for n in range(min(PAGE, count - start))]
        database.run(partial(_record, page=page))
        yield from (line for _, _, _, line in page)


def _mail(esp: str, name: str) -> tuple[ledger.NewJob, ledger.NewAttempt, ledger.Result, Line]:
    sent_at_s, job_id = time.time() - AGE_S, f"{esp}-{name}"
    row_id, attempt_id = new_id(int(sent_at_s * 1000)), new_id(int(sent_at_s * 1000))
    email, message_id = f"person-{name}@{_DOMAINS[len(job_id) + ord(job_id[-1]) & 3]}", f"{esp}-message-{name}"
    job = ledger.NewJob(
        row_id=row_id,
        key=job_key(0, job_id),
        content_hash=b"x" * 32,
        tenant=0,
        job_id=job_id,
        type="newsletter",
        template="bench",
        email=email,
        name="A Person",
        subject="A subject line of an ordinary length",
        priority="normal",
        lane="normal",
        status="sending",
        max_retries=3,
        attempt_id=attempt_id,
        provider=esp,
    )
    attempt = ledger.NewAttempt(attempt_id, row_id, 0, 0, esp, mailbox_provider(email), "01900000-0000-7000-8000-000000000001", 1)
    result = ledger.Result(attempt_id, row_id, "accepted", "sent", message_id, "", 0, None)
    line: Line = {
        "at": sent_at_s,
        "provider": esp,
        "attempt_id": wire_id(attempt_id),
        "message_id": message_id,
        "recipient": email,
        "subject": job.subject,
        "request": 1,
    }
    return job, attempt, result, line


def _record(cursor: Any, page: Sequence[tuple[ledger.NewJob, ledger.NewAttempt, ledger.Result, Line]]) -> None:
    ledger.insert_jobs(cursor, [job for job, *_ in page])
    ledger.insert_attempts(cursor, [attempt for _, attempt, *_ in page], "bench/0/1")
    ledger.record_results(cursor, [result for _, _, result, _ in page])


def _life(line: Line) -> Iterator[Happening]:
    """An ordinary mail's: processed, then delivered (two of a hundred bounce), and perhaps opened, clicked, unsubscribed."""
    dice, at = random.Random(line["attempt_id"]), line["at"]
    bounces = dice.randrange(100) < 2
    yield Happening("processed", at + 1, line, 0)
    yield Happening("hard_bounce" if bounces else "delivered", at + 3, line, 1)
    for number, (kind, share, after_s) in enumerate(_LATER, 2):
        if not bounces and dice.randrange(100) < share:
            yield Happening(
                kind, at + after_s, line, number, "Mozilla/5.0 (X11; Linux) Thunderbird/128.4.0", "203.0.113.7", "https://a.test/"
            )


def _groups(happenings: list[Happening], size: int) -> Iterator[list[Happening]]:
    happenings.sort(key=lambda h: (round(h.at, -2), h.number))
    for start in range(0, len(happenings), size):
        yield happenings[start : start + size]
