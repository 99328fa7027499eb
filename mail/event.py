"""An event: what an ESP reports about one message after it took it, in our words."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class EventType(StrEnum):
    PROCESSED = "processed"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    DROPPED = "dropped"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"


class Event(msgspec.Struct, frozen=True):
    """`event_id` is the ESP's own, or a hash of the event, so that a repeat is told. `bounce` is "hard", "soft", "block" or ""."""

    type: EventType
    provider: str
    event_id: str
    recipient: str
    at: datetime | None
    attempt_id: str = ""
    message_id: str = ""
    reason: str = ""
    smtp_code: str = ""
    bounce: str = ""
    ip: str = ""
    user_agent: str = ""
    url: str = ""
    is_machine: bool = False
    raw: dict[str, Any] = {}


# By rank, never backwards: a status after sending is only replaced by a later one.
STATUS_RANK = {
    name: rank
    for rank, name in enumerate(
        ("sent", "deferred", "delivered", "dropped", "bounced", "opened", "clicked", "unsubscribed", "complained"), start=1
    )
}
