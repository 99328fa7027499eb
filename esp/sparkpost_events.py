"""SparkPost's events, from its webhook or its search: one event in our words.

A class name wraps each event of a webhook, but its inner type decides; nearly all its values are texts.
It must never call a recipient dead for a bounce that SparkPost does not class as hard.
Facts: SparkPost/developers.sparkpost.com webhooks and events (2026-06-23), SparkPost/support-docs bounce classification codes
(2026-08-06), django-anymail (2026-07).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from esp import base, events
from mail.event import Event, EventType

PROVIDER = "sparkpost"
_TYPES = {
    "injection": EventType.PROCESSED,
    "delivery": EventType.DELIVERED,
    "delay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "policy_rejection": EventType.DROPPED,
    "generation_failure": EventType.DROPPED,
    "generation_rejection": EventType.DROPPED,
    "spam_complaint": EventType.COMPLAINED,
    # a pixel at the top and one at the bottom: a long mail shows the first only, another both
    **dict.fromkeys(("open", "initial_open", "amp_open", "amp_initial_open"), EventType.OPENED),
    **dict.fromkeys(("click", "amp_click"), EventType.CLICKED),
    **dict.fromkeys(("list_unsubscribe", "link_unsubscribe"), EventType.UNSUBSCRIBED),
}
_NOT_ABOUT_MAIL = ("relay_", "ab_test_")
_INGESTED = ("success", "error")
# By bounce class; None = no bounce at all (an auto-reply, a challenge). What is not here is soft.
_BOUNCES: dict[str, tuple[EventType, str] | None] = {
    **dict.fromkeys(("10", "30"), (EventType.BOUNCED, "hard")),
    **dict.fromkeys(("25", "26"), (EventType.DROPPED, "")),
    **dict.fromkeys(("50", "51", "52", "53", "54"), (EventType.BOUNCED, "block")),
    **dict.fromkeys(("60", "100")),
    "80": (EventType.SUBSCRIBED, ""),
    "90": (EventType.UNSUBSCRIBED, ""),
}
_SOFT = (EventType.BOUNCED, "soft")
_YES = (True, 1, "true", "1")


def unwrapped(document: Any) -> Iterator[events.Fields]:
    """The events of a body; an empty wrapper is a ping. Raises BadCallback where it is neither an event nor an array of them."""
    for item in events.items(document, PROVIDER):
        inner = item.get("msys", item if "type" in item else None)
        if not isinstance(inner, dict):
            events.count_unknown(PROVIDER)
        elif inner is item:
            yield item
        else:
            yield from (fields if isinstance(fields, dict) else {} for fields in inner.values())


def read_event(fields: events.Fields) -> Event | None:
    """The event, or None for what means nothing, and for what has no word of ours (that is counted)."""
    kind = events.text(fields.get("type"))
    meaning = _meaning(kind, fields)
    if meaning is None:
        if not _is_ignored(kind):
            events.count_unknown(PROVIDER)
        return None
    type_, bounce = meaning
    reason = events.text(fields.get("raw_reason"), 2_000) or events.text(fields.get("reason"), 2_000)
    return Event(
        type=type_,
        provider=PROVIDER,
        event_id=events.own_id(fields.get("event_id")) or events.hash_of(fields),
        recipient=events.address(fields.get("raw_rcpt_to")) or events.address(fields.get("rcpt_to")),
        at=_moment(fields.get("timestamp")),
        attempt_id=attempt_id_of(fields),
        message_id=events.text(fields.get("transmission_id")) or events.text(fields.get("message_id")),
        reason=base.cut_detail(reason),
        smtp_code=events.smtp_code(reason, events.text(fields.get("error_code"))),
        bounce=bounce,
        ip=events.ip(fields.get("ip_address")),
        user_agent=events.text(fields.get("user_agent"), events.USER_AGENT_CHARACTERS),
        url=events.text(fields.get("target_link_url"), events.URL_CHARACTERS),
        is_machine=_is_prefetched(fields),
        raw=events.kept(fields),
    )


def attempt_id_of(fields: events.Fields) -> str:
    """Our attempt in an event's metadata, or "" where it is somebody else's."""
    metadata = fields.get("rcpt_meta")
    return events.attempt_id(metadata.get("attempt_id")) if isinstance(metadata, dict) else ""


def _meaning(kind: str, fields: events.Fields) -> tuple[EventType, str] | None:
    """The type, and the kind of a bounce."""
    if kind in ("bounce", "out_of_band"):
        return _BOUNCES.get(events.text(fields.get("bounce_class")), _SOFT)
    return (_TYPES[kind], "") if kind in _TYPES else None


def _is_ignored(kind: str) -> bool:
    return kind in _TYPES or kind in _INGESTED or kind.startswith(_NOT_ABOUT_MAIL)


def _moment(value: Any) -> datetime | None:
    """Unix seconds as text, or ISO 8601, as some events have it."""
    return events.unix_moment(value) or events.iso_moment(value)


def _is_prefetched(fields: events.Fields) -> bool:
    """Was it a mail program's proxy that opened it before anybody looked? The field's name is seen in samples only."""
    parsed = fields.get("user_agent_parsed")
    return isinstance(parsed, dict) and parsed.get("is_prefetched") in _YES
