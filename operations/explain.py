"""`manage.py explain ID`: the whole life of one email on one screen, in the order of time, and what will happen next.

Only reads. Addresses, names and subjects are concealed unless somebody asks for them.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence

from config.settings import Settings
from db import identities, life, lookup
from db.connection import Cursor, Database
from db.identities import Identity
from db.life import Letter
from db.lookup import Match
from operations.forget import name_of
from operations.life import concealment, story
from operations.life.prospects import MANAGE
from operations.life.reported import Told
from operations.life.rereading import reread
from operations.life.story import Story
from operations.store import open_database

LISTED_MOST, DAYS_MOST = 20, 400


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("explain", help="the whole life of one email: what happened, why, and what comes next")
    command.add_argument(
        "id",
        metavar="ID",
        help="a job id (of a content request <MessageID>:<index>), an id of ours as commands and ESPs show it, or an ESP's message id",
    )
    command.add_argument("--tenant", type=int, help="whose job, where several tenants have this id")
    command.add_argument(
        "--days",
        type=_days,
        default=7,
        help="how far back to look for what has no index: message ids, and dead letters without an email (default: 7)",
    )
    command.add_argument("--show-addresses", action="store_true", help="addresses, names and subjects in full")
    command.add_argument("--json", action="store_true", help="the same and the records behind it, for a program")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    if not 0 < len(arguments.id) <= 1000 or not arguments.id.isprintable():
        print("ID: give 1 to 1000 printable characters", file=sys.stderr)
        return 2
    database = open_database(settings, "explain")
    matches = _search(database, arguments)
    if not matches:
        print("\n".join(_nothing(database, arguments)), file=sys.stderr)
        return 1
    if len(matches) > 1:
        print("\n".join(_several(database, matches, arguments)), file=sys.stderr)
        return 2
    told = _story(database, matches[0], arguments)
    if told is None:
        print(
            f"{arguments.id}: its row {matches[0].row_id} is gone by retention (RETENTION_JOBS_DAYS); the id is still known",
            file=sys.stderr,
        )
        return 1
    print(story.spell_json(told) if arguments.json else "\n".join(story.lines(told)))
    return 0


# -- which one ---------------------------------------------------------------------------------------------------------


def _search(database: Database, arguments: argparse.Namespace) -> list[Match]:
    """By what is indexed first; then the days one by one, the newest first, each in a transaction of its own."""
    found = database.run(lambda cursor: lookup.find(cursor, arguments.id, arguments.tenant, arguments.days))
    for days_ago in range(arguments.days):
        if found:
            break
        found = database.run(lambda cursor: lookup.find_by_message_id(cursor, arguments.id, arguments.tenant, days_ago))  # noqa: B023 (runs at once)
    return found


def _nothing(database: Database, arguments: argparse.Namespace) -> Iterator[str]:
    """What was looked for, where, and what to try."""
    id_, days = arguments.id, arguments.days
    known = database.run(lookup.known_tenants)
    own = lookup.own_id(id_)
    yield f"{id_}: nothing is known under this id. It was looked for as"
    yield f"  a producer's job id, of {_tenants(arguments.tenant, known)}"
    yield f"  an id of an attempt, a row or a dead letter ({own or 'it spells none'})"
    yield f"  the job id of a dead letter of the last {days} days of which no email was made"
    yield f"  an ESP's message id, among the attempts of the last {days} days"
    yield "an id that was never received, and one that retention has taken, are not told apart. What can be tried:"
    again = f"{MANAGE} explain {shlex.quote(id_)}"
    if days < DAYS_MOST:
        yield f"  {again} --days {min(max(30, days * 2), DAYS_MOST)}   (each day is read whole: about a second a million attempts)"
    if arguments.tenant is not None:
        yield f"  {again}   (any tenant)"
    if database.run(lambda cursor: lookup.find(cursor, f"{id_}:0", arguments.tenant, days)):
        yield f"  {MANAGE} explain {shlex.quote(f'{id_}:0')}   (this is a content request: its emails are called {id_}:0, {id_}:1 …)"


def _tenants(asked: int | None, known: Sequence[int]) -> str:
    if asked is not None:
        return f"tenant {asked}"
    more = f" and {len(known) - LISTED_MOST} more" if len(known) > LISTED_MOST else ""
    return f"tenants {', '.join(map(str, known[:LISTED_MOST]))}{more} (those set up here or that have ever sent; else say --tenant)"


def _several(database: Database, matches: Sequence[Match], arguments: argparse.Namespace) -> Iterator[str]:
    yield f"{arguments.id}: {len(matches)} emails have this {matches[0].found_as}; explain one of them:"
    rows = [match.row_id for match in matches if match.row_id]
    known = {identity.row_id: identity for identity in database.run(lambda cursor: identities.find(cursor, rows))}
    for match in matches[:LISTED_MOST]:
        id_, identity = arguments.id, known.get(match.row_id or "")
        command = f"{MANAGE} explain {match.row_id or shlex.quote(id_)}" + ("" if match.row_id else f" --tenant {match.tenant}")
        yield f"  {command}   ({_named(identity, arguments.show_addresses) if identity else f'tenant {match.tenant}'})"
    if len(matches) > LISTED_MOST:
        yield f"  … and {len(matches) - LISTED_MOST} more"


def _named(identity: Identity, is_open: bool) -> str:
    recipient = identity.recipient if is_open else concealment.hint(identity.recipient)
    return f"tenant {identity.tenant}, job {identity.job_id}, {identity.status}, to {recipient}"


# -- its story ---------------------------------------------------------------------------------------------------------


def _story(database: Database, match: Match, arguments: argparse.Namespace) -> Story | None:
    if match.row_id is None:
        return story.tell_letters(database.run(lambda cursor: _letters(cursor, match, arguments)), arguments.show_addresses)
    row_id = match.row_id
    found = database.run(lambda cursor: life.read(cursor, row_id, arguments.days, name_of))
    if found is None:
        return None
    recipient = found.row.recipient.lower()
    told = [Told(x, reread(x), bool(x.recipient) and x.recipient != recipient) for x in found.reports]
    return story.tell(found, told, arguments.show_addresses)


def _letters(cursor: Cursor, match: Match, arguments: argparse.Namespace) -> list[Letter]:
    if match.letter_id:
        return life.read_letters(cursor, None, 0, None, letter_id=match.letter_id)
    return life.read_letters(cursor, arguments.id, match.tenant or 0, arguments.days)


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= DAYS_MOST:
        raise argparse.ArgumentTypeError(f"give a number of days from 1 to {DAYS_MOST}")
    return int(text)
