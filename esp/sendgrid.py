"""SendGrid v3: one class, both directions.

Small mails travel together as substitutions, larger ones through a pass-through template where the account names one, else
alone, or with mails of the very same words (personalizations.py builds the bodies). Its event webhook comes as arrays, signed
with a key that the account may name.
It must never raise over what SendGrid answers, nor take anything but its 202 (or the empty 200 of a sandbox) for a yes, nor
believe a callback that should be signed and is not.
Facts: twilio/sendgrid-oai tsg_mail_v3 (2026-01-22), sendgrid/docs (2021-06), www.twilio.com/docs/sendgrid (2026-11),
Jericho/StrongGrid (2026-03), django-anymail (2026-07).
"""

import binascii
import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from esp import base, events
from esp.health import GOOD, STRANGER, Health, of_failure
from esp.personalizations import Manner, common, encode, manner_of
from esp.replay import refuse_replay
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event, EventType
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=1000,  # personalizations
    recipients_per_request=1000,
    recipients_per_message=1000,
    request_bytes=30_000_000,
    message_bytes=20_000_000,  # "under 30 MB", of which 20 are advised
    idle_s=20.0,
)
_FORBIDDEN_HEADERS = frozenset(
    {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"}
    | {"to", "from", "subject", "reply-to", "cc", "bcc"}
)
_AFTER_A_TYPE = frozenset(";,\r\n")  # errors page, attachments.type (2021-06); sendgrid/sendgrid-go issue 450
_CULPRIT = re.compile(r"personalizations[.\[]([0-9]{1,4})\b")
# What stands once in a request, the same for all its mails (personalizations.common).
_SHARED = re.compile(r"(from|reply_to|attachments|categories)\b")
_TO = re.compile(r"personalizations[.\[][0-9]+\]?\.to\b(?:[.\[]([0-9]+))?")

_PROVIDER = "sendgrid"
_SIGNATURE, _TIMESTAMP = "x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"
_ECDSA = ec.ECDSA(SHA256())
REPLAY_WINDOW_S = 25 * 3600.0  # it repeats a callback for 24 hours, and nobody documents whether it is signed anew for that
_TYPES = {
    "processed": EventType.PROCESSED,
    "dropped": EventType.DROPPED,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "group_resubscribe": EventType.SUBSCRIBED,
}
# Why a receiver refused (bounce_classification): of these the address is not guilty.
_BLOCKS = frozenset({"content", "reputation", "frequency or volume too high"})
_DELAYS = frozenset({"technical", "technical failure", "mailbox unavailable"})
_DEAD_ADDRESSES = frozenset({"bounced address", "invalid"})
_SERVER_PART = re.compile(r"\.(?:filter|recvd)")


class Esp:
    """Credentials: `api_key`; optionally `template_id`, a dynamic template of {{{subject}}}, {{{text}}} and {{{html}}}, and
    `webhook_public_key`, the verification key of the signed event webhook as SendGrid shows it.
    """

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time):
        self._origin = account.base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {account.credentials['api_key']}", "Accept": "application/json"}
        self._template_id = account.credentials.get("template_id", "")
        self._public_key = account.credentials.get("webhook_public_key", "")
        self._now = now

    def unsupported(self, message: Message) -> str | None:
        names = [name.lower() for name, _ in message.headers]
        if forbidden := _FORBIDDEN_HEADERS.intersection(names):
            return f"SendGrid does not let the header {min(forbidden)} be set"
        if len(set(names)) < len(names):
            return "SendGrid takes each header only once"
        if not message.subject:
            return "SendGrid needs a subject"
        if any(_AFTER_A_TYPE.intersection(a.content_type) for a in message.attachments):
            return "SendGrid takes no parameters behind an attachment's type"
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"SendGrid takes {LIMITS.recipients_per_message} recipients a message"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"SendGrid takes {LIMITS.message_bytes} bytes a message"
        return None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Mails share a request where everything that holds for a whole request is the same.

        Labels never stop a mail: of its tags and metadata travels what SendGrid takes.
        """
        groups: dict[tuple[object, ...], tuple[Manner, list[Message]]] = {}
        for message in messages:
            manner = manner_of(message, self._template_id)
            groups.setdefault(common(message, manner), (manner, []))[1].append(message)
        return [request for manner, group in groups.values() for request in self._requests(manner, group)]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        status = reply.status
        if status == 202 or (status == 200 and not reply.body.strip()):  # 200: the sandbox, which delivers nothing
            return base.outcomes(request, Verdict.ACCEPTED, message_id=events.text(reply.headers.get("x-message-id")))
        if status == 413:
            return base.too_large(request, _words(reply))
        if status == 400:
            return _refused(request, reply)
        if status in (401, 403):
            return _not_allowed(request, reply)
        if status in (404, 405, 406, 415):
            return base.outcomes(request, Verdict.MISCONFIGURED, Blame.US, _words(reply))
        if status == 429:
            return base.outcomes(request, Verdict.THROTTLED, Blame.ESP, _words(reply), retry_after_s=self._wait_s(reply))
        return base.unknown(request, reply)

    def health(self) -> Request:
        return Request("GET", f"{self._origin}/v3/scopes", self._headers, b"")

    def read_health(self, reply: Reply | NoReply) -> Health:
        """The scopes of the key: without `mail.send` it is good for nothing here."""
        if isinstance(reply, Reply) and _is_used_up(reply):
            return Health(False, "the plan's credits are used up: buy more, or wait until they are renewed")
        if failure := of_failure(reply, "make an API key with the permission Mail Send, and set it"):
            return failure
        scopes = _object(reply.body).get("scopes") if isinstance(reply, Reply) else None
        if not isinstance(scopes, list):
            return STRANGER
        if "mail.send" not in scopes:
            return Health(False, "the API key may not send: give it the permission Mail Send (scope mail.send)")
        return GOOD

    def verify(self, callback: Callback) -> None:
        """The signature is over the timestamp and the raw bytes, so a body that came parsed cannot be believed."""
        if not self._public_key:
            return
        signature, timestamp = callback.headers.get(_SIGNATURE, ""), callback.headers.get(_TIMESTAMP, "")
        if not signature or not timestamp:
            raise BadCallback("the callback is not signed")
        if callback.raw is None:
            raise BadCallback("the body came parsed: its signature can only be checked over the raw text")
        try:
            signed = timestamp.encode() + callback.raw
            self._key.verify(b64decode(signature.encode(), validate=True), signed, _ECDSA)
        except (InvalidSignature, binascii.Error, UnicodeEncodeError):
            raise BadCallback("the callback's signature is wrong") from None
        if not re.fullmatch("[0-9]{1,12}", timestamp):
            raise BadCallback("the signature's timestamp is not in seconds")
        refuse_replay(int(timestamp), callback.received_at_s, REPLAY_WINDOW_S)

    @cached_property
    def _key(self) -> ec.EllipticCurvePublicKey:
        """Read once; a key that is none is refused each time."""
        return _read_key(self._public_key)

    def parse_events(self, document: Any) -> list[Event]:
        return [event for fields in events.items(document, _PROVIDER) if (event := _event(fields))]

    def _requests(self, manner: Manner, group: Sequence[Message]) -> Iterator[Request]:
        headers = {**self._headers, "Content-Type": "application/json"}
        first = group[0]
        is_verbatim = manner is Manner.VERBATIM
        shared_bytes = base.attachments_bytes(first) + (base.words_bytes(first) if is_verbatim else 0)
        own_bytes = _nothing if is_verbatim else base.words_bytes
        encode_all = partial(encode, manner=manner, template_id=self._template_id)
        for messages, body in base.bodies(group, LIMITS, own_bytes, encode_all, shared_bytes):
            yield Request("POST", f"{self._origin}/v3/mail/send", headers, body, messages)

    def _wait_s(self, reply: Reply) -> float | None:
        wait_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
        return base.until_s(reply.headers.get("x-ratelimit-reset"), self._now()) if wait_s is None else wait_s


def _nothing(message: Message) -> int:
    return 0


def _refused(request: Request, reply: Reply) -> list[Outcome]:
    """Nothing of the request was taken. Where an error names its personalization, only that mail is to blame; where it names what all
    of them share, there is no sense in asking again for each.
    """
    errors = _errors(reply.body)
    if not errors:
        return base.unknown(request, reply)
    if any(field.startswith("template_id") for field, _ in errors):
        return base.outcomes(request, Verdict.MISCONFIGURED, Blame.US, _words(reply))
    if len(request.messages) == 1:
        is_recipients = any(_is_bad_recipient(request.messages[0], *error) for error in errors)
        return base.outcomes(request, Verdict.REJECTED, Blame.RECIPIENT if is_recipients else Blame.MESSAGE, _words(reply))
    culprits: dict[int, Outcome] = {}
    for field, words in errors:
        named = _CULPRIT.match(field)
        if named and (index := int(named[1])) < len(request.messages) and index not in culprits:
            culprits[index] = _culprit(request.messages[index], field, words)
    is_shared = any(_SHARED.match(field) for field, _ in errors)
    verdict, blame = (Verdict.REJECTED, Blame.MESSAGE) if is_shared else (Verdict.SPLIT, Blame.NEIGHBOUR)
    neighbours = base.outcomes(request, verdict, blame, _words(reply))
    return [culprits.get(index, neighbour) for index, neighbour in enumerate(neighbours)]


def _culprit(message: Message, field: str, words: str) -> Outcome:
    blame = Blame.RECIPIENT if _is_bad_recipient(message, field, words) else Blame.MESSAGE
    return Outcome(message.attempt_id, Verdict.REJECTED, blame, detail=base.cut_detail(f"{field}: {words}"))


def _is_bad_recipient(message: Message, field: str, words: str) -> bool:
    """Only what is certain, since a blamed recipient is suppressed: "Does not contain a valid address." at the first To."""
    place = _TO.match(field)
    if not place or (place[1] != "0" and len(message.to) > 1):
        return False
    return "valid" in words.lower() and "address" in words.lower()


def _not_allowed(request: Request, reply: Reply) -> list[Outcome]:
    if _is_used_up(reply):
        return base.outcomes(request, Verdict.THROTTLED, Blame.ESP, _words(reply), retry_after_s=base.LONGEST_WAIT_S)
    return base.outcomes(request, Verdict.MISCONFIGURED, Blame.US, _words(reply))


def _is_used_up(reply: Reply) -> bool:
    """A used-up plan answers 401 with these words (sendgrid/sendgrid-nodejs issue 1032)."""
    return reply.status in (401, 403) and b"maximum credits exceeded" in reply.body.lower()


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _errors(body: bytes) -> list[tuple[str, str]]:
    """The field ("" = none) and the words of each error; nothing where the body is not what is documented."""
    errors = _object(body).get("errors")
    listed = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    found = [(str(error.get("field") or ""), str(error.get("message") or "")) for error in listed]
    return [error for error in found if any(error)]


def _words(reply: Reply) -> str:
    errors = "; ".join(f"{field}: {words}" if field else words for field, words in _errors(reply.body)[:10])
    return f"HTTP {reply.status} {errors or base.text_of(reply.body)}"


def _read_key(spelled: str) -> ec.EllipticCurvePublicKey:
    """SendGrid shows the base64 of a DER SubjectPublicKeyInfo; the same as PEM will do. Raises BadCallback: fail closed."""
    try:
        key = load_der_public_key(b64decode(re.sub(r"-----[^-]*-----|\\n|\s", "", spelled)))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadCallback("SENDGRID_WEBHOOK_PUBLIC_KEY is not an elliptic curve's public key: callbacks cannot be checked")
    return key


def _event(fields: events.Fields) -> Event | None:
    kind = events.text(fields.get("event"))
    if kind not in _TYPES:
        events.count_unknown(_PROVIDER)
        return None
    type_, reason, status = _TYPES[kind], _reason(fields), events.text(fields.get("status"))
    return Event(
        type=type_,
        provider=_PROVIDER,
        event_id=events.own_id(fields.get("sg_event_id")) or events.hash_of(fields),
        recipient=events.address(fields.get("email")),
        at=events.unix_moment(fields.get("timestamp")),
        attempt_id=events.attempt_id(fields.get("attempt_id")),
        message_id=message_id_of(events.text(fields.get("sg_message_id"))),
        reason="" if type_ is EventType.DELIVERED else base.cut_detail(reason),
        smtp_code=events.smtp_code(status, reason),
        bounce=_bounce(type_, fields, status, reason),
        ip=events.ip(fields.get("ip")),
        user_agent=events.text(fields.get("useragent"), events.USER_AGENT_CHARACTERS),
        url=events.text(fields.get("url"), events.URL_CHARACTERS),
        is_machine=fields.get("sg_machine_open") is True,
        raw=events.kept(fields),
    )


def message_id_of(sg_message_id: str) -> str:
    """The part that X-Message-Id gave: what precedes the receiving server. Older ids hold dots themselves, before ".filter"."""
    end = _SERVER_PART.search(sg_message_id) or re.search(r"\.", sg_message_id)
    return sg_message_id[: end.start()] if end else sg_message_id


def _reason(fields: events.Fields) -> str:
    """Why: a refusal's reason, a server's response, else the kind of refusal or the group that was left."""
    if group := events.text(fields.get("asm_group_id")):
        return f"group {group}"
    return next(filter(None, (events.text(fields.get(name), 2_000) for name in ("reason", "response", "type"))), "")


def _bounce(type_: EventType, fields: events.Fields, status: str, reason: str) -> str:
    """SendGrid calls a refusal for good "bounce" (and sends no more), one for now "blocked", one that it gave up "expired"."""
    if type_ is EventType.DROPPED:
        return "hard" if reason.lower() in _DEAD_ADDRESSES else ""
    if type_ is not EventType.BOUNCED:
        return ""
    kind, blamed = events.text(fields.get("type")).lower(), events.text(fields.get("bounce_classification")).lower()
    if kind == "expired" or (kind == "blocked" and blamed in _DELAYS):
        return "soft"
    if kind == "blocked" or blamed in _BLOCKS or (not kind and status.startswith("5.7.")):
        return "block"
    return "soft" if not kind and status.startswith("4") else "hard"
