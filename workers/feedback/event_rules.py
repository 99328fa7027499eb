"""What events mean: when they happened, whose they are, what an attempt and a job come to by them. Pure; no database, no clock.

Everything is a maximum, a minimum or a set of what came, so that the end is the same in whatever order, and however often, events
arrive. The one judgement that looks back (an open so soon after the delivery that no person made it) is made anew from all opens
on record where a delivery becomes known after them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from db.events import LOOK_BACK_S, AttemptRow, Counts, JobChange, JobRow, Look, Send
from mail.event import STATUS_RANK, Event, EventType
from mail.ids import time_of
from mail.machine_opens import FASTEST_PERSON_S, has_machine_signs

# What an ESP's clock may say: beyond it, and of what it cannot know, the nearest moment is taken.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EARLIEST_S, _LATEST_S = EARLIEST.timestamp(), LATEST.timestamp()
LONGEST_LIFE = timedelta(days=400)
CLOCK_SKEW = timedelta(seconds=60)
_USUAL_LIFE_S = LONGEST_LIFE.total_seconds()

LOOKS = (EventType.OPENED, EventType.CLICKED)
_FASTEST_PERSON = timedelta(seconds=FASTEST_PERSON_S)
_ENGAGED = frozenset({EventType.OPENED, EventType.CLICKED})
_STATUS_OF: dict[EventType, str] = {type_: str(type_) for type_ in EventType if type_ is not EventType.SUBSCRIBED}
_STATUS_OF[EventType.PROCESSED] = "sent"
# The recipient has it, or has done something with it.
_ARRIVED = frozenset({"delivered", "opened", "clicked", "unsubscribed", "complained"})
_BOUNCE_RANK = {None: 0, "": 0, "soft": 1, "block": 2, "hard": 3}


class Arrival(NamedTuple):
    """An event on its way in. `id` is its tracking row's, `at` its clamped time, `recipient` in lower case (or "").

    `has_signs`: ESP, user agent or address tell a machine. `attempt_id` is what the event names, or what was found for it;
    `row_id` the email_jobs.id ("" = not matched).
    """

    id: str
    event: Event
    account_tenant: int
    at: datetime
    recipient: str
    has_signs: bool
    attempt_id: str
    row_id: str = ""


class _Seen(NamedTuple):
    """The first open by a person and by a machine, and the first click by a person."""

    opened_at: datetime | None
    machine_opened_at: datetime | None
    clicked_at: datetime | None


def moment_of(event: Event, received_at_s: float | None) -> datetime:
    """When it happened: the event's time, else the attempt's, else the Kafka record's, never the clock, so that a repeat meets its
    own row. No event comes before its attempt, none after the year 2100."""
    if event.at is not None and event.attempt_id and 0 <= event.at.timestamp() - time_of(event.attempt_id) < _USUAL_LIFE_S:
        return event.at  # nearly always
    sent_at = _moment(time_of(event.attempt_id)) if event.attempt_id else None
    at = event.at or sent_at or (_moment(received_at_s) if received_at_s is not None else EARLIEST)
    if sent_at is not None:
        at = min(max(at, sent_at), sent_at + LONGEST_LIFE)
    return min(max(at, EARLIEST), LATEST)


def has_signs(event: Event) -> bool:
    """Do ESP, user agent or address of an open or click tell a machine?"""
    return event.type in _ENGAGED and (event.is_machine or has_machine_signs(event.user_agent, event.ip))


def day_before(attempt_id: str) -> datetime:
    """Nothing that happened to an attempt is on record before this moment."""
    return _moment(time_of(attempt_id) - 86_400.0)


def not_after(at: datetime, received_at_s: float | None) -> datetime:
    """A moment, at the latest that of the record that told it."""
    return at if received_at_s is None else min(at, _moment(received_at_s))


def choose_send(message_id: str, at: datetime, sends: Sequence[Send]) -> str:
    """The attempt that an event without our id speaks of ("" = none): the newest with its message id, else the newest send.

    A message id that differs from the newest send's says that it is somebody else's mail; nothing is sent after its own event, nor
    is one of long ago meant, whatever else the look-up of the same batch had to reach back for.
    """
    possible = [send for send in sends if -LOOK_BACK_S <= time_of(send.attempt_id) - at.timestamp() <= CLOCK_SKEW.total_seconds()]
    if not possible:
        return ""
    if message_id and (same := [send.attempt_id for send in possible if send.message_id == message_id]):
        return max(same)
    newest = max(possible)
    return "" if message_id and newest.message_id else newest.attempt_id


def is_for_job(recipient: str, job_recipient: str, redirect: str) -> bool:
    """Does an event speak of the email's own recipient, and not of a Cc or Bcc? `redirect` is a staging guard's address."""
    return not recipient or recipient == job_recipient.lower() or (bool(redirect) and recipient == redirect)


def may_settle(attempt: AttemptRow) -> bool:
    """May an event of another recipient (a Cc, a Bcc) speak of the job after all? It proves that the mail was taken, which is what
    a doubt needs to know; where the ESP has answered no for the recipient, a copy may have gone out all the same."""
    return attempt.state == "uncertain"


def proof_of(arrival: Arrival) -> Arrival:
    """What an event of another recipient says about the job: that its mail was taken, and nothing else."""
    return arrival._replace(event=msgspec.structs.replace(arrival.event, type=EventType.PROCESSED))


def may_matter(event: Event, is_settled: bool) -> bool:
    """Can this event change more than its own tracking row? `is_settled`: its attempt is on record as taken."""
    return event.type is not EventType.SUBSCRIBED and not (event.type is EventType.PROCESSED and is_settled)


def must_judge_again(attempt: AttemptRow, arrivals: Iterable[Arrival]) -> bool:
    """Does a delivery among a job's events change what earlier opens and clicks of this attempt were?"""
    if attempt.delivered_at is None and attempt.opened_at is None and attempt.clicked_at is None:
        return False  # nothing came before
    deliveries = [a.at for a in arrivals if a.event.type is EventType.DELIVERED and a.attempt_id == attempt.attempt_id]
    if not deliveries:
        return False
    delivered_at = min(deliveries)
    if attempt.delivered_at is not None:
        return delivered_at < attempt.delivered_at
    return any(first is not None and first < delivered_at + _FASTEST_PERSON for first in (attempt.opened_at, attempt.clicked_at))


