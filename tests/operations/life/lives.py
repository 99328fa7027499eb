"""Lives of emails as the records would tell them, for tests of the telling: every moment is counted from one fixed instant."""

from datetime import UTC, datetime, timedelta

from db.doubt import Uncertain
from db.life import Entry, Letter, Life, Report, Row, Try
from db.suppressions import Listed
from mail.event import Event, EventType
from mail.ids import new_id
from operations.life.reported import Told

CAME = datetime(2026, 11, 28, 10, 0, 0, 250_000, UTC)
ROW_ID = new_id(int(CAME.timestamp() * 1000))[:14] + "7000-8000-000000000001"
_ATTEMPT = ROW_ID[:14] + "7000-8000-0000000000a{}"
LETTER_ID = "0a1b2c3d-0000-5000-8000-000000000001"


def at(seconds):
    return CAME + timedelta(seconds=seconds)


def attempt_id(number):
    return _ATTEMPT.format(number)


def row(status="sent", **changes):
    usual = dict.fromkeys(Row._fields) | {
        "row_id": ROW_ID,
        "job_id": "order-1742",
        "tenant": 7,
        "type": "welcome-email",
        "template": "welcome-email",
        "recipient": "ada@example.com",
        "name": "Ada Lovelace",
        "subject": "Welcome, Ada",
        "priority": "normal",
        "lane": "normal",
        "status": status,
        "created_at": CAME,
        "updated_at": at(1),
        "retry_count": 0,
        "max_retries": 3,
        "batch_id": 0,
        "generation": 0,
        "waits": 0,
        "has_payload": False,
        "attempt_id": attempt_id(1),
    }
    return Row(**usual | changes)


def attempt(number=1, state="accepted", provider="sendgrid", opened=0.0, answered=0.1, **changes):
    usual = dict.fromkeys(Try._fields) | {
        "attempt_id": attempt_id(number),
        "number": number,
        "provider": provider,
        "account_tenant": 0,
        "mailbox_provider": "gmail",
        "stream": "transactional",
        "state": state,
        "owner": "host/0/1",
        "opened_at": at(opened),
        "answered_at": None if answered is None else at(answered),
        "message_id": f"m-{number}" if state == "accepted" else None,
    }
    return Try(**usual | changes)


def told(kind, after, number=1, provider="sendgrid", is_machine=False, moment=None, **event):
    report = Report(moment or at(after), kind, provider, attempt_id(number), "ada@example.com", is_machine, {})
    return Told(report, Event(EventType(kind), provider, "e", "ada@example.com", report.at, **event))


def letter(reason="rejected", after=1.0, **changes):
    usual = {
        "id": LETTER_ID,
        "reason": reason,
        "error": "said so",
        "job_id": "order-1742",
        "tenant": 7,
        "row_id": ROW_ID,
        "source": {"topic": "email-jobs", "partition": 3, "offset": 17},
        "attempts": 1,
        "created_at": at(after),
        "settled_at": None,
        "has_value": True,
    }
    return Letter(**usual | changes)


def stop(reason="hard-bounce", after=2.0, **changes):
    usual = dict.fromkeys(Listed._fields) | {
        "address": "ada@example.com",
        "tenant": 7,
        "reason": reason,
        "source": "sendgrid/0",
        "at": at(after),
        "stream": "",
        "is_global": False,
    }
    return Listed(**usual | changes)


def doubt(waits_for="policy", **changes):
    usual = dict.fromkeys(Uncertain._fields) | {
        "attempt_id": attempt_id(1),
        "row_id": ROW_ID,
        "job_id": "order-1742",
        "tenant": 7,
        "provider": "sendgrid",
        "account_tenant": 0,
        "reason": "read timed out",
        "since": at(1),
        "number": 1,
        "waits_for": waits_for,
    }
    return Uncertain(**usual | changes)


def entry(action, after, actor="grace"):
    return Entry(at(after), actor, action)


def life(row_=None, tries=(), now=60.0, **changes):
    usual = {
        "now": at(now),
        "row": row_ or row(),
        "tries": list(tries),
        "reports": [],
        "letters": [],
        "entries": [],
        "doubts": [],
        "stops": [],
        "pause": None,
        "unpublished": [],
        "owner": None,
    }
    return Life(**usual | changes)
