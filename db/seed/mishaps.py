"""Emails that were never sent, and dead letters: why, and the bytes that came in."""

import json
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from db.seed.dice import happens, hexadecimal, weighted
from db.seed.orders import Order
from db.seed.rows import DeadLetter, Job
from mail.ids import dead_letter_id

_TOPICS = {"high": "email-jobs-high", "normal": "email-jobs", "bulk": "email-jobs-bulk"}
_PARTITIONS = 8


class Ending(NamedTuple):
    """How a job ends without an attempt; `reason` is its dead letter's, "" = it has none."""

    status: str
    reason: str = ""
    error: str = ""


CANCELLED = Ending("cancelled", error="cancelled by its producer")
EXPIRED = Ending("expired")
BROKEN = Ending("dead", "missing-variables")
SENT = Ending("")
_CHANCES = {SENT: 0.9935, EXPIRED: 0.0025, BROKEN: 0.004}
_CANCELLED = 0.04  # of those that are sent later than they come
_LATE = timedelta(minutes=5)


def suppressed_for(reason: str) -> Ending:
    """The end of a job whose recipient must not get mail."""
    return Ending("suppressed", error=f"the recipient is suppressed: {reason}")


def draw_ending(dice: Random, order: Order) -> Ending:
    """How this job ends unsent; SENT = it does not."""
    if order.batch_id or order.campaign_id:
        return SENT
    if order.due > order.at and happens(dice, _CANCELLED):
        return CANCELLED
    ending = weighted(dice, _CHANCES)
    if ending is not BROKEN:
        return ending
    needs = order.piece.needs
    return BROKEN._replace(error=f"template {order.piece.template}: {needs}") if needs else SENT


def end(job: Job, order: Order, ending: Ending) -> None:
    """Write down how a job ended unsent."""
    job.status, job.error_message = ending.status, ending.error or None
    if ending is CANCELLED:
        job.updated_at = order.at + (order.due - order.at) / 2
        return
    job.updated_at = order.due + timedelta(seconds=1)
    if ending is EXPIRED:  # it came too late
        job.expires_at = order.at - _LATE


def dead_letter(dice: Random, job: Job, order: Order, reason: str, error: str, attempts: int) -> DeadLetter:
    """The dead letter of a job that has a row."""
    value = job_bytes(order, reason)
    source = _source(dice, job.lane)
    id_ = dead_letter_id(f"{reason}:{job.id}", value)
    return DeadLetter(id_, reason, error, job.job_id, job.tenant_id, job.id, source, value, attempts, job.updated_at)


def stray_letter(dice: Random, order: Order) -> DeadLetter:
    """A record that is no job at all, so that nothing but its dead letter tells of it."""
    whole = job_bytes(order)
    if happens(dice, 0.5):
        reason, error, value, job_id = "not-json", "value: is not JSON: Input data was truncated", whole[: len(whole) * 2 // 3], None
    else:
        fields = json.loads(whole) | {"priority": "urgent"}
        reason, error, value = "invalid-job", "priority: is not known; use high, normal or low", json.dumps(fields).encode()
        job_id = order.job_id
    id_ = dead_letter_id(f"{reason}:{hexadecimal(dice, 12)}", value)
    return DeadLetter(id_, reason, error, job_id, order.tenant.id, None, _source(dice, "normal"), value, 0, order.at)


def data_of(order: Order, reason: str = "") -> dict[str, Any]:
    """The data as its producer sent it: with a variable forgotten where that is the reason of its end."""
    lacking = order.piece.needs if reason == BROKEN.reason else ""
    return {name: value for name, value in order.piece.data.items() if name != lacking}


def job_bytes(order: Order, reason: str = "") -> bytes:
    """The template job as its producer spelled it."""
    job = {
        "id": order.job_id,
        "type": order.kind.type,
        "template": order.piece.template,
        "recipient": {"email": order.person.email, "name": order.person.name},
        "data": data_of(order, reason),
        "priority": order.kind.priority,
        "tenant": order.tenant.id,
    }
    return json.dumps(job).encode()


def _source(dice: Random, lane: str) -> dict[str, object]:
    return {"topic": _TOPICS[lane], "partition": dice.randrange(_PARTITIONS), "offset": dice.randrange(1_000_000)}