def apply(attempt: AttemptRow, arrivals: Sequence[Arrival], all_looks: Sequence[Look] | None = None) -> AttemptRow:
    """The attempt after these events of its recipient. `all_looks` are all opens and clicks on record, where they have to be
    judged again. Every event but a subscription proves that the ESP took it."""
    delivered_at, bounced_at, complained_at = attempt.delivered_at, attempt.bounced_at, attempt.complained_at
    reported, bounce_class, state = attempt.reported, attempt.bounce_class, attempt.state
    for arrival in arrivals:
        event = arrival.event
        status = _STATUS_OF.get(event.type)
        if status is None:
            continue
        state = "accepted"
        reported = _later(reported, status)
        if event.type is EventType.DELIVERED:
            delivered_at = _earlier(delivered_at, arrival.at)
        elif event.type is EventType.BOUNCED:
            bounced_at = _earlier(bounced_at, arrival.at)
            bounce_class = max(bounce_class, event.bounce or "soft", key=_BOUNCE_RANK.__getitem__)
        elif event.type is EventType.DROPPED and event.bounce:  # a dead address that the ESP knew: the list's fault as well
            bounce_class = max(bounce_class, event.bounce, key=_BOUNCE_RANK.__getitem__)
        elif event.type is EventType.COMPLAINED:
            complained_at = _earlier(complained_at, arrival.at)
    seen = _Seen(attempt.opened_at, attempt.machine_opened_at, attempt.clicked_at)
    if all_looks is not None:
        seen = _judge(all_looks, delivered_at, _Seen(None, None, None))
    elif looks := [Look(a.event.type, a.at, a.has_signs, "") for a in arrivals if a.event.type in _ENGAGED]:
        seen = _judge(looks, delivered_at, seen)
    return AttemptRow(  # spelled out: _replace costs three times as much
        attempt_id=attempt.attempt_id,
        row_id=attempt.row_id,
        provider=attempt.provider,
        account_tenant=attempt.account_tenant,
        mailbox_provider=attempt.mailbox_provider,
        cohort_id=attempt.cohort_id,
        state=state,
        has_taken=attempt.has_taken,
        message_id=_message_id(attempt, arrivals),
        reported=reported,
        bounce_class=bounce_class,
        delivered_at=delivered_at,
        opened_at=seen.opened_at,
        machine_opened_at=seen.machine_opened_at,
        clicked_at=seen.clicked_at,
        bounced_at=bounced_at,
        complained_at=complained_at,
    )


def change_of_counts(before: AttemptRow, after: AttemptRow) -> Counts:
    """By how much an attempt adds more to its cohort's counters than before: each kind counts once."""
    return Counts(
        sent=(after.state == "accepted") - (before.state == "accepted"),
        delivered=(after.delivered_at is not None) - (before.delivered_at is not None),
        opened=(after.opened_at is not None) - (before.opened_at is not None),
        opened_machine=(after.machine_opened_at is not None) - (before.machine_opened_at is not None),
        clicked=(after.clicked_at is not None) - (before.clicked_at is not None),
        bounced=(after.bounced_at is not None) - (before.bounced_at is not None),
        bounced_hard=(after.bounce_class == "hard") - (before.bounce_class == "hard"),
        complained=(after.complained_at is not None) - (before.complained_at is not None),
    )


