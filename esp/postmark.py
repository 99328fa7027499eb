"""Postmark: one class, both directions. Rendered mails go as batches (postmark_batch.py builds the bodies), and each has an answer
of its own. Its webhooks come one event a request, with a user name and password that the account may name.

It must never read an answer by position where the count is wrong, nor take silence about a mail for a no.
Facts: postmarkapp.com support articles 1056, 1125, 1180 and api-evangelist/postmark (2026-08), ActiveCampaign/postmark-skills
(2026-02), django-anymail (2026-07).
"""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import orjson

from esp import base, events
from esp.basic_auth import verify_login
from esp.health import GOOD, STRANGER, Health, of_failure
from esp.postmark_batch import encode
from mail.account import Account
from mail.callback import Callback
from mail.event import Event, EventType
from mail.ids import time_of, wire_id
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=500,
    recipients_per_request=500 * 50,
    recipients_per_message=50,
    request_bytes=50_000_000,
    message_bytes=10_000_000,
    idle_s=20.0,
)
_PART_BYTES = 5_000_000
_Json = dict[str, Any]
_Judgement = tuple[Verdict, Blame]

_MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
_REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
_THROTTLED = (Verdict.THROTTLED, Blame.ESP)
_UNAVAILABLE = (Verdict.UNAVAILABLE, Blame.ESP)

_MAINTENANCE = 100

# What an ErrorCode says about the mail; each means that it was not taken. 406 (inactive recipient) is judged by its words, as is 300.
_JUDGEMENTS: dict[int, _Judgement] = {
    10: _MISCONFIGURED,  # token
    _MAINTENANCE: _UNAVAILABLE,
    300: _REJECTED,
    400: _MISCONFIGURED,  # no such sender signature
    401: _MISCONFIGURED,  # sender signature not confirmed
    405: _THROTTLED,  # out of credits
    409: _MISCONFIGURED,  # headers
    411: (Verdict.UNSUPPORTED, Blame.MESSAGE),  # an attachment of this type; others may take it
    412: _MISCONFIGURED,  # account pending
    413: _MISCONFIGURED,  # account may not send
    429: _THROTTLED,
    1100: _UNAVAILABLE,
    1101: _MISCONFIGURED,
    **dict.fromkeys((11, 12, 13, 402, 403, 410, 1105, 1109, *range(1120, 1126), 1130, 1131), _REJECTED),
    # of servers, signatures, domains, messages, triggers, statistics, bounces and streams: a sender never meets them by right
    **dict.fromkeys((*range(500, 523), *range(600, 612), *range(700, 1004), *range(1221, 1237)), _MISCONFIGURED),
}
# Where the body says nothing: HTTP statuses that are documented as refusals of the whole request.
_STATUSES: dict[int, _Judgement] = {401: _MISCONFIGURED, 404: _MISCONFIGURED, 413: base.TOO_LARGE, 415: _MISCONFIGURED, 429: _THROTTLED}
_BAD_TO = re.compile(r"invalid 'to' address|error parsing 'to'", re.IGNORECASE)

_LEFT_OUT = "will not deliver to these inactive addresses"  # "Message OK, but …": a yes for the others

