"""Amazon SES v2: one class, both directions. Small mails travel 50 at a time through an inline template, others alone, as raw MIME
where SES could not put them together; what a body holds is in ses_content.py. Events come through SNS (ses_events.py, sns.py).

It must never take a batch's answer by position where the count is wrong, nor a server error for a no.
Facts: botocore sesv2 2019-09-27 (1.44.8, 2026-11), amazon-ses-developer-guide (2023), django-anymail's SES backend (2026-07).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import orjson

from esp import base, events, ses_content, ses_events
from esp.exchange import fetch
from esp.health import GOOD, STRANGER, Health, of_failure
from esp.http import PUBLIC_AUTHORITIES
from esp.sigv4 import Signer
from esp.sns import Certificates, Fetch, verify_envelope
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=50,
    recipients_per_request=50,
    recipients_per_message=50,
    request_bytes=40_000_000,
    message_bytes=28_000_000,  # SES takes 40 MB of MIME, which travels in base64 once more
    idle_s=20.0,
)
CERTIFICATE_LIMIT_S = 5.0  # the webhook worker waits for it
_SEND, _SEND_BULK, _ACCOUNT = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails", "/v2/email/account"
_Json = dict[str, Any]
_Judgement = tuple[Verdict, Blame]
_REJECTED: _Judgement = (Verdict.REJECTED, Blame.MESSAGE)
_MISCONFIGURED: _Judgement = (Verdict.MISCONFIGURED, Blame.US)
_THROTTLED: _Judgement = (Verdict.THROTTLED, Blame.ESP)
_UNAVAILABLE: _Judgement = (Verdict.UNAVAILABLE, Blame.ESP)

# Errors of a whole request. The names of the last group are AWS' in common, not of the stored model.
_ERRORS: dict[str, _Judgement] = {
    **dict.fromkeys(("TooManyRequestsException", "ThrottlingException", "Throttling", "LimitExceededException"), _THROTTLED),
    **dict.fromkeys(("AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException"), _MISCONFIGURED),
    **dict.fromkeys(("NotFoundException", "OptInRequired"), _MISCONFIGURED),
    **dict.fromkeys(("MessageRejected", "BadRequestException"), _REJECTED),
    "ConflictException": _UNAVAILABLE,
    **dict.fromkeys(
        (
            *("AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch"),
            *("InvalidSignatureException", "ExpiredTokenException", "RequestExpired", "IncompleteSignature"),
            *("MissingAuthenticationToken", "MissingAuthenticationTokenException"),
        ),
        _MISCONFIGURED,
    ),
}
_STATUSES = {400: _REJECTED, 413: base.TOO_LARGE, 429: _THROTTLED, **dict.fromkeys((401, 403, 404, 405, 415), _MISCONFIGURED)}
# Statuses of the entries of a bulk request; AWS' prose spells some in another way than its model.
_STATUSES_OF_ENTRY: dict[str, _Judgement] = {
    **dict.fromkeys(("MESSAGE_REJECTED", "INVALID_PARAMETER", "INVALID_PARAMETER_VALUE"), _REJECTED),
    **dict.fromkeys(("MAIL_FROM_DOMAIN_NOT_VERIFIED", "CONFIGURATION_SET_NOT_FOUND", "CONFIGURATION_SET_DOES_NOT_EXIST"), _MISCONFIGURED),
    **dict.fromkeys(("TEMPLATE_NOT_FOUND", "TEMPLATE_DOES_NOT_EXIST", "INVALID_SENDING_POOL_NAME"), _MISCONFIGURED),
    **dict.fromkeys(("ACCOUNT_SUSPENDED", "ACCOUNT_SENDING_PAUSED", "CONFIGURATION_SET_SENDING_PAUSED"), _MISCONFIGURED),
    **dict.fromkeys(("ACCOUNT_THROTTLED", "ACCOUNT_DAILY_QUOTA_EXCEEDED"), _THROTTLED),
    **dict.fromkeys(("TRANSIENT_FAILURE", "FAILED"), _UNAVAILABLE),
}
# Refusals of GetAccount that say more than "not allowed".
_CLOCK = Health(False, "calls the signature too old: set this machine's clock (NTP)")
_CONDITIONS = {
    "AccessDeniedException": Health(None, "knows the keys, which may not look at the account: allow them ses:GetAccount"),
    **dict.fromkeys(
        ("UnrecognizedClientException", "InvalidClientTokenId"),
        Health(False, "knows no such access key: make a new one for the sending user, and set both its halves"),
    ),
    **dict.fromkeys(
        ("SignatureDoesNotMatch", "InvalidSignatureException"),
        Health(False, "the secret key does not belong to the access key, or this machine's clock is wrong: set both halves anew"),
    ),
    **dict.fromkeys(("ExpiredTokenException", "RequestExpired"), _CLOCK),
}


class Esp:
    """Credentials: `region`, `access_key`, `secret_key`; optionally `configuration_set`, and for callbacks `topic_arn` (the only
    topic that they may come from), `cert_host` and `trust_root`.

    `fetch_certificate` gets what is at a URL; without one, that is one request of the calling thread.
    """

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time, fetch_certificate: Fetch | None = None):
        given = account.credentials
        self._origin = account.base_url.rstrip("/")
        self._signer = Signer(given["access_key"], given["secret_key"], "ses", given["region"])
        self._configuration_set = given.get("configuration_set", "")
        self._topic_arn = given.get("topic_arn", "")
        self._given = given
        self._now = now
        self._fetch_certificate = fetch_certificate

    def unsupported(self, message: Message) -> str | None:
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"SES takes {LIMITS.recipients_per_message} recipients a message"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"SES takes {LIMITS.message_bytes} bytes a message"
        addresses = (message.sender, *message.to, *message.cc, *message.bcc, *((message.reply_to,) if message.reply_to else ()))
        if not all(address.email.isascii() for address in addresses):
            return "SES takes only ASCII in addresses"
        return None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Labels never stop a mail: of its tags and metadata travels what SES takes."""
        alone: list[Message] = []
        groups: dict[tuple[object, ...], list[Message]] = {}
        for message in messages:
            group = groups.setdefault(ses_content.shared(message), []) if ses_content.is_batchable(message) else alone
            group.append(message)
        requests = [self._one(message) for message in alone]
        return requests + [request for group in groups.values() for request in self._bulk(group)]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        if not request.messages:
            return []
        answer = _read(reply.body)
        if reply.status != 200:
            return self._refused(request, reply, answer)
        if not request.url.endswith(_SEND_BULK):
            message_id = events.text(answer.get("MessageId"))
            return base.outcomes(request, Verdict.ACCEPTED, message_id=message_id) if message_id else base.unknown(request, reply)
        results = answer.get("BulkEmailEntryResults")
        if not isinstance(results, list) or len(results) != len(request.messages):
            return base.unknown(request, reply)
        return [_outcome(message, result) for message, result in zip(request.messages, results, strict=True)]

    def health(self) -> Request:
        url = self._origin + _ACCOUNT
        return Request("GET", url, self._signer.sign("GET", url, {}, b""), b"")

    def read_health(self, reply: Reply | NoReply) -> Health:
        """Keys that may only send are refused here, although they are good."""
        code = _code(reply, _read(reply.body)) if isinstance(reply, Reply) and reply.status != 200 else ""
        if code in _CONDITIONS:
            return _CONDITIONS[code]
        if failure := of_failure(reply, "make an access key for a user who may ses:SendEmail, in this region, and set both halves"):
            return failure
        return _condition(_read(reply.body)) if isinstance(reply, Reply) else STRANGER

    def verify(self, callback: Callback) -> None:
        """An SNS envelope of the account's topic, or an array of them. SNS signs fields, so a parsed body serves as well as a raw
        one. Raises ConnectionError, besides, where SNS' certificate cannot be fetched now: try again later.
        """
        if not self._topic_arn:
            return
        envelopes = callback.document if isinstance(callback.document, list) else [callback.document]
        if not envelopes:
            raise BadCallback("the body is empty")
        for envelope in envelopes:
            verify_envelope(envelope, self._topic_arn, self._certificates, callback.received_at_s)

    def parse_events(self, document: Any) -> list[Event]:
        return ses_events.parse(document)

    @cached_property
    def _certificates(self) -> Certificates:
        region, own_root = self._given["region"], self._given.get("trust_root")
        host = self._given.get("cert_host") or f"sns.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
        authorities = Path(own_root) if own_root else PUBLIC_AUTHORITIES
        get = self._fetch_certificate or partial(fetch, authorities=authorities, limit_s=CERTIFICATE_LIMIT_S)
        return Certificates(host, authorities, get, self._now, bool(own_root))

    def _one(self, message: Message) -> Request:
        return self._request(_SEND, ses_content.encode_one(message, self._configuration_set), (message,))

    def _bulk(self, group: Sequence[Message]) -> Iterator[Request]:
        encode = partial(ses_content.encode_bulk, configuration_set=self._configuration_set)
        for messages, body in base.bodies(group, LIMITS, ses_content.words_bytes, encode):
            yield self._one(messages[0]) if len(messages) == 1 else self._request(_SEND_BULK, body, messages)

    def _request(self, path: str, body: bytes, messages: tuple[Message, ...]) -> Request:
        url = self._origin + path
        headers = self._signer.sign("POST", url, {"Content-Type": "application/json"}, body)
        return Request("POST", url, headers, body, messages)

    def _refused(self, request: Request, reply: Reply, answer: _Json) -> list[Outcome]:
        """The whole request was refused with one error. No server error of SES is documented to mean "not taken"."""
        code, words = _code(reply, answer), _words(answer)
        if not 400 <= reply.status < 500:
            return base.unknown(request, reply)
        if reply.status == 400 and not code:  # whoever says so does not speak as SES does
            return base.unknown(request, reply)
        verdict, blame = _judge(_ERRORS.get(code) or _STATUSES.get(reply.status), words)
        if verdict in (Verdict.REJECTED, Verdict.UNSUPPORTED) and len(request.messages) > 1:
            verdict, blame = Verdict.SPLIT, Blame.NEIGHBOUR
        wait_s = self._wait_s(reply, words) if verdict is Verdict.THROTTLED else None
        return base.outcomes(request, verdict, blame, f"HTTP {reply.status} {code} {words}", retry_after_s=wait_s)

    def _wait_s(self, reply: Reply, words: str) -> float | None:
        asked_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
        return base.LONGEST_WAIT_S if asked_s is None and "daily" in words.lower() else asked_s


