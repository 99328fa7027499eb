"""SparkPost as its sender meets it: POST /api/v1/transmissions, GET /api/v1/account and GET /api/v1/events/message.

A transmission is refused whole or taken; of a taken one the recipients that were not are counted, not named.
Rules and codes: SparkPost's API documentation and support pages (read 2026-11); the rules are in sparkpost_rules.py. Nothing here
knows the product's adapter.
"""

import base64
import itertools
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail, is_listed
from sandbox.fakes.sparkpost_language import Values, render
from sandbox.fakes.sparkpost_rules import Fields, Refused, check_transmission, compiled, email_of, recipient_problem

_JSON = {"Content-Type": "application/json"}
_MAX_URI = 4096
_MAX_PAGE = 10_000
_REMEMBERED = 100_000
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TEXTS = {
    401: "Unauthorized.",
    403: "Forbidden.",
    404: "resource not found",
    405: "method not allowed",
    413: "request entity too large",
    415: "Unsupported Media Type",
    420: "Exceed Sending Limit (daily)",
    429: "Too many requests",
    500: "database failure",
    503: "Service Unavailable",
}
_CODES = {403: "1100", 404: "1600", 415: "1700", 420: "2102", 500: "1500", 503: "1900"}


class Fake:
    """SparkPost. One id a transmission. It remembers the newest recipients it took, so that its events can be searched."""

    name = "sparkpost"
    max_body_bytes = 300 * 1024 * 1024

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._events: deque[Fields] = deque(maxlen=_REMEMBERED)
        self._ids = itertools.count(int(clock() * 1000) * 10_000)

    def answer(self, call: Call) -> Answer:
        if not _is_known(call):
            return self.refuse(401)
        parts = urlsplit(call.path)
        routes = {
            "/api/v1/transmissions": ("POST", self._transmit),
            "/api/v1/account": ("GET", self._describe),
            "/api/v1/events/message": ("GET", self._search),
        }
        path = parts.path.rstrip("/")
        if path not in routes:
            return self.refuse(404)
        method, handle = routes[path]
        return handle(call) if call.method == method else self.refuse(405)

    def refuse(self, status: int) -> Answer:
        code = {"code": _CODES[status]} if status in _CODES else {}
        return _errors(status, [{"message": _TEXTS.get(status, "error"), **code}])

    def mail(self, body: bytes, item: int) -> Mail:
        transmission = orjson.loads(body)
        recipient, content = transmission["recipients"][item], transmission["content"]
        values = _values(transmission, recipient)
        rendered = {name: render(template, values) for name, template in compiled(transmission).items()}
        own = [(name, rendered[f"header:{name}"]) for name in content.get("headers") or {}]
        reply_to = [("Reply-To", rendered["reply_to"])] if rendered["reply_to"] else []
        headers = [("From", rendered["from"]), ("To", _shown_to(recipient)), *reply_to, ("Subject", rendered["subject"]), *own]
        files = [*(content.get("attachments") or ()), *(content.get("inline_images") or ())]
        metadata = {**transmission.get("metadata", {}), **recipient.get("metadata", {})}
        attachments = [Attachment(part["name"], part["type"], len(base64.b64decode(part["data"]))) for part in files]
        return Mail(rendered["subject"], rendered.get("html", ""), rendered.get("text", ""), headers, metadata, attachments)

    def _transmit(self, call: Call) -> Answer:
        if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return self.refuse(415)
        if not call.traits.has_send_scope:
            return self.refuse(403)
        if not call.traits.has_credits:
            return self.refuse(420)
        try:
            transmission = _parse(call.body)
            check_transmission(transmission, call.traits.sender_domains, self._clock())
            return self._take(transmission, call)
        except Refused as refused:
            words = {"description": refused.description} if refused.description else {}
            return _errors(refused.status, [{"message": refused.message, **words, "code": refused.code}])

    def _take(self, transmission: Fields, call: Call) -> Answer:
        recipients = transmission["recipients"]
        problems = [_problem(recipient, item, call) for item, recipient in enumerate(recipients)]
        taken = [item for item, problem in enumerate(problems) if problem is None]
        if not taken:
            raise Refused(400, "5002", "no valid recipients", "at least one valid recipient is required")
        counts: Fields = {"total_rejected_recipients": len(recipients) - len(taken), "total_accepted_recipients": len(taken)}
        counts["id"] = str(next(self._ids))
        if len(recipients) == 1 and is_listed(email_of(recipients[0]), call.traits.inactive):
            return _suppressed(counts)
        self._remember(transmission, taken, counts["id"], call)
        accepted = _accepted(transmission, taken, counts["id"])
        reply: Fields = {"results": counts}
        if len(taken) < len(recipients):
            errors = [dict(zip(("message", "description", "code"), problem, strict=True)) for problem in problems if problem]
            counts["rcpt_to_errors"] = errors
            reply["errors"] = [{"message": "transmission created, but with validation errors", "code": "2000"}]
        return Answer(200, orjson.dumps(reply), _JSON, accepted)

    def _remember(self, transmission: Fields, taken: list[int], transmission_id: str, call: Call) -> None:
        for item in taken:
            recipient = transmission["recipients"][item]
            email = email_of(recipient)
            is_suppressed = is_listed(email, call.traits.inactive)
            self._events.append(
                {
                    "type": "generation_rejection" if is_suppressed else "injection",
                    "event_id": f"{transmission_id}{item}",
                    "timestamp": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
                    "transmission_id": transmission_id,
                    "rcpt_to": email.lower(),
                    "raw_rcpt_to": email,
                    "rcpt_meta": {**transmission.get("metadata", {}), **recipient.get("metadata", {})},
                }
            )

    def _describe(self, call: Call) -> Answer:
        day = {"used": 0 if call.traits.has_credits else 1000, "limit": 1000}
        account: Fields = {"customer_id": "1", "status": "active" if call.traits.has_send_scope else "suspended", "options": {}}
        if "include=usage" in call.path:
            account["usage"] = {"day": day}
        return Answer(200, orjson.dumps({"results": account}), _JSON)

    def _search(self, call: Call) -> Answer:
        if len(call.path) > _MAX_URI:
            return _errors(414, [{"message": "URI too long"}])
        query = {name: values[-1] for name, values in parse_qs(urlsplit(call.path).query).items()}
        try:
            start, end = _moment(query, "from", self._clock() - 86_400), _moment(query, "to", self._clock() - 60)
            per_page = int(query.get("per_page", "1000"))
        except ValueError:
            return _errors(400, [{"message": "Invalid parameters", "code": "1200"}])
        if not 1 <= per_page <= _MAX_PAGE:
            return _errors(400, [{"message": "Invalid parameters", "description": "per_page is 1 to 10000", "code": "1200"}])
        wanted, kinds = _listed(query, "recipients"), _listed(query, "events")
        found = [
            event
            for event in self._events
            if start <= datetime.fromisoformat(event["timestamp"]).timestamp() < end
            and (not wanted or event["rcpt_to"] in wanted)
            and (not kinds or event["type"] in kinds)
        ]
        links = {"next": "/api/v1/events/message?cursor=bW9yZQ=="} if len(found) > per_page else {}
        return Answer(200, orjson.dumps({"results": found[:per_page], "total_count": len(found), "links": links}), _JSON)


