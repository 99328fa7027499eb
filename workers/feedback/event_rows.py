"""Events as rows and as news: what each table, and what the world, is told of an event. Pure; event_books.py puts it into
transactions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from db.dead_letters import DeadLetter
from db.events import AttemptRow, JobRow, Tracking
from db.unmatched import Unmatched, Waiting
from mail.event import Event, EventType
from mail.ids import dead_letter_id, time_of
from mail.published import Published
from workers.feedback import event_rules
from workers.feedback.callbacks import Refusal
from workers.feedback.event_rules import Arrival

# What `email-events` tells of; a processed one is told as the sent that it proves.
_TOLD = frozenset(EventType) - {EventType.PROCESSED, EventType.SUBSCRIBED}
_encode, _decode_event = msgspec.json.Encoder().encode, msgspec.json.Decoder(Event).decode


class Case(NamedTuple):
    """A job, its attempts by id as they were read, and the events that came for it."""

    job: JobRow
    attempts: dict[str, AttemptRow]
    arrivals: list[Arrival]


def tracking(arrival: Arrival) -> Tracking:
    event = arrival.event
    return Tracking(
        id=arrival.id,
        occurred_at=arrival.at,
        attempt_id=arrival.attempt_id,
        provider=event.provider,
        account_tenant=arrival.account_tenant,
        recipient=arrival.recipient,
        message_id=event.message_id,
        event_type=str(event.type),
        data=_encode(event.raw).decode(),
        ip=event.ip,
        user_agent=event.user_agent,
        is_machine=arrival.has_signs,
    )


def unmatched(arrival: Arrival) -> Unmatched:
    event = arrival.event
    text = _encode(msgspec.structs.replace(event, raw={})).decode()
    return Unmatched(
        arrival.id, arrival.at, event.provider, arrival.account_tenant, event.attempt_id, event.message_id, arrival.recipient, text
    )


def late_arrival(waiting: Waiting) -> Arrival:
    """An event that matched nothing when it came, as it was; its attempt may be known by now."""
    event = _decode_event(waiting.event)
    return Arrival(
        id=waiting.id,
        event=event,
        account_tenant=waiting.account_tenant,
        at=waiting.occurred_at,
        recipient=event.recipient.lower(),
        has_signs=event_rules.has_signs(event),
        attempt_id=waiting.attempt_id or "",
    )


def dead_letter(refusal: Refusal) -> DeadLetter:
    """A refused callback: read again after a crash, it meets its own row."""
    record = refusal.record
    return DeadLetter(
        id=dead_letter_id(f"{refusal.reason}:{record.name}", record.value or b""),
        reason=refusal.reason,
        error=refusal.error,
        job_id=None,
        tenant=refusal.tenant,
        source=record.source,
        value=record.value,
    )


def news(case: Case, after: Mapping[str, AttemptRow]) -> Iterator[Published]:
    """What is published of a job's events: each of them, and "sent" where they prove what nobody has told yet."""
    for attempt_id in _proved(case.arrivals, case.attempts):
        moment = datetime.fromtimestamp(time_of(attempt_id), UTC)
        yield _published(f"{attempt_id}:sent", "sent", case.job, after[attempt_id], moment, "")
    for arrival in case.arrivals:
        event = arrival.event
        if event.type in _TOLD:
            yield _published(arrival.id, str(event.type), case.job, after[arrival.attempt_id], arrival.at, event.reason or event.bounce)


def _proved(arrivals: Sequence[Arrival], before: Mapping[str, AttemptRow]) -> set[str]:
    return {a.attempt_id for a in arrivals if before[a.attempt_id].state != "accepted"}


def _published(event_id: str, name: str, job: JobRow, attempt: AttemptRow, at: datetime, reason: str) -> Published:
    return Published(
        event_id=event_id,
        event=name,
        job_id=job.job_id,
        message_id=attempt.message_id or "",
        provider=attempt.provider,
        recipient=job.recipient,
        tenant=job.tenant,
        campaign_id=job.campaign_id or "",
        at=at.isoformat(),
        reason=reason,
    )