_SEARCHABLE_S = 6 * 86_400.0  # 45 days by default, 7 where an account chose so (postmarkapp.com/developer/api/messages-api, 2026-11)
_PROVIDER = "postmark"
# What a bounce's Type means. Those without a meaning are answers of a machine or of a person, no bounces.
_BOUNCES: dict[str, tuple[EventType, str] | None] = {
    "hardbounce": (EventType.BOUNCED, "hard"),
    "bademailaddress": (EventType.BOUNCED, "hard"),
    "softbounce": (EventType.BOUNCED, "soft"),
    "unknown": (EventType.BOUNCED, "soft"),
    "blocked": (EventType.BOUNCED, "block"),
    "spamnotification": (EventType.BOUNCED, "block"),  # taken for spam by a filter, not by a person
    "virusnotification": (EventType.BOUNCED, "block"),
    "transient": (EventType.DEFERRED, ""),
    "dnserror": (EventType.DEFERRED, ""),
    "spamcomplaint": (EventType.COMPLAINED, ""),
    "unsubscribe": (EventType.UNSUBSCRIBED, ""),
    "subscribe": (EventType.SUBSCRIBED, ""),
    **dict.fromkeys(
        ("manuallydeactivated", "unconfirmed", "smtpapierror", "dmarcpolicy", "templaterenderingfailed"), (EventType.DROPPED, "")
    ),
    **dict.fromkeys(("autoresponder", "addresschange", "openrelaytest", "challengeverification", "inbounderror")),
}
_SUPPRESSIONS = {"hardbounce": (EventType.BOUNCED, "hard"), "spamcomplaint": (EventType.COMPLAINED, "")}
# Where each kind of webhook keeps its moment.
_MOMENTS = {
    "delivery": "deliveredat",
    "bounce": "bouncedat",
    "spamcomplaint": "bouncedat",
    "open": "receivedat",
    "click": "receivedat",
    "subscriptionchange": "changedat",
}
_PLAIN = {"delivery": EventType.DELIVERED, "open": EventType.OPENED, "click": EventType.CLICKED, "spamcomplaint": EventType.COMPLAINED}


