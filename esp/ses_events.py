"""SES' events: bare, or in the envelopes of SNS; of event publishing (`eventType`) and of feedback notifications (`notificationType`).

One event may name several recipients, and becomes one of ours for each. Its id is made of what happened, not of SNS' message id:
both feeds of an account may report the same bounce. It must never raise but for a body of which nothing can be read.
Facts: amazon-ses-developer-guide, "Contents of event data" and "notification contents" (2023); SNS' envelopes (2026-11).
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import orjson

import telemetry.log
from esp import base, events
from mail.event import Event, EventType

_PROVIDER = "ses"
_WELCOME = "Successfully validated SNS topic"
_MOST_RECIPIENTS = 100  # SES takes 50 a mail

log = telemetry.log.get("esp.ses_events")


class _Kind(NamedTuple):
    """How one type of event is told: our word, the key of its own fields, and the key of its recipients among these."""

    type: EventType
    key: str
    recipients: str = ""


_KINDS = {
    "send": _Kind(EventType.PROCESSED, "send"),
    "delivery": _Kind(EventType.DELIVERED, "delivery", "recipients"),
    "deliverydelay": _Kind(EventType.DEFERRED, "deliveryDelay", "delayedRecipients"),
    "bounce": _Kind(EventType.BOUNCED, "bounce", "bouncedRecipients"),
    "complaint": _Kind(EventType.COMPLAINED, "complaint", "complainedRecipients"),
    "reject": _Kind(EventType.DROPPED, "reject"),
    "open": _Kind(EventType.OPENED, "open"),
    "click": _Kind(EventType.CLICKED, "click"),
    "renderingfailure": _Kind(EventType.DROPPED, "failure"),
    "subscription": _Kind(EventType.UNSUBSCRIBED, "subscription"),
}
# Types without a recipient of their own concern everybody whom the mail went to; engagements somebody, one does not know whom.
_ENGAGEMENTS = frozenset({EventType.OPENED, EventType.CLICKED})
_SUPPRESSED = frozenset({"suppressed", "onaccountsuppressionlist"})


class _Posted(NamedTuple):
    """An event with what SNS wrote on its envelope."""

    fields: events.Fields
    message_id: str = ""
    at: datetime | None = None


class _Recipient(NamedTuple):
    email: str
    status: str = ""
    words: str = ""


def parse(document: Any) -> list[Event]:
    """The events of a body, in its order. Raises BadCallback where it is neither an object nor an array."""
    return [event for item in events.items(document, _PROVIDER) for posted in _opened(item) for event in _events(posted)]


def _opened(item: events.Fields) -> Iterator[_Posted]:
    """What is in an envelope; a bare event is its own."""
    if not isinstance(item.get("Type"), str) or "TopicArn" not in item:
        yield _Posted(item)
        return
    if item["Type"] != "Notification":
        log.warning("an SNS subscription asks to be confirmed or has ended", type=item["Type"][:40], topic=events.text(item["TopicArn"]))
        return
    message = item.get("Message")
    if isinstance(message, str) and message.startswith(_WELCOME):
        return
    fields = _read(message)
    if fields is None:
        events.count_unknown(_PROVIDER)
        return
    yield _Posted(fields, events.text(item.get("MessageId")), _moment(item.get("Timestamp")))


def _read(message: Any) -> events.Fields | None:
    try:
        # NUL, which the database cannot hold, may hide in here from those who cleaned the envelope
        fields = orjson.loads(message.replace("\\u0000", "\\ufffd")) if isinstance(message, str) else None
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _events(posted: _Posted) -> Iterator[Event]:
    fields = posted.fields
    name = events.text(fields.get("eventType") or fields.get("notificationType")).replace(" ", "").lower()
    kind = _KINDS.get(name)
    if kind is None:
        events.count_unknown(_PROVIDER)
        return
    own, mail = _object(fields.get(kind.key)), _object(fields.get("mail"))
    if name == "complaint" and events.text(own.get("complaintFeedbackType")).lower() == "not-spam":
        return  # a complaint taken back
    type_, bounce = _meaning(kind, own)
    for recipient in _recipients(kind, own, mail):
        yield _event(posted, type_, bounce, own, mail, recipient)


def _event(posted: _Posted, type_: EventType, bounce: str, own: events.Fields, mail: events.Fields, recipient: _Recipient) -> Event:
    message_id = events.text(mail.get("messageId"))
    at = _moment(own.get("timestamp")) or (_moment(mail.get("timestamp")) if type_ is EventType.PROCESSED else posted.at)
    what = [own.get(name) for name in ("feedbackId", "timestamp", "link", "ipAddress", "contactList")]
    return Event(
        type=type_,
        provider=_PROVIDER,
        event_id=events.hash_of(str(type_), message_id or posted.message_id, recipient.email, *what),
        recipient=recipient.email,
        at=at or _moment(mail.get("timestamp")),
        attempt_id=_attempt_id(mail),
        message_id=message_id,
        reason=base.cut_detail(_reason(own, recipient)),
        smtp_code=events.smtp_code(recipient.status, recipient.words, events.text(own.get("smtpResponse"), 2_000)),
        bounce=bounce,
        ip=events.ip(own.get("ipAddress")) if type_ in _ENGAGEMENTS else "",
        user_agent=events.text(own.get("userAgent"), events.USER_AGENT_CHARACTERS) if type_ in _ENGAGEMENTS else "",
        url=events.text(own.get("link"), events.URL_CHARACTERS),
        raw=events.kept({**posted.fields, "mail": _without_headers(mail)}),
    )


def _meaning(kind: _Kind, own: events.Fields) -> tuple[EventType, str]:
    """Type and bounce class. A bounce or complaint of SES' own suppression lists was never sent."""
    if kind.type is EventType.BOUNCED:
        return _bounce(events.text(own.get("bounceType")).lower(), events.text(own.get("bounceSubType")).lower())
    if kind.type is EventType.COMPLAINED and events.text(own.get("complaintSubType")).lower() in _SUPPRESSED:
        return EventType.DROPPED, ""
    if kind.type is EventType.UNSUBSCRIBED and not _has_left(own):
        return EventType.SUBSCRIBED, ""
    return kind.type, ""


