"""`manage.py dlq list|show|replay|drop`: what was not sent, and why. A dead letter keeps its original bytes."""

import argparse
import sys

from config.settings import Settings
from db.connection import fetch
from db.queries import sql
from db.replay import find as find_dead_letters
from operations import replay, screen
from operations.store import open_database


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("dlq", help="list, show, replay or drop dead letters").add_subparsers(required=True)
    listing = group.add_parser("list", help="the newest dead letters, and how many there are by reason")
    replay.add_choice(listing)
    listing.add_argument("--limit", type=int, default=20)
    listing.set_defaults(run=show_list)
    one = group.add_parser("show", help="one dead letter, with its original bytes")
    one.add_argument("id", help="its id, or the beginning of it")
    one.add_argument("--raw", action="store_true", help="write the original bytes and nothing else")
    one.set_defaults(run=show_one)
    replay.add_to(group)


def show_list(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "dlq")
    counts = database.read(sql("count_dead_letters"))
    if not counts:
        print("no dead letters")
        return 0
    choice = replay.choice_of(arguments)
    rows = database.run(lambda cursor: find_dead_letters(cursor, choice, arguments.limit))
    if not rows:
        print("no dead letter fits")
        return 0
    lines = [
        (id_, reason, job_id or "–", attempts, f"{at:%Y-%m-%d %H:%M:%S}", "settled" if is_settled else "waiting", error)
        for id_, reason, error, job_id, attempts, at, is_settled in rows
    ]
    print(screen.table(("id", "reason", "job", "tries", "when (UTC)", "state", "error"), lines, widest=70))
    print("\nwaiting: " + (", ".join(f"{count} {reason}" for reason, count, _ in counts if count) or "none"))
    print(f"settled (replayed or dropped): {sum(settled for *_, settled in counts)}")
    return 0


def show_one(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "dlq")
    rows = database.run(lambda cursor: fetch(cursor, sql("show_dead_letter"), {"prefix": f"{arguments.id}%"}))
    if len(rows) != 1:
        print(f"{arguments.id}: {'several dead letters begin so, give more of the id' if rows else 'no such dead letter'}", file=sys.stderr)
        return 1
    names = ("id", "reason", "error", "job", "tenant", "row", "index", "source", "value", "tries", "when", "replayed")
    letter = dict(zip(names, rows[0], strict=True))
    value = bytes(letter.pop("value") or b"")
    if arguments.raw:
        sys.stdout.buffer.write(value)
        return 0
    for name, word in letter.items():
        print(f"{name:<9} {'–' if word is None else word}")
    print(f"\n{len(value)} original bytes:\n{value.decode(errors='backslashreplace')}")
    return 0