class Esp:
    """Credentials: `server_token`; optionally `message_stream`, and `webhook_username` and `webhook_password`, which callbacks must
    then bring. The password alone is the value of a header that the webhook was made with (HttpHeaders): X-Webhook-Token.
    """

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time):
        self._origin = account.base_url.rstrip("/")
        self._headers = {"X-Postmark-Server-Token": account.credentials["server_token"], "Accept": "application/json"}
        self._stream = account.credentials.get("message_stream", "")
        self._webhook_login = [account.credentials.get(name, "") for name in ("webhook_username", "webhook_password")]
        self._now = now

    def unsupported(self, message: Message) -> str | None:
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"Postmark takes {LIMITS.recipients_per_message} recipients a message"
        if max(base.size_bytes(message.html), base.size_bytes(message.text)) > _PART_BYTES:
            return f"Postmark takes {_PART_BYTES} bytes of text or HTML"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"Postmark takes {LIMITS.message_bytes} bytes a message"
        return None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Batches in the order given. Labels never stop a mail: of its tags and metadata travels what Postmark takes."""
        encode_all = partial(encode, stream=self._stream)
        return [self._request(*cut) for cut in base.bodies(messages, LIMITS, base.content_bytes, encode_all)]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        if not request.messages:
            return []
        answer = _read(reply.body)
        if reply.status != 200:
            return self._refused(request, reply, answer if isinstance(answer, dict) else {})
        if not isinstance(answer, list) or len(answer) != len(request.messages):
            return base.unknown(request, reply)
        return [_outcome(message, item) for message, item in zip(request.messages, answer, strict=True)]

    def health(self) -> Request:
        return Request("GET", f"{self._origin}/server", self._headers, b"")

    def read_health(self, reply: Reply | NoReply) -> Health:
        """Whether the token is that of a server, and of one that delivers."""
        if failure := of_failure(reply, "set the server API token, which the server's page shows under API Tokens"):
            return failure
        server = _object(_read(reply.body)) if isinstance(reply, Reply) else {}
        if "DeliveryType" not in server:
            return STRANGER
        if server["DeliveryType"] == "Sandbox":
            return Health(None, "the token is that of a sandbox server, which delivers nothing: use a live server's for real mail")
        return GOOD

    def verify(self, callback: Callback) -> None:
        """Postmark signs nothing; it brings the user name and password, or the header, that its webhook was made with."""
        username, password = self._webhook_login
        verify_login(callback, username, password, "x-webhook-token")

    def parse_events(self, document: Any) -> list[Event]:
        return [event for fields in events.items(document, _PROVIDER) if (event := _event(fields))]

    def find(self, attempts: Sequence[base.Sought]) -> list[base.Search]:
        """One search each, by metadata: several values cannot be asked for at once."""
        kept = [a for a in attempts if time_of(a.attempt_id) > self._now() - _SEARCHABLE_S]
        return [base.Search(Request("GET", self._search_url(a.attempt_id), self._headers, b""), (a,)) for a in kept]

    def read_found(self, search: base.Search, reply: Reply | NoReply) -> dict[str, bool]:
        answer = _object(_read(reply.body)) if isinstance(reply, Reply) and reply.status == 200 else {}
        count, messages = answer.get("TotalCount"), answer.get("Messages")
        if not isinstance(messages, list) or not isinstance(count, int) or len(search.attempts) != 1:
            return {}
        (sought,) = search.attempts
        if count == 0 and not messages:
            return {sought.attempt_id: False}
        return {sought.attempt_id: True} if any(_is_sought(message, sought, count) for message in messages) else {}

    def _search_url(self, attempt_id: str) -> str:
        return f"{self._origin}/messages/outbound?{urlencode({'count': 10, 'offset': 0, 'metadata_attempt_id': wire_id(attempt_id)})}"

    def _request(self, messages: tuple[Message, ...], body: bytes) -> Request:
        headers = {**self._headers, "Content-Type": "application/json"}
        return Request("POST", f"{self._origin}/email/batch", headers, body, messages)

    def _refused(self, request: Request, reply: Reply, answer: _Json) -> list[Outcome]:
        """The whole request was refused with one answer for all."""
        code, words = _code(answer), _words(answer)
        judgement = _judge(code, words, request.messages[0]) or _STATUSES.get(reply.status)
        # of the server errors only maintenance is documented to mean "not taken"
        is_no = 400 <= reply.status < 500 or (reply.status == 503 and code == _MAINTENANCE)
        if judgement is None or not is_no:
            return base.unknown(request, reply)
        verdict, blame = judgement
        if verdict in (Verdict.REJECTED, Verdict.UNSUPPORTED) and len(request.messages) > 1:
            verdict, blame = Verdict.SPLIT, Blame.NEIGHBOUR
        return base.outcomes(
            request, verdict, blame, f"HTTP {reply.status} {code} {words}", retry_after_s=self._wait_s(reply, code, verdict)
        )

    def _wait_s(self, reply: Reply, code: int, verdict: Verdict) -> float | None:
        if verdict is not Verdict.THROTTLED:
            return None
        asked_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
        return _wait_of(code) if asked_s is None else asked_s


def _outcome(message: Message, item: object) -> Outcome:
    """The verdict on one mail of a batch, from its own answer."""
    if not isinstance(item, dict):
        return Outcome(message.attempt_id, Verdict.UNKNOWN, Blame.ESP, detail="no answer for this mail")
    code, words, message_id = _code(item), _words(item), events.text(item.get("MessageID"))
    if code == 0 and (message_id or words.lower().startswith("message accepted")):
        if _LEFT_OUT in words and base.is_named(message, words):  # a copy that went out all the same does not reach the recipient
            return Outcome(message.attempt_id, Verdict.REJECTED, Blame.RECIPIENT, detail=base.cut_detail(words))
        return Outcome(message.attempt_id, Verdict.ACCEPTED, None, message_id, "" if words == "OK" else base.cut_detail(words))
    verdict, blame = _judge(code, words, message) or (Verdict.UNKNOWN, Blame.ESP)
    wait_s = _wait_of(code) if verdict is Verdict.THROTTLED else None
    return Outcome(message.attempt_id, verdict, blame, detail=base.cut_detail(f"{code} {words}"), retry_after_s=wait_s)


def _judge(code: int, words: str, message: Message) -> _Judgement | None:
    """A blamed recipient is suppressed, so it must be the one that the words mean, not a Cc."""
    is_address = code == 406 or (code == 300 and _BAD_TO.search(words))
    if is_address:
        return Verdict.REJECTED, Blame.RECIPIENT if base.is_about_recipient(message, words) else Blame.MESSAGE
    return _JUDGEMENTS.get(code)


def _wait_of(code: int) -> float | None:
    return base.LONGEST_WAIT_S if code == 405 else None


def _read(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _code(item: _Json) -> int:
    """The ErrorCode; 0 where it is missing, as during incidents (django-anymail issue 392), -1 where it is no number."""
    code = item.get("ErrorCode", 0)
    return code if isinstance(code, int) and not isinstance(code, bool) else -1


def _words(item: _Json) -> str:
    return str(item.get("Message") or "")


def _event(webhook: events.Fields) -> Event | None:
    fields = {name.lower(): value for name, value in webhook.items()}  # ServerID is spelled ServerId at times
    kind = events.text(fields.get("recordtype")).lower()
    meaning = _meaning(kind, fields)
    if meaning is None:
        events.count_unknown(_PROVIDER)
        return None
    type_, bounce = meaning
    details = f"{events.text(fields.get('details'), 2_000)} {events.text(fields.get('description'), 2_000)}".strip()
    geo, metadata = _object(fields.get("geo")), _object(fields.get("metadata"))
    return Event(
        type=type_,
        provider=_PROVIDER,
        event_id=_event_id(kind, fields),
        recipient=events.address(fields.get("recipient")) or events.address(fields.get("email")),
        at=events.iso_moment(fields.get(_MOMENTS[kind])),
        attempt_id=events.attempt_id(metadata.get("attempt_id")),
        message_id=events.text(fields.get("messageid")),
        reason=base.cut_detail(_reason(kind, fields, details)),
        smtp_code=events.smtp_code(details),
        bounce=bounce,
        ip=events.ip(geo.get("IP")),
        user_agent=events.text(fields.get("useragent"), events.USER_AGENT_CHARACTERS),
        url=events.text(fields.get("originallink"), events.URL_CHARACTERS),
        raw=events.kept(webhook, without=["Content"]),  # the whole mail, where the webhook was made with IncludeContent
    )


def _meaning(kind: str, fields: events.Fields) -> tuple[EventType, str] | None:
    """Type and bounce class; None where our words have none. The Type is read, since sources disagree about TypeCode."""
    if kind in _PLAIN:
        return _PLAIN[kind], ""
    if kind == "bounce":
        return _BOUNCES.get(events.text(fields.get("type")).lower(), (EventType.BOUNCED, "soft"))
    if kind != "subscriptionchange" or not isinstance(fields.get("suppresssending"), bool):
        return None
    if not fields["suppresssending"]:
        return EventType.SUBSCRIBED, ""
    return _SUPPRESSIONS.get(events.text(fields.get("suppressionreason")).lower(), (EventType.UNSUBSCRIBED, ""))


def _event_id(kind: str, fields: events.Fields) -> str:
    """Only bounces and complaints have an id of their own; of the others, what makes one different from the next."""
    if kind in ("bounce", "spamcomplaint") and (own := events.own_id(fields.get("id"))) not in ("", "0"):
        return f"{kind}:{own}"
    who = fields.get("recipient") or fields.get("email")
    what = [fields.get(name) for name in ("messageid", _MOMENTS[kind], "originallink", "suppresssending", "useragent")]
    return events.hash_of(kind, who, *what)


def _reason(kind: str, fields: events.Fields, details: str) -> str:
    if kind == "subscriptionchange":
        return f"{events.text(fields.get('suppressionreason'))} by {events.text(fields.get('origin'))}"
    return f"{events.text(fields.get('type'))}: {details}" if kind in ("bounce", "spamcomplaint") else ""


def _object(value: Any) -> events.Fields:
    return value if isinstance(value, dict) else {}


def _is_sought(message: object, sought: base.Sought, count: int) -> bool:
    """Is this the mail that was asked for? A server that passed over the filter would list everybody's."""
    fields = _object(message)
    metadata = fields.get("Metadata")
    if isinstance(metadata, dict) and metadata:
        return events.attempt_id(metadata.get("attempt_id")) == sought.attempt_id
    recipients = fields.get("Recipients")
    is_theirs = isinstance(recipients, list) and sought.recipient.lower() in [str(address).lower() for address in recipients]
    return count == 1 and is_theirs
