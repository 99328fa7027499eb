"""`manage.py uncertain list|confirm|resend|abandon`: emails of which nobody knows whether the ESP took them.

Nothing here is guessed: somebody who looked at the ESP's own pages decides, and the audit log says who.
"""

import argparse
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from config.settings import Settings
from db import dead_letters, doubt, identities, outbox, payloads, replay
from db.connection import Cursor
from db.dead_letters import DeadLetter
from db.doubt import Choice, Uncertain
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
_ASK = "look the emails up on the ESP's own pages, then `uncertain confirm` or `resend`; `abandon` makes them dead letters"
# What the keeper's words (workers/keeping/doubt_rules.py) mean to an operator: what is the matter, and what can be done.
ADVICE = {
    "grace": ("its grace is not over", "wait: an event may still come"),
    "watermark": (
        "events of the account are not applied far enough",
        "wait; if it stays so, look at the ESP's webhook and email_kafka_lag",
    ),
    "no-watermark": (
        "held: no event of this account has ever been applied",
        f"set up the ESP's webhook; events from now on do it. Or {_ASK}",
    ),
    "unread": (
        "held: callbacks of the ESP that came since could not be verified",
        f"see that the webhook worker can fetch what it verifies them with, its log says what; or {_ASK}",
    ),
    "search": ("the ESP's search does not answer, or reaches back no more", f"check the API key's rights and the ESP's status; or {_ASK}"),
    "policy": ("held: UNCERTAIN_POLICY_TRANSACTIONAL or _MARKETING says hold", f"wait for an event; or {_ASK}"),
    "no-evidence": ("held: this ESP reports nothing, and UNCERTAIN_POLICY_SMTP says hold", f"look into the relay's log; or {_ASK}"),
    "unwanted": ("held: a cancel came too late to stop its attempt", f"abandon it; or {_ASK}"),
    "resent-once": ("held: it was sent again by policy, and is in doubt again", f"wait for an event; or {_ASK}"),
    "no-bytes": ("its original bytes are not here yet", "wait: Kafka brings them again; or confirm, or abandon"),
    "no-account": ("held: the ESP's credentials are not set any more", f"set them again; or {_ASK}"),
}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("uncertain", help="list or settle emails that an ESP may have taken").add_subparsers(required=True)
    listing = group.add_parser("list", help="the oldest of them: since when, what each waits for, and what can be done")
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
    found = database.run(lambda cursor: doubt.find(cursor, _choice(arguments), arguments.limit))
    if not found:
        print("nothing is in doubt")
        return 0
    grace = timedelta(seconds=settings.uncertain_grace_s)
    rows = [
        (u.attempt_id, u.job_id, f"{u.provider}/{u.account_tenant}", _spelled(u.since), _waits_for(u, grace), u.template, u.reason)
        for u in found
    ]
    print(screen.table(("attempt", "job", "account", "since (UTC)", "waits for", "template", "why"), rows, widest=80))
    print()
    for word in dict.fromkeys(u.waits_for for u in found):
        print(f"{word}: {' – '.join(ADVICE.get(word, (word, _ASK)))}")
    return 0


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    choice = _choice(arguments)
    if choice == Choice() and not arguments.all:
        print("say which: attempt ids, --account, --template, --older, or --all")
        return 2
    decision, moved, left = DECISIONS[arguments.decision], 0, 0
    vault = Vault([key.reveal() for key in settings.encryption_keys])
    database = open_database(settings, "uncertain")
    last: Uncertain | None = None
    while True:
        after = last
        found, done = database.run(lambda cursor: _decide_page(cursor, arguments.decision, choice, after, vault, settings))  # noqa: B023 (runs at once)
        if not found:
            break
        moved, left, last = moved + done, left + len(found) - done, found[-1]
    print(f"{moved} emails: {decision.help}" + (f"; {left} had moved on or have no bytes to send" if left else ""))
    return 0 if moved or left else 1


def _decide_page(
    cursor: Cursor, name: str, choice: Choice, after: Uncertain | None, vault: Vault, settings: Settings
) -> tuple[list[Uncertain], int]:
    decision = DECISIONS[name]
    found = doubt.find(cursor, choice, PAGE, after)
    moved = doubt.decide(cursor, found, decision.state, decision.status, decision.why)
    ended = [u for u in found if u.row_id in moved]
    if decision.status == "dead":
        _set_aside(cursor, ended, vault, settings.email_dead_letter_queue)
    if decision.status != "pending":
        payloads.delete(cursor, list(moved))
        _tell(cursor, ended, decision.status, decision.why, settings.kafka_topic_email_events)
    if moved:
        details = {"attempts": [u.attempt_id for u in ended], "choice": choice._asdict()}
        replay.audit(cursor, getpass.getuser(), f"uncertain {name}", f"{len(moved)} emails", details)
    return found, len(moved)


def _set_aside(cursor: Cursor, abandoned: Sequence[Uncertain], vault: Vault, topic: str) -> None:
    """Dead letters with their original bytes, so that even this decision can be undone by a replay."""
    stored = {p.row_id: p for p in payloads.load(cursor, [u.row_id for u in abandoned], vault)} if abandoned else {}
    letters = [_dead_letter(u, stored.get(u.row_id)) for u in abandoned]
    dead_letters.insert(cursor, letters)
    outbox.insert(cursor, dead_letters.posting(topic, letters, datetime.now(UTC)))


def _tell(cursor: Cursor, decided: Sequence[Uncertain], event: str, why: str, topic: str) -> None:
    """Other programs hear of the end of a job, whoever decided it."""
    names = {identity.row_id: identity for identity in identities.find(cursor, [u.row_id for u in decided])}
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


def _waits_for(u: Uncertain, grace: timedelta) -> str:
    if u.waits_for == "grace":
        return f"grace, until {_spelled(u.since + grace)}"
    if u.waits_for == "watermark" and u.awaited:
        return f"watermark {_spelled(u.awaited)}, is at {_spelled(u.newest_at) if u.newest_at else 'nothing'}"
    return u.waits_for


def _spelled(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _choice(arguments: argparse.Namespace) -> Choice:
    provider, tenant = arguments.account or (None, None)
    return Choice(getattr(arguments, "ids", None) or None, provider, tenant, arguments.template, arguments.older)


def _account(text: str) -> tuple[str, int | None]:
    provider, _, tenant = text.partition("/")
    if not provider or (tenant and not tenant.isdigit()):
        raise argparse.ArgumentTypeError("give an ESP, or an ESP and whose account: sendgrid, sendgrid/42")
    return provider, int(tenant) if tenant else None


def _add_choice(command: argparse.ArgumentParser) -> None:
    command.add_argument("--account", "--provider", type=_account, metavar="ESP[/TENANT]", help="all of this ESP, or of one account there")
    command.add_argument("--template", help="all whose job has this template")
    command.add_argument("--older", type=float, default=0.0, metavar="SECONDS", help="in doubt for at least so long")
