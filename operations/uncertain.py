"""`manage.py uncertain list|confirm|resend|abandon`: emails of which nobody knows whether the ESP took them.

Nothing here is guessed: somebody who looked at the ESP's own pages decides, and the audit log says who.
"""

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from config.settings import Settings
from db import dead_letters, doubt, ledger, outbox, payloads, replay
from db.connection import Cursor
from db.dead_letters import DeadLetter
from db.doubt import Uncertain
from db.payloads import Payload, Vault
from mail.ids import new_id
from mail.published import Published
from operations import screen
from operations.store import open_database

PAGE = 500


class Decision(NamedTuple):
    """What a command does to an attempt and its job."""

    help: str
    state: str
    status: str
    why: str


DECISIONS = {
    "confirm": Decision("the ESP took them: they count as sent", "accepted", "sent", "confirmed by an operator"),
    "resend": Decision("the ESP did not take them: send them again", "not_taken", "pending", "an operator says that it was not taken"),
    "abandon": Decision("leave them unsent: they are dead", "not_taken", "dead", "abandoned by an operator, in doubt whether it was taken"),
}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("uncertain", help="list or settle emails that an ESP may have taken").add_subparsers(required=True)
    listing = group.add_parser("list", help="the oldest of them")
    listing.add_argument("--limit", type=int, default=20)
    _add_choice(listing)
    listing.set_defaults(run=show_list)
    for name, decision in DECISIONS.items():
        command = group.add_parser(name, help=decision.help)
        command.add_argument("ids", nargs="*", metavar="ATTEMPT", help="attempt ids as `list` shows them")
        command.add_argument("--all", action="store_true", help="really all that fit no other choice")
        _add_choice(command)
        command.set_defaults(run=run, decision=name)


def show_list(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "uncertain")
    found = database.run(lambda c: doubt.find(c, None, arguments.provider, arguments.older, arguments.limit))
    if not found:
        print("nothing is in doubt")
        return 0
    rows = [(u.attempt_id, u.job_id, u.tenant, u.provider, f"{u.since:%Y-%m-%d %H:%M:%S}", u.reason) for u in found]
    print(screen.table(("attempt", "job", "tenant", "provider", "since (UTC)", "why"), rows, widest=50))
    return 0


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    if not (arguments.ids or arguments.provider or arguments.older or arguments.all):
        print("say which: attempt ids, --provider, --older, or --all")
        return 2
    decision, moved, left = DECISIONS[arguments.decision], 0, 0
    vault = Vault([key.reveal() for key in settings.encryption_keys])
    database = open_database(settings, "uncertain")
    is_done = False
    while not is_done:
        found, done = database.run(lambda cursor: _decide_page(cursor, arguments, decision, vault, settings))
        moved, left, is_done = moved + done, found - done, not done
    print(f"{moved} emails: {decision.help}" + (f"; {left} had moved on or have no bytes to send" if left else ""))
    return 0 if moved or left else 1


def _set_aside(cursor: Cursor, abandoned: Sequence[Uncertain], vault: Vault, topic: str) -> None:
    """Dead letters with their original bytes, so that even this decision can be undone by a replay."""
    stored = {p.row_id: p for p in payloads.load(cursor, [u.row_id for u in abandoned], vault)} if abandoned else {}
    letters = [_dead_letter(u, stored.get(u.row_id)) for u in abandoned]
    dead_letters.insert(cursor, letters)
    outbox.insert(cursor, dead_letters.posting(topic, letters, datetime.now(UTC)))


def _tell(cursor: Cursor, decided: Sequence[Uncertain], event: str, why: str, topic: str) -> None:
    """Other programs hear of the end of a job, whoever decided it."""
    names = {identity.row_id: identity for identity in ledger.find_identities(cursor, [u.row_id for u in decided])}
    now = datetime.now(UTC).isoformat()
    told = [
        Published(
            event_id=f"{u.attempt_id}:{event}",
            event=event,
            job_id=u.job_id,
            provider=u.provider,
            recipient=names[u.row_id].recipient,
            tenant=u.tenant,
            campaign_id=names[u.row_id].campaign_id,
            at=now,
            reason=why,
        )
        for u in decided
    ]
    outbox.insert(cursor, outbox.of_events(topic, told))


def _dead_letter(u: Uncertain, payload: Payload | None) -> DeadLetter:
    value, index, source = (payload.value, payload.record_index, payload.source) if payload else (None, None, {})
    why = DECISIONS["abandon"].why
    return DeadLetter(new_id(), "retries-exhausted", why, u.job_id, u.tenant, source, value, u.row_id, index, u.number)


def _decide_page(cursor: Cursor, arguments: argparse.Namespace, decision: Decision, vault: Vault, settings: Settings) -> tuple[int, int]:
    found: list[Uncertain] = doubt.find(cursor, arguments.ids or None, arguments.provider, arguments.older, PAGE)
    moved = doubt.decide(cursor, found, decision.state, decision.status, decision.why)
    ended = [u for u in found if u.row_id in moved]
    if decision.status == "dead":
        _set_aside(cursor, ended, vault, settings.email_dead_letter_queue)
    if decision.status != "pending":
        payloads.delete(cursor, list(moved))
        _tell(cursor, ended, decision.status, decision.why, settings.kafka_topic_email_events)
    if found:
        details = {"attempts": [u.attempt_id for u in found]}
        replay.audit(cursor, getpass.getuser(), f"uncertain {arguments.decision}", f"{len(moved)} emails", details)
    return len(found), len(moved)


def _add_choice(command: argparse.ArgumentParser) -> None:
    command.add_argument("--provider", help="all of this ESP")
    command.add_argument("--older", type=float, default=0.0, metavar="SECONDS", help="in doubt for at least so long")