def _bounce(bounce_type: str, sub_type: str) -> tuple[EventType, str]:
    if sub_type in _SUPPRESSED:
        return EventType.DROPPED, ""
    if sub_type == "unsubscribedrecipient":
        return EventType.UNSUBSCRIBED, ""
    return EventType.BOUNCED, "hard" if bounce_type == "permanent" else "soft"


def _has_left(own: events.Fields) -> bool:
    """Whether the new preferences leave everything, or a topic that the old ones had."""
    new, old = _object(own.get("newTopicPreferences")), _object(own.get("oldTopicPreferences"))
    return new.get("unsubscribeAll") is True or bool(_topics(new, "OptOut") - _topics(old, "OptOut"))


def _topics(preferences: events.Fields, status: str) -> set[str]:
    # SES' own sample spells the key topicDefaultSubscriptionStatus (2023)
    lists = [preferences.get(name) for name in ("topicSubscriptionStatus", "topicDefaultSubscriptionStatus")]
    topics = [topic for found in lists if isinstance(found, list) for topic in found if isinstance(topic, dict)]
    return {events.text(topic.get("topicName")) for topic in topics if topic.get("subscriptionStatus") == status}


def _recipients(kind: _Kind, own: events.Fields, mail: events.Fields) -> list[_Recipient]:
    """Each once. An open or click tells nobody's name where the mail went to several."""
    named = own.get(kind.recipients) if kind.recipients else mail.get("destination")
    found: dict[str, _Recipient] = {}
    for one in named[:_MOST_RECIPIENTS] if isinstance(named, list) else []:
        details = one if isinstance(one, dict) else {"emailAddress": one}
        email = events.address(details.get("emailAddress"))
        words = events.text(details.get("diagnosticCode"), 2_000)
        found.setdefault(email.lower(), _Recipient(email, events.text(details.get("status")), words))
    found.pop("", None)
    if (kind.type in _ENGAGEMENTS and len(found) > 1) or not found:
        return [_Recipient("")]
    return list(found.values())


def _reason(own: events.Fields, recipient: _Recipient) -> str:
    kinds = [
        events.text(own.get(name)) for name in ("bounceType", "bounceSubType", "complaintSubType", "complaintFeedbackType", "delayType")
    ]
    words = [recipient.words, *(events.text(own.get(name), 2_000) for name in ("reason", "errorMessage"))]
    return ": ".join(filter(None, ["/".join(filter(None, kinds)), next(filter(None, words), "")]))


def _attempt_id(mail: events.Fields) -> str:
    """From the tags; feedback notifications have none, so there from the header that raw mails carry."""
    tagged = _object(mail.get("tags")).get("attempt_id")
    if isinstance(tagged, list) and tagged:
        return events.attempt_id(tagged[0])
    headers = mail.get("headers")
    named = (
        [h.get("value") for h in headers if isinstance(h, dict) and h.get("name") == "X-Attempt-Id"] if isinstance(headers, list) else []
    )
    return events.attempt_id(named[0]) if named else ""


def _without_headers(mail: events.Fields) -> events.Fields:
    """The mail itself stands in its headers; what is kept of an event needs neither."""
    return {name: value for name, value in mail.items() if name not in ("headers", "commonHeaders")}


def _moment(value: Any) -> datetime | None:
    # one of SES' samples has a blank before the offset: 2018-10-08T14:05:45 +0000
    return events.iso_moment(value.replace(" +", "+") if isinstance(value, str) else value)


def _object(value: Any) -> events.Fields:
    return value if isinstance(value, dict) else {}
