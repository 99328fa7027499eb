"""`manage.py dlq replay|drop`: bring dead letters back, or say that they are settled. Each exactly once, and on the audit log."""

import argparse
import getpass
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from config.settings import Settings
from db import ledger, payloads, replay
from db.connection import Cursor, Database
from db.ledger import NewJob
from db.payloads import Payload, Vault
from db.replay import Choice, Chosen
from mail.decode import decode, decode_one
from mail.errors import InvalidJob
from mail.ids import job_key, new_id
from mail.job import Job, lane_of
from operations.store import open_database

PAGE = 500
Work = Callable[[Cursor, Sequence[Chosen]], "Page"]


class Page(NamedTuple):
    """What became of one page: ids that are done, ids that stay dead, and counts by what happened."""

    done: list[str]
    left: list[str]
    counts: Counter[str]


def add_to(group: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, run, words in (
        ("replay", run_replay, "send dead letters after all, from their original bytes, each once"),
        ("drop", run_drop, "say that dead letters are settled; they stay on record and are not replayed any more"),
    ):
        command = group.add_parser(name, help=words)
        command.add_argument("ids", nargs="*", metavar="ID", help="dead letters by their whole id")
        command.add_argument("--reason", help="all of this reason")
        command.add_argument("--template", help="all whose job has this template")
        command.add_argument("--since", type=_moment, help="died at this time or later (ISO 8601)")
        command.add_argument("--until", type=_moment, help="died before this time")
        command.add_argument("--all", action="store_true", help="really all that fit no other choice")
        command.set_defaults(run=run)


def run_replay(settings: Settings, arguments: argparse.Namespace) -> int:
    vault = Vault([key.reveal() for key in settings.encryption_keys])
    return _run(settings, arguments, lambda cursor, letters: revive(cursor, letters, vault, settings), "dlq replay")


def run_drop(settings: Settings, arguments: argparse.Namespace) -> int:
    return _run(settings, arguments, lambda _, letters: Page([x.id for x in letters], [], Counter(dropped=len(letters))), "dlq drop")


def revive(cursor: Cursor, letters: Sequence[Chosen], vault: Vault, settings: Settings) -> Page:
    """Dead jobs become due again; letters that never became a job are decoded once more, and become rows where they are jobs now."""
    revived = replay.revive(cursor, [letter for letter in letters if letter.row_id], vault)
    page = Page([], [], Counter())
    for letter in letters:
        if letter.row_id:
            _note(page, letter, "replayed" if letter.row_id in revived else "not dead any more")
        else:
            _note(page, letter, _insert_again(cursor, letter, vault, settings))
    return page


def _run(settings: Settings, arguments: argparse.Namespace, work: Work, action: str) -> int:
    choice = Choice(arguments.ids or None, arguments.reason, arguments.since, arguments.until, arguments.template)
    if choice == Choice() and not arguments.all:
        print("say which: ids, --reason, --template, --since, --until, or --all")
        return 2
    database = open_database(settings, action)
    counts: Counter[str] = Counter()
    for page in _pages(database, choice, work, action):
        counts += page.counts
    print(", ".join(f"{count} {word}" for word, count in counts.items()) or "no dead letter fits")
    return 1 if any(word.startswith("still") for word in counts) else 0


def _pages(database: Database, choice: Choice, work: Work, action: str) -> Iterator[Page]:
    skipped: list[str] = []

    def turn(cursor: Cursor) -> Page | None:
        letters = replay.choose(cursor, choice, skipped, PAGE)
        if not letters:
            return None
        page = work(cursor, letters)
        replay.mark(cursor, page.done)
        replay.audit(cursor, getpass.getuser(), action, f"{len(page.done)} dead letters", {"ids": page.done[:PAGE]})
        return page

    while (page := database.run(turn)) is not None:
        skipped += page.left
        yield page


def _insert_again(cursor: Cursor, letter: Chosen, vault: Vault, settings: Settings) -> str:
    value = letter.value or b""
    jobs = [item for item in _decode(value, letter.record_index, settings) if isinstance(item, Job)]
    if not jobs:
        return "still no job"
    new = [_row(job, settings.email_max_retries) for job in jobs]
    won = ledger.insert_jobs(cursor, new)
    payloads.store(
        cursor, [Payload(n.row_id, value, j.index, letter.source) for n, j in zip(new, jobs, strict=True) if n.row_id in won], vault
    )
    return "replayed" if won else "known already"


def _decode(value: bytes, index: int | None, settings: Settings) -> list[object]:
    limits = settings.decode_limits
    if index is not None:
        one: Job | InvalidJob = decode_one(value, index, limits)
        return [one]
    return list(decode(value, limits))


def _row(job: Job, max_retries: int) -> NewJob:
    return NewJob(
        row_id=new_id(),
        key=job_key(job.tenant, job.job_id),
        content_hash=job.content_hash,
        tenant=job.tenant,
        job_id=job.job_id,
        type=job.type,
        template=job.template,
        email=job.recipient.email,
        name=job.recipient.name,
        subject="",
        priority=job.priority,
        lane=lane_of(job.priority, job.campaign_id),
        status="pending",
        max_retries=max_retries if job.max_retries is None else job.max_retries,
        expires_at=job.expires_at.isoformat() if job.expires_at else None,
        delay_s=0.0,
        campaign_id=job.campaign_id or None,
        batch_id=job.batch_id,
    )


def _note(page: Page, letter: Chosen, word: str) -> None:
    page.counts[word] += 1
    (page.left if word.startswith("still") else page.done).append(letter.id)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()
