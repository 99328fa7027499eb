"""SocketLabs' event webhook: one event in our words.

The kinds of an event's type come as numbers, numerals or names, its moments in two formats; no event has an id.
It must never keep the secret key that every event brings, nor call an address dead for a failure that is not permanent.
Facts: SocketLabs.EventWebhooks.Extensions (2024-11), help.socketlabs.com (2026-11).
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from esp import base, events
from mail.event import Event, EventType

PROVIDER = "socketlabs"
_TYPES = {
    "queued": EventType.PROCESSED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "sent": EventType.DELIVERED,
    "failed": EventType.BOUNCED,
    "complaint": EventType.COMPLAINED,
}
_TRACKING = {
    **dict.fromkeys(("0", "click"), EventType.CLICKED),
    **dict.fromkeys(("1", "open"), EventType.OPENED),
    **dict.fromkeys(("2", "unsubscribe"), EventType.UNSUBSCRIBED),
}
_PERMANENT, _SUPPRESSED = ("1", "permanent"), ("2", "suppressed")
_NO_FAILURES = ("5001", "5999")  # an out-of-office answer, something informational
_BLOCKS = ("1002", "1003", "1004", "1007", "1999")  # black lists, content, virus
_IDENTITY = ("type", "serverid", "messageid", "mailingid", "address", "datetime", "trackingtype", "url", "failurecode", "deferralcode")


def folded(fields: events.Fields) -> events.Fields:
    """SocketLabs writes its names in more than one case."""
    return {name.lower(): value for name, value in fields.items()}


def read_event(raw: events.Fields) -> Event | None:
    """The event, or None for a handshake, for what means nothing, and for what has no word of ours (that is counted)."""
    fields = folded(raw)
    kind = events.text(fields.get("type")).lower()
    type_ = _type_of(kind, fields)
    if type_ is None:
        if kind != "validation" and not _is_no_failure(fields):
            events.count_unknown(PROVIDER)
        return None
    reason = events.text(fields.get("reason"), 2_000)
    diagnosis = [events.text(fields.get(name), 2_000) for name in ("bouncestatus", "diagnosticcode", "reason", "response")]
    return Event(
        type=type_,
        provider=PROVIDER,
        event_id=events.hash_of([events.text(fields.get(name), 2_000) for name in _IDENTITY]),
        recipient=events.address(fields.get("address")),
        at=_moment(fields.get("datetime")),
        attempt_id=events.attempt_id(fields.get("messageid")),
        message_id=events.text(fields.get("messageid")),
        reason=base.cut_detail(reason),
        smtp_code=events.smtp_code(*diagnosis),
        bounce=_bounce(fields) if type_ is EventType.BOUNCED else "",
        ip=events.ip(fields.get("clientip")),
        user_agent=events.text(fields.get("useragent"), events.USER_AGENT_CHARACTERS),
        url=events.text(fields.get("url"), events.URL_CHARACTERS),
        raw=events.kept(raw, without=[name for name in raw if name.lower() == "secretkey"]),
    )


def _type_of(kind: str, fields: events.Fields) -> EventType | None:
    """Our word for an event; None where there is none. Kinds of failures and tracking come as numbers, numerals or names."""
    if kind == "tracking":
        return _TRACKING.get(events.text(fields.get("trackingtype")).lower())
    if kind == "failed" and _is_no_failure(fields):
        return None
    if kind == "failed" and events.text(fields.get("failuretype")).lower() in _SUPPRESSED:
        return EventType.DROPPED
    return _TYPES.get(kind)


def _is_no_failure(fields: events.Fields) -> bool:
    return events.text(fields.get("failurecode")) in _NO_FAILURES


def _bounce(fields: events.Fields) -> str:
    """A permanent one means that SocketLabs has suppressed the address; a temporary one is the end of this mail only."""
    if events.text(fields.get("failuretype")).lower() in _PERMANENT:
        return "hard"
    return "block" if events.text(fields.get("failurecode")) in _BLOCKS else "soft"


def _moment(value: Any) -> datetime | None:
    """ISO 8601 with seven digits of a second, or as RFC 1123 from older endpoints."""
    if moment := events.iso_moment(value):
        return moment
    try:
        moment = parsedate_to_datetime(events.text(value))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
