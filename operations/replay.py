"""`manage.py dlq replay|drop`: bring dead letters back, or say that they are settled. Each exactly once, and on the audit log."""

import argparse
import getpass
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from config.settings import Settings
from db import dead_letters, ledger, outbox, payloads, postponed, replay
from db.connection import Cursor, Database
from db.dead_letters import DeadLetter
from db.ledger import NewJob
from db.payloads import Payload, Vault
from db.postponed import Postponed
from db.replay import Choice, Chosen
from mail.decode import decode, decode_one
from mail.errors import InvalidJob
from mail.ids import dead_letter_id, job_key, new_id
from mail.job import Cancel, Job, lane_of
from operations.store import open_database
from operations.suppress import moment

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
        command.add_argument("ids", nargs="*", type=_letter_id, metavar="ID", help="dead letters by their whole id")
        add_choice(command)
        command.add_argument("--all", action="store_true", help="really all that fit no other choice")
        command.set_defaults(run=run)


def add_choice(command: argparse.ArgumentParser) -> None:
    """The ways to say which dead letters."""
    command.add_argument("--reason", help="all of this reason")
    command.add_argument("--template", help="all whose job has this template")
    command.add_argument("--since", type=moment, help="died at this time or later (ISO 8601, UTC)")
    command.add_argument("--until", type=moment, help="died before this time")


def choice_of(arguments: argparse.Namespace) -> Choice:
    ids = getattr(arguments, "ids", None) or None
    return Choice(ids, arguments.reason, arguments.since, arguments.until, arguments.template)


def run_replay(settings: Settings, arguments: argparse.Namespace) -> int:
    vault = Vault([key.reveal() for key in settings.encryption_keys])
    return _run(settings, arguments, lambda cursor, letters: revive(cursor, letters, vault, settings), "dlq replay")


def run_drop(settings: Settings, arguments: argparse.Namespace) -> int:
    return _run(settings, arguments, lambda _, letters: Page([x.id for x in letters], [], Counter(dropped=len(letters))), "dlq drop")


def revive(cursor: Cursor, letters: Sequence[Chosen], vault: Vault, settings: Settings) -> Page:
    """Dead jobs become due again; letters that never became a job are decoded once more, and become rows where they are jobs now. An
    ESP's callback is verified once more, and applied, by a webhook worker."""
    revived = replay.revive(cursor, letters, vault)
    page = Page([], [], Counter())
    for letter in letters:
        if letter.value is not None and letter.source.get("topic") in settings.webhook_topics.values():
            postponed.put(cursor, [Postponed(**letter.source, value=letter.value, received_at_s=letter.at.timestamp())])
            _note(page, letter, "replayed")
        elif letter.value is None:
            _note(page, letter, "still without the original bytes")
        elif letter.row_id:
            _note(page, letter, "replayed" if letter.row_id in revived else "not dead any more")
        else:
            _note(page, letter, _insert_again(cursor, letter, letter.value, vault, settings))
    return page


def _run(settings: Settings, arguments: argparse.Namespace, work: Work, action: str) -> int:
    choice = choice_of(arguments)
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


def _insert_again(cursor: Cursor, letter: Chosen, value: bytes, vault: Vault, settings: Settings) -> str:
    """Jobs become rows that are due, or scheduled. What is refused among them becomes a dead letter of its own."""
    items = _decode(value, letter.record_index, settings)
    jobs = [item for item in items if isinstance(item, Job)]
    if not jobs:
        return "still no job"
    new = [_row(job, settings.email_max_retries) for job in jobs]
    won = ledger.insert_jobs(cursor, new)
    refused = [item for item in items if isinstance(item, InvalidJob)] + _find_reused(cursor, [n for n in new if n.row_id not in won], jobs)
    if len(refused) == len(items):
        return f"still {refused[0].reason}"
    payloads.store(
        cursor, [Payload(n.row_id, value, j.index, letter.source) for n, j in zip(new, jobs, strict=True) if n.row_id in won], vault
    )
    _set_aside(cursor, letter, refused, settings)
    return "replayed" if won else "known already"


def _find_reused(cursor: Cursor, lost: Sequence[NewJob], jobs: Sequence[Job]) -> list[InvalidJob]:
    """Those whose id belongs to another email."""
    known = ledger.find_keys(cursor, [n.key for n in lost])
    index = {job_key(job.tenant, job.job_id): job.index for job in jobs}
    why = "id: was used before with other content; give every email its own id"
    return [
        InvalidJob("id-reused", why, n.job_id, n.tenant, index[n.key]) for n in lost if n.key in known and known[n.key][1] != n.content_hash
    ]


def _set_aside(cursor: Cursor, letter: Chosen, refused: Sequence[InvalidJob], settings: Settings) -> None:
    new = [
        DeadLetter(
            id=dead_letter_id(f"{problem.reason}:{letter.id}:{problem.index}", letter.value or b""),
            reason=problem.reason,
            error=problem.error,
            job_id=problem.job_id,
            tenant=problem.tenant,
            source=letter.source,
            value=letter.value,
            record_index=problem.index,
        )
        for problem in refused
    ]
    dead_letters.insert(cursor, new)
    outbox.insert(cursor, dead_letters.posting(settings.email_dead_letter_queue, new, datetime.now(UTC)))


def _decode(value: bytes, index: int | None, settings: Settings) -> Sequence[Job | Cancel | InvalidJob]:
    limits = settings.decode_limits
    return decode(value, limits) if index is None else [decode_one(value, index, limits)]


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
        status="scheduled" if job.scheduled_at else "pending",
        max_retries=max_retries if job.max_retries is None else job.max_retries,
        scheduled_at=job.scheduled_at.isoformat() if job.scheduled_at else None,
        expires_at=job.expires_at.isoformat() if job.expires_at else None,
        delay_s=0.0,
        campaign_id=job.campaign_id or None,
        batch_id=job.batch_id,
    )


def _note(page: Page, letter: Chosen, word: str) -> None:
    page.counts[word] += 1
    (page.left if word.startswith("still") else page.done).append(letter.id)


def _letter_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("give the whole id, as `dlq list` shows it") from None