def _condition(account: _Json) -> Health:
    """What GetAccount says: whether the account may send, to whom, and how it is thought of."""
    quota = account.get("SendQuota")
    numbers = quota if isinstance(quota, dict) else {}
    if "SendingEnabled" not in account:
        return STRANGER
    if account["SendingEnabled"] is not True or account.get("EnforcementStatus") == "SHUTDOWN":
        return Health(False, "the account may not send: sending is paused or shut down; see the account dashboard of SES for the case")
    if account.get("EnforcementStatus") == "PROBATION":
        return Health(None, "the account is under review for its bounces or complaints: see the account dashboard of SES, answer the case")
    if account.get("ProductionAccessEnabled") is False:
        return Health(None, "the account is in SES' sandbox: only verified addresses get mail; ask AWS for production access")
    if _is_spent(numbers.get("SentLast24Hours"), numbers.get("Max24HourSend")):
        return Health(None, "the quota of 24 hours is used up: what is over it waits or goes elsewhere; ask AWS for more")
    return GOOD


def _is_spent(sent: object, most: object) -> bool:
    return isinstance(sent, int | float) and isinstance(most, int | float) and 0 <= most <= sent  # -1 is no limit


def _judge(judgement: _Judgement | None, words: str) -> _Judgement:
    """An identity that is not verified is ours: the sender, or in SES' sandbox the recipient too, who is not to blame for that."""
    if judgement is None:
        return Verdict.UNKNOWN, Blame.ESP
    return _MISCONFIGURED if judgement == _REJECTED and "not verified" in words.lower() else judgement


