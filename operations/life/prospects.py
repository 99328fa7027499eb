"""Where an email stands and why, what will happen to it next, and what an operator can do. Pure: facts in, words out."""

import shlex
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from db import lanes
from db.life import Letter, Life, Owner, Row, Try
from mail.event import STATUS_RANK
from mail.ids import wire_id
from operations.life import concealment
from operations.life.moment import spell
from operations.life.telling import spell_stop
from operations.uncertain import ADVICE

MANAGE = "python manage.py"
_ANEW = "its id is used up: to send it after all, produce it again under a new id"


class Prospect(NamedTuple):
    """`why` it stands as it does, what comes `next`, and the `commands` that an operator may give."""

    why: str
    next: str
    commands: tuple[str, ...] = ()


def prospect(life: Life) -> Prospect:
    """What becomes of it, by its status."""
    if life.row.status in STATUS_RANK:
        return _sent(life)
    tell: Callable[[Life], Prospect] = {
        "pending": _waiting,
        "scheduled": _waiting,
        "retrying": _waiting,
        "sending": _sending,
        "uncertain": _uncertain,
        "dead": _dead,
        "suppressed": _suppressed,
    }.get(life.row.status, _ended)
    return tell(life)


def letters_prospect(letters: list[Letter]) -> Prospect:
    """What becomes of records of which no email was made."""
    newest = letters[-1]
    return _by_letter(f"it was refused, {newest.reason}: {newest.error}", newest)


# -- sent --------------------------------------------------------------------------------------------------------------


def _sent(life: Life) -> Prospect:
    row, newest = life.row, _newest(life)
    if row.status == "sent":
        provider = newest.provider if newest else row.provider or "its ESP"
        taken = newest.error if newest and newest.error else f"{provider} took it"
        words = f"nothing is left to send; what {provider} reports will be added{_news(life)}"
        return Prospect(f"{taken}; nothing has been reported since", words, _lists(life))
    reporter = next((t for t in reversed(life.tries) if t.reported == row.status), newest)
    kind = f", {reporter.bounce_class} bounce" if row.status == "bounced" and reporter and reporter.bounce_class else ""
    words = f"nothing is left to send; later reports may still change it{_news(life)}"
    return Prospect(f"reported by {reporter.provider if reporter else 'its ESP'}{kind}", words, _lists(life))


def _news(life: Life) -> str:
    """Events that Kafka has not got."""
    return f"; still in the outbox: {', '.join(life.unpublished)}" if life.unpublished else ""


def _lists(life: Life) -> tuple[str, ...]:
    """The way off the suppression list, where this email's recipient is on it."""
    if not life.stops:
        return ()
    whose = "" if any(stop.is_global for stop in life.stops) else f" --tenant {life.row.tenant}"
    address = "ADDRESS" if concealment.is_hint(life.row.recipient) else life.row.recipient
    return (f"{MANAGE} suppress remove {address}{whose}",)


# -- waiting -----------------------------------------------------------------------------------------------------------


def _waiting(life: Life) -> Prospect:
    row = life.row
    cancel = _cancel(row)
    why = {
        "pending": f"it waits to be sent{f': {row.error}' if row.error else ''}",
        "scheduled": f"its time has not come: {spell(row.scheduled_at) if row.scheduled_at else 'not on record'}",
        "retrying": f"it was put off: {row.error or 'no reason is on record'}",
    }[row.status]
    if row.cancel_asked_at:
        return Prospect(why, "a cancel came: it ends cancelled when it is due")
    if life.pause:
        who = "the program itself" if life.pause.paused_by == lanes.WATCH else life.pause.paused_by
        stopped = f"lane {life.pause.lane} is stopped since {spell(life.pause.paused_at)} by {who}"
        return Prospect(
            why, f"{stopped}: {life.pause.reason or 'no reason is given'}", (f"{MANAGE} lanes resume {life.pause.lane}", cancel)
        )
    stops = "".join(f"; its recipient is suppressed by now ({spell_stop(stop)})" for stop in life.stops)
    return Prospect(why, f"{_due(life)}{_end_of_patience(life)}{stops}{_news(life)}", (*_lists(life), cancel))


def _due(life: Life) -> str:
    row = life.row
    if row.next_attempt_at is None:
        return "it is in no queue: its bytes are not stored, so its record comes again from Kafka and is sent then"
    through = f" through {row.only_provider} only, where an earlier attempt is in doubt" if row.only_provider else ""
    if row.leased_by and row.next_attempt_at > life.now:
        return f"{row.leased_by} has it in hand since a moment; if that dies, it is due again at {spell(row.next_attempt_at)}"
    if row.next_attempt_at <= life.now:
        return f"it is due since {spell(row.next_attempt_at)}: the next free worker of lane {row.lane} sends it{through}"
    return f"it is sent{through} at {spell(row.next_attempt_at)}, in {span(row.next_attempt_at, life.now)}"


