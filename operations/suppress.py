"""`manage.py suppress list|add|remove|undo`: who gets no mail, and taking back what an incident brought.

The audit log names addresses by hash, since it outlives people who ask to be forgotten.
"""

import argparse
import getpass
from datetime import UTC, datetime
from typing import Any

from config.settings import Settings
from db import replay, suppressions
from db.connection import Cursor
from db.suppressions import Listed
from operations import screen
from operations.forget import address, name_of
from operations.store import open_database

REASONS = ("manual", "hard-bounce", "complaint", "unsubscribe")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("suppress", help="list, add, remove or undo suppressions").add_subparsers(required=True)
    listing = group.add_parser("list", help="the newest entries, and how many there are by reason and source")
    listing.add_argument("--address", type=address)
    listing.add_argument("--source", help="who brought them, such as sendgrid/0 (ESP and the account's tenant)")
    listing.add_argument("--limit", type=int, default=20)
    listing.set_defaults(run=show_list)
    adding = group.add_parser("add", help="send no more mail to an address")
    adding.add_argument("address", type=address)
    adding.add_argument("--tenant", type=int, help="mail of this tenant only, 0 being one too (default: everybody's mail)")
    adding.add_argument("--reason", choices=REASONS, default="manual", help="unsubscribe stops marketing mail only")
    adding.add_argument("--until", type=moment, help="when it ends (ISO 8601, UTC; default: never)")
    adding.set_defaults(run=add)
    removing = group.add_parser("remove", help="let mail to an address go out again")
    removing.add_argument("address", type=address)
    removing.add_argument("--tenant", type=int, help="only this tenant's own entries")
    removing.add_argument("--reason", choices=REASONS, help="only entries with this reason")
    removing.set_defaults(run=remove)
    undoing = group.add_parser("undo", help="take off everything that one source brought, such as an ESP's bad hour")
    undoing.add_argument("--source", required=True, help="as `list` shows it")
    undoing.add_argument("--since", type=moment, help="only events from then on (ISO 8601, UTC)")
    undoing.add_argument("--until", type=moment, help="only events before then")
    undoing.add_argument("--reason", choices=REASONS, help="only entries with this reason")
    undoing.set_defaults(run=undo)


def show_list(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "suppress")
    found = database.run(lambda cursor: suppressions.find(cursor, arguments.address, arguments.source, arguments.limit))
    if not found:
        print("nobody is suppressed" if not (arguments.address or arguments.source) else "no entry fits")
        return 0
    print(screen.table(("address", "tenant", "reason", "source", "since (UTC)", "until"), [_row(entry) for entry in found]))
    counts = database.run(suppressions.count)
    print("\n" + ", ".join(f"{number} {reason} by {source or 'nobody named'}" for reason, source, number in counts))
    return 0


def add(settings: Settings, arguments: argparse.Namespace) -> int:
    def work(cursor: Cursor) -> bool:
        user = getpass.getuser()
        is_added = suppressions.add(cursor, arguments.address, arguments.tenant, arguments.reason, f"operator {user}", arguments.until)
        if is_added:
            _audit(cursor, "suppress add", arguments, {"reason": arguments.reason, "tenant": arguments.tenant})
        return is_added

    if not open_database(settings, "suppress").run(work):
        print("there is an entry for everybody with this reason; remove it first if it is to be for this tenant only")
        return 1
    whose = "anybody" if arguments.tenant is None else f"tenant {arguments.tenant}"
    print(f"no more {'marketing ' if arguments.reason == 'unsubscribe' else ''}mail of {whose} to this address")
    return 0


def remove(settings: Settings, arguments: argparse.Namespace) -> int:
    def work(cursor: Cursor) -> list[str]:
        reasons = suppressions.remove(cursor, arguments.address, arguments.tenant, arguments.reason)
        if reasons:
            _audit(cursor, "suppress remove", arguments, {"reasons": reasons, "tenant": arguments.tenant})
        return reasons

    reasons = open_database(settings, "suppress").run(work)
    print(f"removed: {', '.join(sorted(reasons))}" if reasons else "there was no such entry")
    return 0 if reasons else 1


def undo(settings: Settings, arguments: argparse.Namespace) -> int:
    def work(cursor: Cursor) -> int:
        number = suppressions.undo(cursor, arguments.source, arguments.since, arguments.until, arguments.reason)
        limits = {"since": arguments.since, "until": arguments.until, "reason": arguments.reason, "entries": number}
        replay.audit(cursor, getpass.getuser(), "suppress undo", arguments.source, limits)
        return number

    number = open_database(settings, "suppress").run(work)
    print(f"{number} entries by {arguments.source} taken off")
    return 0 if number else 1


def moment(text: str) -> datetime:
    """A moment in ISO 8601, UTC where it names no offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("give a time such as 2026-11-25T14:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _row(entry: Listed) -> tuple[Any, ...]:
    tenant = "everybody" if entry.is_global else entry.tenant
    reason = f"{entry.reason} ({entry.stream})" if entry.stream else entry.reason
    return entry.address, tenant, reason, entry.source, f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.until or "–"


def _audit(cursor: Cursor, action: str, arguments: argparse.Namespace, details: dict[str, Any]) -> None:
    replay.audit(cursor, getpass.getuser(), action, name_of(arguments.address), details)