def _outcome(message: Message, result: object) -> Outcome:
    """The verdict on one mail of a bulk request, from its own entry."""
    if not isinstance(result, dict):
        return Outcome(message.attempt_id, Verdict.UNKNOWN, Blame.ESP, detail="no answer for this mail")
    status, words = str(result.get("Status") or ""), str(result.get("Error") or "")
    if status == "SUCCESS":
        return Outcome(message.attempt_id, Verdict.ACCEPTED, None, events.text(result.get("MessageId")))
    verdict, blame = _judge(_STATUSES_OF_ENTRY.get(status), words)
    wait_s = base.LONGEST_WAIT_S if status == "ACCOUNT_DAILY_QUOTA_EXCEEDED" else None
    return Outcome(message.attempt_id, verdict, blame, detail=base.cut_detail(f"{status} {words}"), retry_after_s=wait_s)


def _read(body: bytes) -> _Json:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _code(reply: Reply, answer: _Json) -> str:
    """The error's name: from the header ("Name:http://…"), else from the body ("namespace#Name")."""
    spelled = reply.headers.get("x-amzn-errortype") or str(answer.get("__type") or answer.get("code") or "")
    return spelled.partition(":")[0].rpartition("#")[2].strip()[:100]


def _words(answer: _Json) -> str:
    return str(answer.get("message") or answer.get("Message") or "")
