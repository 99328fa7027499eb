"""Postmark's webhooks as their receiver meets them: one object a request, behind a user name and a password.

Sources (read 2026-11): Postmark's webhook pages as digested in ActiveCampaign/postmark-skills and api-evangelist/postmark, bounce
types of postmark.js. Nothing here knows the product's adapter.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sandbox.fakes.callbacks import Happening, Post

_USERNAME = "sandbox"
_SERVER_ID = 23
# Type, TypeCode, Name, Description, Details, Inactive
_BOUNCES: dict[str, tuple[str, int, str, str, str, bool]] = {
    "hard_bounce": (
        *("HardBounce", 1, "Hard bounce", "The server was unable to deliver your message (ex: unknown user, mailbox not found)."),
        *("smtp;550 5.1.1 The email account that you tried to reach does not exist.", True),
    ),
    "soft_bounce": (
        *("SoftBounce", 4096, "Soft bounce", "Unable to temporarily deliver message (i.e. mailbox full)."),
        *("smtp;452 4.2.2 The recipient's mailbox is over quota.", False),
    ),
    "block": (
        *("Blocked", 100006, "ISP block", "Blocked from this ISP due to content or blacklisting."),
        *("smtp;550 5.7.1 Messages from this server were not accepted because of its reputation.", False),
    ),
    "deferred": (
        *("Transient", 2, "Message delayed", "The server could not temporarily deliver your message (ex: Message is delayed)."),
        *("smtp;451 4.7.1 try again later", False),
    ),
    "late_bounce": (
        *("HardBounce", 1, "Hard bounce", "The server was unable to deliver your message (ex: unknown user, mailbox not found)."),
        *("smtp;550 5.1.1 The receiving server took the message and sent it back later.", True),
    ),
    "dropped": ("ManuallyDeactivated", 100002, "Manually deactivated", "The email was manually deactivated.", "", True),
}


class Callbacks:
    """Brings a password that was made for this object. Postmark has no webhook for a mail that was merely taken."""

    def __init__(self, folder: Path | None = None) -> None:
        self._password = secrets.token_urlsafe(16)

    def settings(self) -> dict[str, str]:
        return {"POSTMARK_WEBHOOK_USERNAME": _USERNAME, "POSTMARK_WEBHOOK_PASSWORD": self._password}

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        login = base64.b64encode(f"{_USERNAME}:{self._password}".encode()).decode()
        headers = {"Content-Type": ["application/json"], "User-Agent": ["Postmark"], "Authorization": [f"Basic {login}"]}
        webhooks = (_webhook(happening) for happening in happenings)
        return [Post(headers, orjson.dumps(webhook)) for webhook in webhooks if webhook]


def _webhook(happening: Happening) -> dict[str, Any] | None:
    shared = _shared(happening)
    at, recipient = _spelled(happening.at), happening.line["recipient"]
    if happening.kind == "delivered":
        return {"RecordType": "Delivery", "Recipient": recipient, "DeliveredAt": at, "Details": "smtp;250 2.0.0 OK", **shared}
    if happening.kind in _BOUNCES or happening.kind == "complaint":
        return _bounce(happening, at) | shared
    if happening.kind in ("open", "machine_open", "click"):
        return _engagement(happening, at) | shared
    if happening.kind == "unsubscribe":
        why = {"Origin": "Recipient", "SuppressSending": True, "SuppressionReason": "ManualSuppression"}
        return {"RecordType": "SubscriptionChange", "Recipient": recipient, "ChangedAt": at, **why, **shared}
    return None


def _shared(happening: Happening) -> dict[str, Any]:
    attempt_id = happening.line["attempt_id"]
    return {
        "MessageID": happening.line["message_id"],
        "ServerID": _SERVER_ID,
        "MessageStream": "outbound",
        "Tag": "",
        "Metadata": {} if attempt_id is None else {"attempt_id": attempt_id},
    }


def _bounce(happening: Happening, at: str) -> dict[str, Any]:
    complaint = ("SpamComplaint", 100001, "Spam complaint", "The subscriber explicitly marked this message as spam.", "", True)
    type_, code, name, description, details, is_inactive = _BOUNCES.get(happening.kind, complaint)
    return {
        "RecordType": "SpamComplaint" if happening.kind == "complaint" else "Bounce",
        "ID": int(happening.identity[:15], 16),
        "Type": type_,
        "TypeCode": code,
        "Name": name,
        "Email": happening.line["recipient"],
        "From": "noreply@sandbox.test",
        "BouncedAt": at,
        "Description": description,
        "Details": details,
        "DumpAvailable": True,
        "Inactive": is_inactive,
        "CanActivate": happening.kind != "complaint",
        "Subject": happening.line["subject"],
    }


def _engagement(happening: Happening, at: str) -> dict[str, Any]:
    webhook: dict[str, Any] = {
        "RecordType": "Click" if happening.kind == "click" else "Open",
        "Recipient": happening.line["recipient"],
        "ReceivedAt": at,
        "Platform": "Unknown",
        "Client": {"Name": "unknown", "Company": "unknown", "Family": "unknown"},
        "OS": {"Name": "unknown", "Company": "unknown", "Family": "unknown"},
        "UserAgent": happening.user_agent,
        "Geo": {"CountryISOCode": "DE", "Country": "Germany", "City": "Berlin", "IP": happening.ip},
    }
    if happening.kind == "click":
        return webhook | {"ClickLocation": "HTML", "OriginalLink": happening.url}
    return webhook | {"FirstOpen": True}


def _spelled(at: float) -> str:
    """ISO 8601 with seven digits of a second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