def status_of(job: JobRow, attempts: Mapping[str, AttemptRow]) -> str:
    """A job's status by what the events of its attempts (all of them, by id) say.

    What arrived by any attempt has arrived. Else the newest attempt's word counts; a late bounce of an older one changes nothing
    while the newest is under way or taken. Where the newest was refused or is in doubt, and an older one was taken after all, its
    word counts: there is nothing left to retry.
    """
    arrived = [a.reported for a in attempts.values() if a.reported in _ARRIVED]
    if arrived:
        return max(arrived, key=lambda status: STATUS_RANK[status or ""]) or job.status
    newest = attempts.get(job.attempt_id or "")
    if newest is not None and newest.reported:
        return newest.reported
    if newest is not None and newest.state in ("open", "accepted"):
        return job.status
    told = [a for a in attempts.values() if a.reported]
    return max(told).reported or job.status if told else job.status


def change_job(job: JobRow, attempts: Mapping[str, AttemptRow], arrivals: Sequence[Arrival]) -> JobChange | None:
    """What the events of its recipient change about a job; None = nothing. Opens and clicks by machines are told here too: the
    status is what the ESP reports."""
    status = status_of(job, attempts)
    delivered_at, opened_at, clicked_at = job.delivered_at, job.opened_at, job.clicked_at
    for attempt in attempts.values():
        if attempt.delivered_at is not None:
            delivered_at = _earlier(delivered_at, attempt.delivered_at)
    for arrival in arrivals:
        if arrival.event.type is EventType.OPENED:
            opened_at = _earlier(opened_at, arrival.at)
        elif arrival.event.type is EventType.CLICKED:
            clicked_at = _earlier(clicked_at, arrival.at)
    newest = attempts.get(job.attempt_id or "")
    message_id = (newest.message_id if newest else None) or job.message_id
    if (status, message_id, delivered_at, opened_at, clicked_at) == (
        job.status,
        job.message_id,
        job.delivered_at,
        job.opened_at,
        job.clicked_at,
    ):
        return None
    is_settled = status in STATUS_RANK and job.status not in STATUS_RANK
    sent_at = _moment(time_of(min(attempts))) if is_settled else None
    return JobChange(job.row_id, status, message_id, delivered_at, opened_at, clicked_at, sent_at, is_settled)


def is_rejection(event: Event) -> bool:
    """Does the event say that the address will never take mail?"""
    return event.bounce == "hard" and event.type in (EventType.BOUNCED, EventType.DROPPED)


def reason_to_suppress(event: Event) -> str:
    """Why its recipient must get no more mail, apart from rejections ("" = no reason). What an unsubscribe stops, admission knows."""
    return {EventType.COMPLAINED: "complaint", EventType.UNSUBSCRIBED: "unsubscribe"}.get(event.type, "")


def _judge(looks: Iterable[Look], delivered_at: datetime | None, known: _Seen) -> _Seen:
    """Who opened and clicked first: what comes too soon after the delivery, or before it, is a machine's."""
    opened_at, machine_opened_at, clicked_at = known
    too_fast = delivered_at + _FASTEST_PERSON if delivered_at else EARLIEST
    for look in looks:
        is_machine = look.has_signs or look.at < too_fast
        if look.event_type == EventType.CLICKED:
            clicked_at = clicked_at if is_machine else _earlier(clicked_at, look.at)
        elif is_machine:
            machine_opened_at = _earlier(machine_opened_at, look.at)
        else:
            opened_at = _earlier(opened_at, look.at)
    return _Seen(opened_at, machine_opened_at, clicked_at)


def _message_id(attempt: AttemptRow, arrivals: Sequence[Arrival]) -> str | None:
    """The ESP's own answer told it; else the smallest that events name, for some ESPs name a mail in several ways."""
    if attempt.has_taken and attempt.message_id:
        return attempt.message_id
    named = [a.event.message_id for a in arrivals if a.event.message_id]
    return min([*named, attempt.message_id] if attempt.message_id else named, default=None)


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None or other < one else one


def _later(one: str | None, other: str) -> str:
    return other if one is None or STATUS_RANK[other] > STATUS_RANK[one] else one


def _moment(seconds: float) -> datetime:
    # an id or a record that a stranger made may name any time
    return datetime.fromtimestamp(min(max(seconds, _EARLIEST_S), _LATEST_S), UTC)