def _end_of_patience(life: Life) -> str:
    row = life.row
    refused = f"; {row.retry_count} of {row.max_retries} refusals that count" if row.retry_count else ""
    return refused + (f"; unsent by {spell(row.expires_at)} it expires" if row.expires_at else "")


def span(later: datetime, now: datetime) -> str:
    """How long until then, in the largest unit that says something."""
    seconds = max(0.0, (later - now).total_seconds())
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


# -- under way and in doubt --------------------------------------------------------------------------------------------


def _sending(life: Life) -> Prospect:
    newest = _newest(life)
    if newest is None:
        return Prospect("it is under way", "its attempt is not on record: look again in a moment")
    why = f"attempt {newest.number} is under way at {newest.provider} since {spell(newest.opened_at)}"
    cancel = () if life.row.cancel_asked_at else (_cancel(life.row),)
    return Prospect(why, _whose_turn(newest, life.owner, life.now), cancel)


def _whose_turn(newest: Try, owner: Owner | None, now: datetime) -> str:
    if owner is None:
        return f"its worker {newest.owner} has given up its place: its host's keeper settles the attempt"
    if not newest.owner.endswith(f"/{owner.incarnation}"):
        return f"its worker {newest.owner} is dead: incarnation {owner.incarnation} of the slot settles the attempt by its flight log"
    if owner.lease_until is None or owner.lease_until < now:
        return f"the host of {newest.owner} has lost its lease: another host's keeper will put the attempt in doubt"
    return f"{newest.owner} waits for the answer and records it within seconds"


def _uncertain(life: Life) -> Prospect:
    newest, doubts = _newest(life), {doubt.attempt_id: doubt for doubt in life.doubts}
    doubt = doubts.get(life.row.attempt_id or "") or next(iter(doubts.values()), None)
    if newest is None or doubt is None:
        return Prospect(f"in doubt: {life.row.error}", "its doubt is being settled: look again in a moment")
    matter, advice = ADVICE.get(doubt.waits_for, (doubt.waits_for, "look it up at the ESP, then decide"))
    why = f"nobody knows whether {doubt.provider} took attempt {doubt.number}: {doubt.reason}"
    look = f"at {doubt.provider} it is attempt_id {wire_id(doubt.attempt_id)}"
    commands = tuple(f"{MANAGE} uncertain {word} {doubt.attempt_id}" for word in ("confirm", "resend", "abandon"))
    return Prospect(why, f"nobody sends it meanwhile; {matter}; {advice}; {look}", commands)


# -- ended without a send ----------------------------------------------------------------------------------------------


def _dead(life: Life) -> Prospect:
    own = [letter for letter in life.letters if letter.row_id == life.row.row_id]
    if not own:
        return Prospect(life.row.error or "no reason is on record", f"its dead letter is gone, so it cannot be replayed; {_ANEW}")
    if life.row.cancel_asked_at:
        return Prospect(f"{own[-1].reason}: {own[-1].error}", "nothing: a cancel came, so even a replay would end it cancelled")
    return _by_letter(f"{own[-1].reason}: {own[-1].error}", own[-1])


def _by_letter(why: str, letter: Letter) -> Prospect:
    show = f"{MANAGE} dlq show {letter.id}"
    if letter.settled_at:
        return Prospect(why, f"nothing: its dead letter was settled at {spell(letter.settled_at)}", (show,))
    if not letter.has_value:
        return Prospect(why, "nothing: its original bytes are not on record", (show,))
    words = "nothing happens by itself; mend what the reason names, then replay it: it is sent from its original bytes, once"
    return Prospect(why, words, (show, f"{MANAGE} dlq replay {letter.id}"))


def _suppressed(life: Life) -> Prospect:
    found = "; ".join(spell_stop(stop) for stop in life.stops)
    listed = f"on the list now: {found}" if found else "no entry is on the list now: it was taken off since, or is a forgotten person's"
    return Prospect(life.row.error or "its recipient is suppressed", f"nothing; {listed}; {_ANEW}", _lists(life))


def _ended(life: Life) -> Prospect:
    row = life.row
    expiry = f"it could not be sent before {spell(row.expires_at)}" if row.expires_at else ""
    why = "; ".join(filter(None, [expiry if row.status == "expired" else "", row.error])) or "a cancel came before it"
    return Prospect(why, f"nothing; {_ANEW}{_news(life)}")


def _cancel(row: Row) -> str:
    return f"{MANAGE} cancel {shlex.quote(row.job_id)} --tenant {row.tenant}"


def _newest(life: Life) -> Try | None:
    named = [t for t in life.tries if t.attempt_id == life.row.attempt_id]
    return named[-1] if named else life.tries[-1] if life.tries else None
