"""What the world is told: events about emails and dead letters, spelled as the wire formats ask for (section 5)."""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from db.dead_letters import DeadLetter
from db.outbox import Posting
from mail.ids import new_id
from workers.letter import Letter

# A dead letter that would not fit into a message of the topic carries its row's id instead of its value.
MAX_DEAD_LETTER_BYTES = 3 << 20
_encoder = msgspec.json.Encoder()


class Published(msgspec.Struct, frozen=True, rename="camel"):
    """One event on `email-events`; `event_id` is the same however often it is told."""

    event_id: str
    event: str
    job_id: str
    message_id: str
    provider: str
    recipient: str
    tenant: int
    campaign_id: str
    at: str
    reason: str = ""


def of_letters(topic: str, letters: Iterable[Letter], now: datetime) -> Posting:
    """One event for each letter whose fate is told."""
    at = now.isoformat()
    events = [_of_letter(letter, at) for letter in letters if letter.fate is not None and letter.fate.event]
    return of_events(topic, events)


def of_events(topic: str, events: list[Published]) -> Posting:
    """The outbox row of these events, keyed by job id."""
    return Posting(new_id(), topic, tuple(e.job_id for e in events), tuple(_encoder.encode(e).decode() for e in events))


def of_dead_letters(topic: str, letters: Iterable[DeadLetter], now: datetime) -> Posting:
    """The outbox row of dead letters, keyed by job id."""
    letters = list(letters)
    return Posting(new_id(), topic, tuple(d.job_id for d in letters), tuple(_spell_dead_letter(d, now.isoformat()) for d in letters))


def _of_letter(letter: Letter, at: str) -> Published:
    fate, outcome, account = letter.fate, letter.outcome, letter.account
    assert fate is not None
    return Published(
        event_id=f"{letter.attempt_id if outcome else letter.row_id}:{fate.event}",
        event=fate.event,
        job_id=letter.job.job_id,
        message_id=outcome.message_id if outcome else "",
        provider=account.provider if outcome and account else "",
        recipient=letter.job.recipient.email,
        tenant=letter.job.tenant,
        campaign_id=letter.job.campaign_id,
        at=at,
        reason=fate.reason,
    )


def _spell_dead_letter(letter: DeadLetter, at: str) -> str:
    message: dict[str, Any] = {
        "id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "source": letter.source,
        "at": at,
        "attempts": letter.attempts,
        "jobId": letter.job_id,
        "index": letter.record_index,
    }
    value = letter.value
    if value is None or len(value) > MAX_DEAD_LETTER_BYTES // 2:
        return _encoder.encode(message | {"row": letter.id}).decode()
    try:
        text = _encoder.encode(message | {"value": value.decode()}).decode()
    except UnicodeDecodeError:
        text = _encoder.encode(message | {"value": base64.b64encode(value).decode(), "encoding": "base64"}).decode()
    return text if len(text) <= MAX_DEAD_LETTER_BYTES else _encoder.encode(message | {"row": letter.id}).decode()
