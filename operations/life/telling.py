"""The life of an email in plain words: facts in, lines out. Pure: no database, no clock of its own, no printing.

What is not on record is said to be so, or not said; nothing is concluded that the record does not prove.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from db.life import Entry, Letter, Life, Row, Try
from db.suppressions import Listed
from mail.ids import wire_id
from operations.life import reported
from operations.life.moment import Moment, moment, spell
from operations.life.reported import Told

REUSED, TOLD_EACH = "id-reused", 3
_DECIDED = {
    "cancel": "asked to cancel it",
    "dlq replay": "replayed its dead letter",
    "dlq drop": "settled its dead letter without a replay",
    "uncertain confirm": "decided that it was taken",
    "uncertain resend": "decided that it was not taken: it is sent again",
    "uncertain abandon": "gave it up in doubt: it is dead",
    "uncertain resend by policy": "had it sent again by policy through the same ESP, since no evidence came",
    "lanes pause": "stopped its lane",
    "lanes resume": "let its lane go on",
    "suppress add": "put its recipient on the suppression list",
    "suppress remove": "took its recipient off the suppression list",
}


def about(life: Life) -> list[tuple[str, str]]:
    """What kind of email it is: names and words."""
    row, streams = life.row, {t.stream for t in life.tries if t.stream}
    mail = [f"{row.type} (template {row.template})" if row.template not in ("", row.type) else row.type, *sorted(streams)]
    lines = [
        ("recipient", _person(row)),
        ("email", f"{', '.join(mail)}; priority {row.priority}, lane {row.lane}"),
        ("subject", row.subject),
        ("came by", _way(life)),
        ("campaign", row.campaign_id or ""),
        ("batch", str(row.batch_id) if row.batch_id else ""),
        ("scheduled", spell(row.scheduled_at) if row.scheduled_at else ""),
        ("expires", spell(row.expires_at) if row.expires_at else ""),
        ("routed by", _route(life)),
        ("row", row.row_id),
    ]
    return [(name, words) for name, words in lines if words]


def moments(life: Life, told: Sequence[Told]) -> list[Moment]:
    """All that happened, in the order of time."""
    found = [
        *_ways_in(life),
        *_tries(life, told),
        *reported.moments(life, told),
        *_letters(life),
        *(moment(e.at, f"{e.actor} {_DECIDED.get(e.action, e.action)}") for e in life.entries),
        *_stops(life),
        *_turns(life.row, life.entries),
    ]
    return sorted(found, key=lambda one: one.order)  # a stable sort: what is told first comes first


def letter_moments(letters: Sequence[Letter]) -> list[Moment]:
    """What happened to records of which no email was made."""
    return [one for letter in letters for one in _refused(letter, "no email could be made of what came")]


def spell_source(source: Mapping[str, Any]) -> str:
    """Where a record came from."""
    topic = str(source.get("topic") or "")
    if topic.startswith("redis:"):
        return f"the Redis list {topic.removeprefix('redis:')}"
    return (
        f"Kafka, {topic} partition {source.get('partition')} offset {source.get('offset')}" if topic else "a source that is not on record"
    )


# -- where it came from ------------------------------------------------------------------------------------------------


def _person(row: Row) -> str:
    if row.recipient:
        return f"{row.name} <{row.recipient}>" if row.name else row.recipient
    return "unknown: only a cancel came" if row.type == "cancel" else "erased by `manage.py forget`"


def _way(life: Life) -> str:
    sources = [life.row.source, *(letter.source for letter in life.letters if letter.row_id)]
    known = next((source for source in sources if source), None)
    if known:
        return spell_source(known)
    if life.row.type == "cancel":
        return "a cancel, before the email itself"
    return "not on record any more (kept while an email waits, and with dead letters)"


def _route(life: Life) -> str:
    if not life.tries:
        return ""
    plan = f"its batch's plan {life.row.plan}; " if life.row.plan else ""
    bound = f"bound to {life.row.only_provider}, where an earlier attempt is in doubt; " if life.row.only_provider else ""
    return f"{plan}{bound}{_weights(life.tries[-1])}; breakers and pins are not on record"


def _weights(newest: Try) -> str:
    if newest.weights_id is None:
        return f"no weights had been computed before attempt {newest.number}, so starting weights"
    computed = f"weights {newest.weights_id}, the newest before attempt {newest.number}"
    if not newest.weights:
        return f"{computed}, had no row for it, so starting weights"
    shares = sorted(newest.weights.items(), key=lambda share: -share[1])
    unnamed = "" if newest.provider in newest.weights else f", which do not name {newest.provider}"
    return f"{computed}: {', '.join(f'{provider} {permille / 10:g} %' for provider, permille in shares)}{unnamed}"


def _ways_in(life: Life) -> Iterator[Moment]:
    row = life.row
    if row.type == "cancel":
        yield moment(row.came_at, "a cancel came before the email itself: its id is claimed, whatever comes under it is not sent")
        return
    kind = (
        ", as part of a content request"
        if row.template == "inline"
        else f", as mail of campaign {row.campaign_id}"
        if row.campaign_id
        else ""
    )
    later = f", to be sent at {spell(row.scheduled_at)}" if row.scheduled_at and row.scheduled_at > row.came_at else ""
    yield moment(row.came_at, f"it came in{kind}{later}")


# -- attempts ----------------------------------------------------------------------------------------------------------


def _tries(life: Life, told: Sequence[Told]) -> Iterator[Moment]:
    for one, following in pairwise([*life.tries, None]):
        assert one
        spelled = f"id {one.attempt_id}, at the ESP {wire_id(one.attempt_id)}"
        account = f"{one.provider}/{one.account_tenant}"
        yield moment(one.opened_at, f"attempt {one.number}: through {account} (mailbox: {one.mailbox_provider}), by {one.owner}; {spelled}")
        if one.answered_at and (words := _answer(one)):
            yield moment(one.answered_at, f"attempt {one.number}: {words}{_followed(one, following)}")
        proofs = [t.report.at for t in told if t.report.attempt_id == one.attempt_id and not t.is_others]
        if one.state == "accepted" and one.reported and proofs and (one.error or not one.answered_at):
            proved = reported.order(min(proofs), one.opened_at) + timedelta(microseconds=1)
            yield Moment(proved, min(proofs), f"attempt {one.number}: that proves that {one.provider} took it{_named(one)}")


def _answer(one: Try) -> str:
    """What its ESP said to it, as far as that is on record."""
    after = f", on record after {(one.answered_at - one.opened_at).total_seconds():.2f} s" if one.answered_at else ""
    if one.state == "accepted":
        if one.error:  # what was known before its reports, or who said so
            return one.error if one.reported else f"counts as taken: {one.error}{_named(one)}"
        return f"{one.provider} took it{after}{_named(one)}"
    if one.state == "rejected":
        return f"{one.provider} refused it for good{after}: {one.error or 'no words are on record'}"
    if one.state == "not_taken":
        # a settlement that releases what a dead worker had not sent leaves no words; nor do a few refusals
        return f"not taken{after}: {one.error or 'no words are on record, as where its worker died before the request left'}"
    return f"in doubt, {one.provider} may have taken it: {one.error or 'no words are on record'}" if one.state == "uncertain" else ""


def _named(one: Try) -> str:
    return f"; its message id: {one.message_id}" if one.message_id else ""


def _followed(one: Try, following: Try | None) -> str:
    if following is None or one.answered_at is None:
        return ""
    later_s = (following.opened_at - one.answered_at).total_seconds()
    how = f"by failover to {following.provider}" if following.provider != one.provider else "through the same ESP"
    return f"; then attempt {following.number}, {later_s:.2f} s later, {how}"


# -- dead letters, lists, turns ----------------------------------------------------------------------------------------


def _letters(life: Life) -> Iterator[Moment]:
    for letter in life.letters:
        if letter.row_id == life.row.row_id:
            yield moment(letter.created_at, f"dead letter {letter.id}: {letter.reason}, {letter.error or 'no words are on record'}")
            yield from _settled(letter, life.entries)
        elif letter.reason != REUSED:
            yield from _refused(letter, "no email could be made of what came under this id")
    yield from _reused([letter for letter in life.letters if letter.reason == REUSED])


def _reused(letters: Sequence[Letter]) -> Iterator[Moment]:
    """A producer that repeats its mistake is told of once more, with how often."""
    for letter in letters[:TOLD_EACH]:
        came = f"the same id came with other content, by {spell_source(letter.source)}"
        yield moment(letter.created_at, f"{came}: refused, dead letter {letter.id}")
    if more := letters[TOLD_EACH:]:
        yield moment(more[-1].created_at, f"… and {len(more)} times more by then, last as dead letter {more[-1].id}")


def _refused(letter: Letter, words: str) -> Iterator[Moment]:
    source = spell_source(letter.source)
    yield moment(letter.created_at, f"{words}, by {source}: dead letter {letter.id}, {letter.reason}, {letter.error}")
    yield from _settled(letter, ())


def _settled(letter: Letter, entries: Sequence[Entry]) -> Iterator[Moment]:
    if letter.settled_at and not any(e.at == letter.settled_at for e in entries):
        yield moment(letter.settled_at, f"dead letter {letter.id} was replayed or dropped")


def _stops(life: Life) -> Iterator[Moment]:
    """Entries of the suppression list that came during its life, or stopped it."""
    opened = {f"{one.provider}/{one.account_tenant}": one.opened_at for one in life.tries}
    for stop in life.stops:
        if stop.at >= life.row.came_at or life.row.status == "suppressed":
            after = opened.get(stop.source, stop.at) if stop.at >= life.row.came_at else stop.at
            yield Moment(max(stop.at, after), stop.at, f"its recipient came onto the suppression list: {spell_stop(stop)}")


def spell_stop(stop: Listed) -> str:
    """An entry of the suppression list."""
    whom = "mail of every tenant" if stop.is_global else "marketing mail" if stop.reason == "unsubscribe" else "all mail of its tenant"
    until = f", until {spell(stop.until)}" if stop.until else ""
    return f"{stop.reason} by {stop.source or 'nobody named'}, stops {whom}{until}"


def _turns(row: Row, entries: Sequence[Entry]) -> Iterator[Moment]:
    """What the row itself says about turns of its life, where nothing else tells them."""
    if row.revived_at:
        yield moment(row.revived_at, f"it came back to life by a replay: generation {row.generation}")
    if row.resent_at and not any(e.action == "uncertain resend by policy" for e in entries):
        yield moment(row.resent_at, "sent again by policy, since no evidence came")
    if row.cancel_asked_at:
        yield moment(row.cancel_asked_at, "a cancel came too late to stop what had left: no further attempt will be made")
    if row.doubled_at:
        yield moment(row.doubled_at, "two of its attempts were taken: it is counted as a duplicate")
    if row.status in ("suppressed", "expired") or (row.status == "cancelled" and row.type != "cancel"):
        yield moment(row.updated_at, f"it ended, {row.status}" + (f": {row.error}" if row.error else ""))
    if row.status == "retrying":
        yield moment(row.updated_at, f"put off{_times(row.waits)}: {row.error or 'no reason is on record'}")


def _times(number: int) -> str:
    return f", {number} times so far" if number > 1 else ""
