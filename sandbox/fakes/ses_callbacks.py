"""SES' event publishing as its receiver meets it: one event in each SNS envelope.

An open or click does not say whose it was; the mail's tags tell the attempt. Sources (read 2026-11): the SES developer guide's
"contents of event data" and "notification contents". Nothing here knows the product's adapter.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sandbox.fakes.callbacks import Happening, Post
from sandbox.fakes.ledger import Line
from sandbox.fakes.sns import Sns

_SUBJECT = "Amazon SES Email Event Notification"
_SOURCE = "noreply@sandbox.test"
_MTA = "dsn; b224-12.smtp-out.eu-west-1.amazonses.com"
_LIST = "newsletter"
# bounceType, bounceSubType, status, diagnosticCode
_BOUNCES: dict[str, list[tuple[str, str, str, str]]] = {
    "hard_bounce": [
        ("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 The email account that you tried to reach does not exist."),
        ("Permanent", "NoEmail", "5.1.3", "smtp; 550 5.1.3 The address could not be found in the bounce message."),
    ],
    "soft_bounce": [
        ("Transient", "General", "4.4.7", "smtp; 451 4.4.7 Delivery time expired"),
        ("Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 The recipient's mailbox is over quota."),
        ("Transient", "MessageTooLarge", "5.3.4", "smtp; 552 5.3.4 Message size exceeds fixed limit"),
        ("Undetermined", "Undetermined", "5.0.0", "smtp; 550 something went wrong"),
    ],
    "block": [
        ("Transient", "ContentRejected", "5.7.1", "smtp; 554 5.7.1 The content looks like spam"),
        ("Transient", "AttachmentRejected", "5.7.0", "smtp; 552 5.7.0 The attachment is not allowed"),
    ],
    "dropped": [
        ("Permanent", "OnAccountSuppressionList", "5.1.1", "Amazon SES did not send the message to this address: suppressed."),
        ("Permanent", "Suppressed", "5.1.1", "Amazon SES has suppressed sending to this address: recent history of bouncing."),
    ],
}

_LIKE = {"late_bounce": "hard_bounce"}


class Callbacks:
    """Signs as a topic whose keys were made for this object; its certificate is served as long as the process lives."""

    def __init__(self, folder: Path | None = None) -> None:
        self._sns = Sns(folder)

    def settings(self) -> dict[str, str]:
        return self._sns.settings()

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        return [self._post(happening) for happening in happenings]

    def _post(self, happening: Happening) -> Post:
        """A repeat is SNS' own second try: the same envelope, with the time of the first."""
        digits = happening.identity
        message_id = f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"
        return self._sns.notification(message_id, _SUBJECT, orjson.dumps(_event(happening)).decode() + "\n", _spelled(happening.at))


def _event(happening: Happening) -> dict[str, Any]:
    type_, key, own = _TELLERS[happening.kind](happening)
    return {"eventType": type_, key: own, "mail": _mail(happening.line)}


def _mail(line: Line) -> dict[str, Any]:
    tags = {"ses:configuration-set": ["events"], "ses:source-ip": ["192.0.2.40"], "ses:from-domain": [_SOURCE.rpartition("@")[2]]}
    if line["attempt_id"] is not None:
        tags["attempt_id"] = [line["attempt_id"]]
    at = _spelled(line["at"])
    return {
        "timestamp": at,
        "messageId": line["message_id"],
        "source": _SOURCE,
        "sendingAccountId": "123456789012",
        "destination": [line["recipient"]],
        "headersTruncated": False,
        "headers": [{"name": "To", "value": line["recipient"]}, {"name": "Subject", "value": line["subject"]}],
        "commonHeaders": {"from": [_SOURCE], "to": [line["recipient"]], "subject": line["subject"], "messageId": line["message_id"]},
        "tags": tags,
    }


def _bounce(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    type_, sub_type, status, words = happening.pick(_BOUNCES[_LIKE.get(happening.kind, happening.kind)])
    recipient = {"emailAddress": happening.line["recipient"], "action": "failed", "status": status, "diagnosticCode": words}
    kinds = {"bounceType": type_, "bounceSubType": sub_type, "bouncedRecipients": [recipient]}
    return "Bounce", "bounce", kinds | {"timestamp": _spelled(happening.at), "feedbackId": _feedback_id(happening), "reportingMTA": _MTA}


def _dropped(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    return happening.pick([_bounce, _bounce, _rejected])(happening)


def _rejected(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    return "Reject", "reject", {"reason": "Bad content"}


def _sent(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    return "Send", "send", {}


def _delivered(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    times = {"timestamp": _spelled(happening.at), "processingTimeMillis": int((happening.at - happening.line["at"]) * 1_000)}
    words = {"recipients": [happening.line["recipient"]], "smtpResponse": "250 2.0.0 OK", "reportingMTA": _MTA.removeprefix("dsn; ")}
    return "Delivery", "delivery", times | words


def _delayed(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    delayed = {"emailAddress": happening.line["recipient"], "status": "4.7.1", "diagnosticCode": "smtp; 451 4.7.1 try again later"}
    times = {"timestamp": _spelled(happening.at), "expirationTime": _spelled(happening.line["at"] + 50_400)}
    return "DeliveryDelay", "deliveryDelay", {"delayType": "TransientCommunicationFailure", "delayedRecipients": [delayed], **times}


def _complained(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    at = _spelled(happening.at)
    who = {"complainedRecipients": [{"emailAddress": happening.line["recipient"]}], "complaintSubType": None}
    report = {"userAgent": "Feedback-Loop/1.0", "complaintFeedbackType": "abuse", "arrivalDate": at, "feedbackId": _feedback_id(happening)}
    return "Complaint", "complaint", who | report | {"timestamp": at}


def _looked(happening: Happening) -> dict[str, Any]:
    return {"timestamp": _spelled(happening.at), "ipAddress": happening.ip, "userAgent": happening.user_agent}


def _opened(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    return "Open", "open", _looked(happening)


def _clicked(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    return "Click", "click", _looked(happening) | {"link": happening.url, "linkTags": None}


def _unsubscribed(happening: Happening) -> tuple[str, str, dict[str, Any]]:
    topics = [{"topicName": "offers", "subscriptionStatus": "OptIn"}]
    new = {"unsubscribeAll": True, "topicSubscriptionStatus": [topic | {"subscriptionStatus": "OptOut"} for topic in topics]}
    old = {"unsubscribeAll": False, "topicSubscriptionStatus": topics}
    own = {"contactList": _LIST, "timestamp": _spelled(happening.at), "source": "UnsubscribeHeader"}
    return "Subscription", "subscription", own | {"newTopicPreferences": new, "oldTopicPreferences": old}


def _feedback_id(happening: Happening) -> str:
    digits = happening.identity
    return f"0102{digits[:12]}-{digits[12:20]}-{digits[20:24]}-4{digits[24:27]}-a{digits[27:30]}-{digits[30:42]}-000000"


def _spelled(at: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_TELLERS: dict[str, Callable[[Happening], tuple[str, str, dict[str, Any]]]] = {
    **dict.fromkeys(("hard_bounce", "soft_bounce", "block", "late_bounce"), _bounce),
    "processed": _sent,
    "dropped": _dropped,
    "deferred": _delayed,
    "delivered": _delivered,
    "open": _opened,
    "machine_open": _opened,
    "click": _clicked,
    "complaint": _complained,
    "unsubscribe": _unsubscribed,
}
