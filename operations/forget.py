"""`manage.py forget ADDRESS`: erases a person. What must outlive it, a suppression, is kept as a hash; the audit log says who did it."""

import argparse
import getpass
import hashlib
from collections.abc import Iterator

from config.settings import Settings
from db import erasure, replay
from db.connection import Cursor
from db.erasure import Erased, Traces
from mail.ids import status_key
from operations import redis_copies
from operations.store import open_database


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("forget", help="erase an address from every table; suppressions are kept as hashes")
    command.add_argument("address", type=address)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    if not arguments.yes and input("This cannot be undone. Type the address again: ").strip().lower() != arguments.address:
        print("not the same address; nothing was done")
        return 2
    database = open_database(settings, "forget")
    try:
        erased, copies = database.run(lambda cursor: _forget(cursor, settings, arguments.address))
    except ConnectionError as problem:
        print(f"{problem}. So nothing was done: try again, or unset REDIS_HOST where it is gone for good")
        return 1
    print(
        f"{erased.jobs} emails made blank; {erased.events} events, {erased.payloads} payloads, {erased.dead_letters} dead letters and "
        f"{erased.outbox} unpublished events erased; {erased.mentions} mentions in other mail made blank; {copies} copies in Redis; "
        f"{erased.suppressions} suppressions kept as hashes"
    )
    if erased.shared_bodies:
        print(f"{erased.shared_bodies} stored originals are shared with other people's waiting mail; they go when that is done")
    for line in _elsewhere(settings):
        print(line)
    return 0


def _elsewhere(settings: Settings) -> Iterator[str]:
    """Where copies may be that no table knows of, and what becomes of them."""
    jobs = [*settings.kafka_topic_email_jobs_high, *settings.kafka_topic_email_jobs, *settings.kafka_topic_email_jobs_bulk]
    told = [settings.kafka_topic_email_events, settings.email_dead_letter_queue, *settings.webhook_topics.values()]
    yield f"not erased: Kafka's topics {', '.join(jobs + told)}: what lies there goes by their retention (retention.ms); so do backups"
    yield "not erased: emails not read yet, in these topics or in the Redis list email-jobs: they will be sent, and what is kept of them"
    yield "is erased by this command, typed again; what is reported later of mail that is out is kept without the address, by itself"
    yield f"not erased: {settings.state_dir}: what the workers have in hand; overwritten by their next batches"


def address(text: str) -> str:
    """An address as it is looked for."""
    if "@" not in text:
        raise argparse.ArgumentTypeError("give an email address")
    return text.strip().lower()


def name_of(address: str) -> str:
    """How the audit log names an address: by the beginning of its hash."""
    return f"sha256:{hashlib.sha256(address.encode()).hexdigest()[:32]}"


def _forget(cursor: Cursor, settings: Settings, address: str) -> tuple[Erased, int]:
    """Redis is asked before the commit, since afterwards nobody would know what to look for there."""
    erased, traces = erasure.forget(cursor, address)
    copies = _erase_copies(settings, address, traces) if settings.redis_host else 0
    replay.audit(cursor, getpass.getuser(), "forget", name_of(address), erased._asdict() | {"redis": copies})
    return erased, copies


def _erase_copies(settings: Settings, address: str, traces: Traces) -> int:
    def is_theirs(letter: str) -> bool:
        return erasure.is_about(letter, address, traces.dead_letters)

    keys = [status_key(*job) for job in traces.jobs]
    return redis_copies.erase(settings.redis_url.reveal(), keys, settings.email_dead_letter_queue, is_theirs)
