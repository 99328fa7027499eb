"""`manage.py cancel JOB ...`: stop emails that wait, and those that have not come yet. What is on its way cannot be called back."""

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime

from config.settings import Settings
from db import cancels, outbox, replay
from db.cancels import Answer
from db.connection import Cursor
from mail.job import Cancel
from operations import screen
from operations.store import open_database

_MEANING = {
    "cancelled": "it will not be sent",
    "again": "it was cancelled already",
    "noted": "no attempt will follow; the one that was made cannot be called back",
    "too late": "it ended before",
}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("cancel", help="stop emails that wait, or that have not come yet")
    command.add_argument(
        "ids", nargs="+", metavar="JOB", help="job ids as their producer gave them; of a content request <MessageID>:<index>"
    )
    command.add_argument("--tenant", type=int, default=0, help="whose jobs (default: 0)")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    if wrong := [id_ for id_ in arguments.ids if not 0 < len(id_) <= 100 or not id_.isprintable()]:
        print(f"JOB: a job id has 1 to 100 printable characters, which {len(wrong)} of these have not")
        return 2
    wanted = [Cancel(arguments.tenant, id_) for id_ in dict.fromkeys(arguments.ids)]
    answers = open_database(settings, "cancel").run(lambda cursor: _cancel(cursor, wanted, settings.kafka_topic_email_events))
    rows = [(a.job.job_id, a.word, a.status, _MEANING[a.word]) for a in answers]
    print(screen.table(("job", "cancel", "status", "which means"), rows, widest=100))
    return 1 if any(a.word == "too late" for a in answers) else 0


def _cancel(cursor: Cursor, wanted: Sequence[Cancel], topic: str) -> list[Answer]:
    answers = cancels.apply(cursor, wanted)
    outbox.insert(cursor, outbox.of_events(topic, cancels.news(answers, datetime.now(UTC))))
    details = {"jobs": [a.job.job_id for a in answers], "tenant": wanted[0].tenant, "words": [a.word for a in answers]}
    replay.audit(cursor, getpass.getuser(), "cancel", f"{len(answers)} emails", details)
    return answers
