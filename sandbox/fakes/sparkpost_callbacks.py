"""SparkPost's webhooks as their receiver meets them: arrays of wrapped events, nearly all values texts, behind a user name and password.

One look at a mail fires the pixel at its top and, where it is not too long, the one at its bottom. Sources (read 2026-11): SparkPost's
webhooks and events API pages, support pages on bounce classification codes. Nothing here knows the product's adapter.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from sandbox.fakes.callbacks import Happening, Post

_USERNAME = "sandbox"
_EVENTS_PER_POST = 350
_LONG_MAILS_PER_CENT = 20  # cut short by the reader's program, so that the lower pixel is never seen
# bounce_class, error_code, raw_reason
_BOUNCES: dict[str, list[tuple[str, str, str]]] = {
    "hard_bounce": [
        ("10", "550", "550 5.1.1 The email account that you tried to reach does not exist."),
        ("30", "550", "550 5.1.0 No RCPT command was accepted"),
    ],
    "soft_bounce": [
        ("1", "550", "550 undetermined"),
        ("20", "451", "451 4.3.0 Temporary failure"),
        ("21", "450", "450 4.4.4 DNS failure"),
        ("22", "452", "452 4.2.2 The recipient's mailbox is over quota."),
        ("23", "552", "552 5.3.4 Message size exceeds fixed limit"),
        ("24", "421", "421 4.4.2 timed out"),
        ("40", "554", "554 generic failure"),
        ("70", "451", "451 4.4.7 expired"),
    ],
    "block": [
        ("50", "550", "550 5.7.1 Messages from 192.0.2.30 were not accepted because of its reputation."),
        ("51", "554", "554 5.7.1 Service unavailable; client host is on a block list"),
        ("52", "554", "554 5.7.1 The content looks like spam"),
        ("53", "552", "552 5.7.0 The attachment is not allowed"),
        ("54", "550", "550 5.7.1 Relaying denied"),
    ],
    "deferred": [("20", "451", "451 4.7.1 try again later"), ("24", "421", "421 4.4.1 timed out")],
    "dropped": [("25", "550", "550 5.7.1 recipient address was suppressed due to customer policy")],
}
_TYPES: dict[str, tuple[str, str]] = {
    "processed": ("message_event", "injection"),
    "delivered": ("message_event", "delivery"),
    "deferred": ("message_event", "delay"),
    "hard_bounce": ("message_event", "bounce"),
    "late_bounce": ("message_event", "out_of_band"),
    "soft_bounce": ("message_event", "bounce"),
    "block": ("message_event", "bounce"),
    "complaint": ("message_event", "spam_complaint"),
    "click": ("track_event", "click"),
}
_DROPS = [("message_event", "policy_rejection"), ("gen_event", "generation_rejection")]
_UNSUBSCRIBES = [("unsubscribe_event", "list_unsubscribe"), ("unsubscribe_event", "link_unsubscribe")]


class Callbacks:
    """Brings a password that was made for this object."""

    def __init__(self, folder: Path | None = None) -> None:
        self._password = secrets.token_urlsafe(16)

    def settings(self) -> dict[str, str]:
        return {"SPARKPOST_WEBHOOK_USERNAME": _USERNAME, "SPARKPOST_WEBHOOK_PASSWORD": self._password}

    def posts(self, happenings: Sequence[Happening], now: float) -> list[Post]:
        wrapped = [{"msys": {class_: event}} for happening in happenings for class_, event in _events(happening)]
        return [self._post(wrapped[start : start + _EVENTS_PER_POST]) for start in range(0, len(wrapped), _EVENTS_PER_POST)]

    def _post(self, wrapped: Sequence[dict[str, Any]]) -> Post:
        body = orjson.dumps(wrapped)
        headers = {
            "Content-Type": ["application/json"],
            "User-Agent": ["SparkPost"],
            "Authorization": ["Basic " + base64.b64encode(f"{_USERNAME}:{self._password}".encode()).decode()],
            "X-MessageSystems-Batch-ID": [hashlib.sha256(body).hexdigest()[:32]],
        }
        return Post(headers, body)


def _events(happening: Happening) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and event, of which an open has two, unless the mail was cut short."""
    if happening.kind in ("open", "machine_open"):
        yield "track_event", _event(happening, "initial_open", "1")
        if int(happening.identity[:8], 16) % 100 >= _LONG_MAILS_PER_CENT:
            yield "track_event", _event(happening, "open", "2")
        return
    picked = {"dropped": _DROPS, "unsubscribe": _UNSUBSCRIBES}.get(happening.kind)
    class_, type_ = happening.pick(picked) if picked else _TYPES[happening.kind]
    yield class_, _event(happening, type_, "0")


def _event(happening: Happening, type_: str, place: str) -> dict[str, Any]:
    line, digits = happening.line, happening.identity
    own_id = hashlib.sha256(f"{line['message_id']}{line['attempt_id']}{line['recipient']}".encode()).hexdigest()[:20]
    event: dict[str, Any] = {
        "type": type_,
        "event_id": str(int(digits[:15] + place, 16)),
        "timestamp": str(int(happening.at)),
        "transmission_id": line["message_id"],
        "message_id": own_id,
        "rcpt_to": line["recipient"].lower(),
        "raw_rcpt_to": line["recipient"],
        "rcpt_meta": {} if line["attempt_id"] is None else {"attempt_id": line["attempt_id"]},
        "rcpt_tags": [],
        "subject": line["subject"],
        "friendly_from": "noreply@sandbox.test",
        "msg_from": "msprvs1@bounces.sandbox.test",
        "msg_size": "4096",
        "ip_pool": "shared",
        "sending_ip": "192.0.2.30",
        "routing_domain": line["recipient"].rpartition("@")[2].lower(),
        "subaccount_id": "0",
        "customer_id": "1",
    }
    return event | _details(happening, type_)


def _details(happening: Happening, type_: str) -> dict[str, Any]:
    kind = "hard_bounce" if happening.kind == "late_bounce" else happening.kind
    if kind in _BOUNCES:
        class_, code, reason = happening.pick(_BOUNCES[kind])
        return {
            "bounce_class": class_,
            "error_code": code,
            "raw_reason": reason,
            "reason": reason,
            "num_retries": "0",
            "queue_time": "1200",
        }
    if happening.kind == "delivered":
        return {"queue_time": "1200", "num_retries": "0", "ip_address": "198.51.100.25", "outbound_tls": "1"}
    if happening.kind == "complaint":
        return {"fbtype": "abuse", "report_by": "receiver.test", "report_to": "abuse@sandbox.test"}
    if type_ == "list_unsubscribe":
        return {"mailfrom": happening.line["recipient"]}
    if not happening.user_agent:
        return {}
    looked: dict[str, Any] = {"user_agent": happening.user_agent, "ip_address": happening.ip, "geo_ip": {"country": "DE", "city": "Berlin"}}
    if type_ == "link_unsubscribe":
        return looked | {"target_link_url": "https://sandbox.test/unsubscribe"}
    return looked | ({"target_link_url": happening.url, "target_link_name": "offer"} if happening.url else {})
