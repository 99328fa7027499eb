"""SocketLabs' event webhooks as their receiver meets them: one object a request, with the secret key in its body.

An event has no id; what tells a mail is the MessageId that its sender gave. Sources (read 2026-11): SocketLabs' help pages on the
event webhook, its EventWebhooks.Extensions (types and failure codes). Nothing here knows the product's adapter.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sandbox.fakes.callbacks import Happening, Post

_SERVER_ID = 12345
_MX = "mx.receiver.test"
_PERMANENT, _TEMPORARY, _SUPPRESSED = 1, 0, 2
# FailureCode, BounceStatus, Reason
_FAILURES: dict[str, tuple[int, list[tuple[int, str, str]]]] = {
    "hard_bounce": (
        _PERMANENT,
        [
            (2001, "5.1.1", "550 5.1.1 The email account that you tried to reach does not exist."),
            (2002, "5.1.2", "550 5.1.2 Host unknown"),
            (2003, "5.1.3", "553 5.1.3 The address is not in the right form"),
            (2004, "5.1.6", "551 5.1.6 The recipient has moved"),
            (2999, "5.1.0", "550 5.1.0 Address rejected"),
        ],
    ),
    "late_bounce": (_PERMANENT, [(2001, "5.1.1", "550 5.1.1 The receiving server took the message and sent it back later.")]),
    "soft_bounce": (
        _TEMPORARY,
        [
            (3001, "4.2.2", "452 4.2.2 The recipient's mailbox is over quota."),
            (3003, "4.4.7", "451 4.4.7 Delivery time expired"),
            (3999, "4.3.0", "451 4.3.0 Temporary failure"),
            (4001, "4.3.2", "421 4.3.2 Server busy"),
            (4003, "4.4.1", "421 4.4.1 Cannot connect"),
        ],
    ),
    "block": (
        _TEMPORARY,
        [
            (1002, "5.7.1", "550 5.7.1 Messages from 192.0.2.20 were not accepted because of its reputation."),
            (1003, "5.7.1", "554 5.7.1 The domain is on a block list"),
            (1004, "5.7.0", "554 5.7.0 The content was rejected"),
            (1007, "5.7.0", "554 5.7.0 A virus was found"),
            (1999, "5.7.1", "550 5.7.1 The message was rejected"),
        ],
    ),
    "dropped": (_SUPPRESSED, [(9999, "", "Suppressed: the address is on the server's suppression list")]),
}
_TRACKING = {"click": 0, "open": 1, "machine_open": 1, "unsubscribe": 2}


class Callbacks:
    """Brings a secret key that was made for this object."""

    def __init__(self, folder: Path | None = None) -> None:
        self._secret = secrets.token_urlsafe(15)

    def settings(self) -> dict[str, str]:
        return {"SOCKETLABS_WEBHOOK_SECRET": self._secret}

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        headers = {"Content-Type": ["application/json"], "User-Agent": ["SocketLabs Event Webhook"]}
        return [Post(headers, orjson.dumps(self._event(happening))) for happening in happenings]

    def _event(self, happening: Happening) -> dict[str, Any]:
        line = happening.line
        shared = {
            "DateTime": datetime.fromtimestamp(happening.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
            "ServerId": _SERVER_ID,
            "SubaccountId": _SERVER_ID,
            "IpPoolId": 1,
            "SecretKey": self._secret,
            "Address": line["recipient"],
            "MailingId": "",
            "MessageId": line["attempt_id"] or line["message_id"],
        }
        own = _own_fields(happening)
        return shared | own if own["Type"] == "Complaint" else shared | own | {"Data": {"Meta": [], "Tags": []}}


def _own_fields(happening: Happening) -> dict[str, Any]:
    if happening.kind in _TRACKING:
        looked = {"ClientIp": happening.ip, "UserAgent": happening.user_agent}
        return {
            "Type": "Tracking",
            "TrackingType": _TRACKING[happening.kind],
            **looked,
            **({"Url": happening.url} if happening.url else {}),
        }
    sender = {"FromAddress": "noreply@sandbox.test"}
    if happening.kind in _FAILURES:
        kind, reasons = _FAILURES[happening.kind]
        code, status, reason = happening.pick(reasons)
        words = {"Reason": reason, "BounceStatus": status, "DiagnosticCode": f"smtp;{reason}", "RemoteMta": _MX}
        return {"Type": "Failed", "FailureType": kind, "FailureCode": code, **words, **sender}
    if happening.kind == "deferred":
        return {"Type": "Deferred", "DeferralCode": 4001, "Reason": "451 4.7.1 try again later", **sender}
    if happening.kind == "delivered":
        return {"Type": "Delivered", "Response": "250 2.0.0 OK", "LocalIp": "192.0.2.20", "RemoteMta": _MX}
    if happening.kind == "complaint":
        parties = {"From": "noreply@sandbox.test", "To": happening.line["recipient"]}
        return {"Type": "Complaint", "FblType": "abuse", "UserAgent": "Feedback-Loop/1.0", "Length": 4096, **parties}
    return {"Type": "Queued", "Subject": happening.line["subject"], "MessageSize": 4096, **sender}