def _is_known(call: Call) -> bool:
    """The bare key, or basic authentication with it as user name."""
    given = call.headers.get("Authorization", "")
    if given.startswith("Basic "):
        try:
            given = base64.b64decode(given[6:], validate=True).decode().removesuffix(":")
        except ValueError:
            return False
    return bool(given) and " " not in given and (not call.traits.key or given == call.traits.key)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "1305", "invalid UTF-8") from None
    raise Refused(400, "1300", "invalid data format/type", "Problems parsing request as JSON")


def _problem(recipient: Any, item: int, call: Call) -> tuple[str, str, str] | None:
    problem = recipient_problem(recipient)
    if problem is None and (call.is_spoiled(item) or is_listed(email_of(recipient), call.traits.bad_recipients)):
        return "invalid data format/type", "address.email is not a valid email address", "1300"
    return problem


def _suppressed(counts: Fields) -> Answer:
    """The quirk: nothing is sent, and yet the counts beside the error call it accepted."""
    text = "recipient address was suppressed due to customer policy"
    errors = [{"message": "Message generation rejected", "description": text, "code": "1902"}]
    return Answer(400, orjson.dumps({"errors": errors, "results": counts}), _JSON)


def _accepted(transmission: Fields, taken: list[int], transmission_id: str) -> list[Accepted]:
    """One line a mail: the further copies of one (they show another's To, and bring the same attempt) belong to its first."""
    subject = compiled(transmission)["subject"]
    shared_id = transmission.get("metadata", {}).get("attempt_id")
    accepted: list[Accepted] = []
    seen: set[str] = set()
    for item in taken:
        recipient = transmission["recipients"][item]
        attempt_id = recipient.get("metadata", {}).get("attempt_id", shared_id)
        is_copy = isinstance(recipient["address"], dict) and "header_to" in recipient["address"] and attempt_id in seen
        if not is_copy:
            values = _values(transmission, recipient)
            accepted.append(Accepted(attempt_id, transmission_id, email_of(recipient), render(subject, values), item))
        if attempt_id:
            seen.add(attempt_id)
    return accepted


def _values(transmission: Fields, recipient: Fields) -> Values:
    """What the template language sees, lowest first."""
    sources = [(holder, field) for holder in (transmission, recipient) for field in ("metadata", "substitution_data")]
    return {name: value for holder, field in sources for name, value in (holder.get(field) or {}).items()}


def _shown_to(recipient: Fields) -> str:
    address = recipient["address"]
    if isinstance(address, str):
        return address
    shown = address.get("header_to") or address["email"]
    return f'"{address["name"]}" <{shown}>' if address.get("name") else str(shown)


def _moment(query: dict[str, str], name: str, default: float) -> float:
    return datetime.strptime(query[name], _TIME).replace(tzinfo=UTC).timestamp() if name in query else default


def _listed(query: dict[str, str], name: str) -> set[str]:
    return {value.lower() for value in query.get(name, "").split(query.get("delimiter", ",")) if value}


def _errors(status: int, errors: list[dict[str, str]]) -> Answer:
    return Answer(status, orjson.dumps({"errors": errors}), _JSON)
