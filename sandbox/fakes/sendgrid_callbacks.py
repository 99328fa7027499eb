"""SendGrid's event webhook as its receiver meets it: arrays of mixed events, signed with ECDSA over timestamp and body.

Sources (read 2026-11): SendGrid's event webhook reference and "signed event webhook" pages, twilio/sendgrid-oai, public receivers'
fixtures. Nothing here knows the product's adapter.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.fakes.callbacks import Happening, Post

_EVENTS_PER_POST = 500
_EVENTS = {
    "hard_bounce": "bounce",
    "late_bounce": "bounce",
    "soft_bounce": "bounce",
    "block": "bounce",
    "machine_open": "open",
    "complaint": "spamreport",
}
_UNFLAGGED_PER_CENT = 5  # machine opens that SendGrid takes for a person's
_DETAILS: dict[str, dict[str, Any]] = {
    "dropped": {"reason": "Bounced Address", "status": "5.0.0"},
    "deferred": {"response": "451 4.7.1 try again later", "attempt": "1", "tls": 1},
    "delivered": {"response": "250 2.0.0 OK", "ip": "192.0.2.10", "tls": 1},
    "hard_bounce": {
        "type": "bounce",
        "bounce_classification": "Invalid Address",
        "status": "5.1.1",
        "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
        "ip": "192.0.2.10",
        "tls": 1,
    },
    "soft_bounce": {
        "type": "blocked",
        "bounce_classification": "Mailbox Unavailable",
        "status": "4.2.2",
        "reason": "452 4.2.2 The recipient's mailbox is over quota.",
        "ip": "192.0.2.10",
        "tls": 1,
    },
    "block": {
        "type": "blocked",
        "bounce_classification": "Reputation",
        "status": "5.7.1",
        "reason": "550 5.7.1 Messages from 192.0.2.10 were not accepted because of its reputation.",
        "ip": "192.0.2.10",
        "tls": 1,
    },
}


class Callbacks:
    """Signs with a key pair that was made for this object."""

    def __init__(self, folder: Path | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def settings(self) -> dict[str, str]:
        public = self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return {"SENDGRID_WEBHOOK_PUBLIC_KEY": base64.b64encode(public).decode()}

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        return [self._post(happenings[start : start + _EVENTS_PER_POST], now) for start in range(0, len(happenings), _EVENTS_PER_POST)]

    def _post(self, happenings: Sequence[Happening], now: float) -> Post:
        body = orjson.dumps([_event(happening) for happening in happenings]) + b"\r\n"
        timestamp = str(int(now))
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        headers = {
            "Content-Type": ["application/json"],
            "User-Agent": ["SendGrid Event API"],
            "X-Twilio-Email-Event-Webhook-Signature": [base64.b64encode(signature).decode()],
            "X-Twilio-Email-Event-Webhook-Timestamp": [timestamp],
        }
        return Post(headers, body)


def _event(happening: Happening) -> dict[str, Any]:
    line, digits = happening.line, happening.identity
    event = {
        "email": line["recipient"],
        "timestamp": int(happening.at),
        "smtp-id": f"<{line['message_id']}@geopod-ismtpd-1>",
        "event": _EVENTS.get(happening.kind, happening.kind),
        "sg_event_id": base64.urlsafe_b64encode(bytes.fromhex(digits))[:22].decode(),
        "sg_message_id": f"{line['message_id']}.recvd-{digits[:10]}-{digits[10:15]}-1-{digits[15:23].upper()}-{line['request'] % 100}.0",
        **_DETAILS.get(happening.kind, {}),
    }
    if happening.kind == "late_bounce":  # an asynchronous one came by mail, which names no message
        event |= _DETAILS["hard_bounce"]
        del event["sg_message_id"]
    if line["attempt_id"] is not None:
        event["attempt_id"] = line["attempt_id"]
    return event | _engagement(happening)


def _engagement(happening: Happening) -> dict[str, Any]:
    if not happening.user_agent:
        return {}
    shown: dict[str, Any] = {"useragent": happening.user_agent, "ip": happening.ip}
    if happening.kind in ("open", "machine_open"):
        is_flagged = happening.kind == "machine_open" and int(happening.identity[:8], 16) % 100 >= _UNFLAGGED_PER_CENT
        return shown | {"sg_machine_open": is_flagged, "sg_content_type": "html"}
    if happening.kind == "click":
        return shown | {"url": happening.url, "url_offset": {"index": 0, "type": "html"}}
    return shown
