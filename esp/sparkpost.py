"""SparkPost: one class, both directions, and the search for what is uncertain.

Many mails are one transmission (sparkpost_transmissions.py builds it), and its answer only counts: who was accepted is told where
all were or none was. Otherwise everybody's verdict stays open until an event, or the search by recipient and time, names the attempt.
It must never guess who was among the accepted, nor take any 5xx for a no.
Facts: SparkPost/developers.sparkpost.com transmissions, events, account (2026-06-23), SparkPost/support-docs extended error codes
(2026-08-06), karrot-dev/karrot-backend issues 294 and 434 (code 1902).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from esp import base, events
from esp.basic_auth import verify_login
from esp.health import GOOD, STRANGER, Health, of_failure
from esp.sparkpost_events import attempt_id_of, read_event, unwrapped
from esp.sparkpost_transmissions import Manner, common, encode, is_inline_image, manner_of, recipients
from mail.account import Account
from mail.callback import Callback
from mail.event import Event
from mail.ids import time_of
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=2000,  # 2,000 to 10,000 are advised, the latter with a time-out of 300 s
    recipients_per_request=2000,
    recipients_per_message=1000,
    request_bytes=50_000_000,  # advised; 300 MB are taken
    message_bytes=20_000_000,  # text, HTML, attachments and images of a transmission
    idle_s=20.0,
)
_FILE_NAME_BYTES = 255
_WRITTEN_BY_THEM = frozenset({"subject", "from", "to", "reply-to", "cc", "bcc"})
_Json = dict[str, Any]
_Judgement = tuple[Verdict, Blame]

_MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
_REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
_NO_RECIPIENT = (Verdict.REJECTED, Blame.RECIPIENT)
_THROTTLED = (Verdict.THROTTLED, Blame.ESP)

_SUPPRESSED = "1902"
_QUOTAS = ("2101", "2102", "2103", "2105")  # hourly, daily, sandbox, monthly: the whole transmission is refused
# Whatever the body says. Every status that is in neither table leaves it open.
_STATUSES: dict[int, _Judgement] = {
    **dict.fromkeys((401, 403, 404, 405, 406, 415), _MISCONFIGURED),
    **dict.fromkeys((420, 429), _THROTTLED),
}
_TOO_LARGE = 413
_REFUSALS = (400, 409, 422)
# What an error's code says about the mail, where it was refused.
_CODES: dict[str, _Judgement] = {
    **dict.fromkeys(("1100", "1303", "1304", "1600", "1601", "1603", "1700", "1800", "1910"), _MISCONFIGURED),
    **dict.fromkeys(("2004", "2005", "2106", "2008", "7000", "7001"), _MISCONFIGURED),
    **dict.fromkeys(_QUOTAS, _THROTTLED),
    **dict.fromkeys((_SUPPRESSED, "5002"), _NO_RECIPIENT),
    "1502": (Verdict.UNAVAILABLE, Blame.ESP),  # no resources: a 400, so it took nothing
}
_SEARCHED_EVENTS = "injection,delivery,bounce,policy_rejection,generation_failure,generation_rejection"
_RECIPIENTS_CHARACTERS = 3600  # of the 4,096 of a URI
_PAGE_EVENTS = 1000  # within the reply that is read whole; the most is 10,000
_EARLIER_S, _LATER_S = 300.0, 3600.0  # clocks that differ; an injection that had to wait
_SPAN_S = 86_400.0
_KEPT_S = 10 * 86_400.0


class Esp:
    """Credentials: `api_key`; optionally `webhook_username` and `webhook_password`, which its callbacks bring as basic
    authentication. The password alone is a token: that of OAuth 2 (Bearer), or of X-MessageSystems-Webhook-Token.
    """

    limits = LIMITS

    def __init__(self, account: Account, now: Callable[[], float] = time.time):
        self._origin = account.base_url.rstrip("/") + "/api/v1"
        self._headers = {"Authorization": account.credentials["api_key"], "Accept": "application/json"}
        self._webhook_username = account.credentials.get("webhook_username", "")
        self._webhook_password = account.credentials.get("webhook_password", "")
        self._now = now

    def unsupported(self, message: Message) -> str | None:
        return _form_problem(message) or _size_problem(message)

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """Mails share a transmission where everything that holds for all of it is the same.

        Labels never stop a mail: of its tags and metadata travels what SparkPost takes.
        """
        groups: dict[tuple[object, ...], tuple[Manner, list[Message]]] = {}
        for message in messages:
            manner = manner_of(message)
            groups.setdefault(common(message, manner), (manner, []))[1].append(message)
        return [request for manner, group in groups.values() for request in self._requests(manner, group)]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        if not request.messages:
            return []
        answer = _read(reply.body)
        if reply.status == 200:
            return _counted(request, reply, answer)
        codes = [code for code, _ in _errors(answer)]
        if reply.status in _STATUSES:
            return self._held_up(request, reply, answer, _STATUSES[reply.status])
        if reply.status == _TOO_LARGE:
            return base.too_large(request, _words(reply, answer))
        if reply.status in _REFUSALS and codes:
            return self._refused(request, reply, answer, codes)
        return base.unknown(request, reply)

    def health(self) -> Request:
        return Request("GET", f"{self._origin}/account?include=usage", self._headers, b"")

    def read_health(self, reply: Reply | NoReply) -> Health:
        """A key that may only send is refused here, although it is good."""
        if isinstance(reply, Reply) and reply.status == 403:
            return Health(None, "lets this key not look at the account (HTTP 403): give it Account: Read, or see there if it is suspended")
        if failure := of_failure(reply, "make an API key with Transmissions: Read/Write, in the region of the base URL, and set it"):
            return failure
        account = _read(reply.body).get("results") if isinstance(reply, Reply) else None
        return _condition(account) if isinstance(account, dict) else STRANGER

    def verify(self, callback: Callback) -> None:
        verify_login(callback, self._webhook_username, self._webhook_password, "x-messagesystems-webhook-token")

    def parse_events(self, document: Any) -> list[Event]:
        return [event for fields in unwrapped(document) if (event := read_event(fields))]

    def find(self, attempts: Sequence[base.Sought]) -> list[base.Search]:
        """Searches of the events, which are kept for ten days; each fits into a URI and spans at most a day."""
        kept = [a for a in attempts if time_of(a.attempt_id) > self._now() - _KEPT_S + _EARLIER_S]
        return [self._search(group) for group in _search_groups(sorted(kept, key=lambda a: a.attempt_id))]

    def read_found(self, search: base.Search, reply: Reply | NoReply) -> dict[str, bool]:
        answer = _read(reply.body) if isinstance(reply, Reply) and reply.status == 200 else {}
        results = answer.get("results")
        if not isinstance(results, list):
            return {}
        known = {attempt_id_of(fields) for fields in results if isinstance(fields, dict)}
        is_whole = not _has_next_page(answer) and answer.get("total_count") == len(results)
        found = {a.attempt_id: a.attempt_id in known for a in search.attempts}
        return {attempt_id: is_found for attempt_id, is_found in found.items() if is_found or is_whole}

    def _requests(self, manner: Manner, group: Sequence[Message]) -> Iterator[Request]:
        headers = {**self._headers, "Content-Type": "application/json"}
        first = group[0]
        is_verbatim = manner is not Manner.SUBSTITUTED
        shared_bytes = base.attachments_bytes(first) + (base.words_bytes(first) if is_verbatim else 0)
        own_bytes = _nothing if is_verbatim else base.words_bytes
        for messages, body in base.bodies(group, LIMITS, own_bytes, partial(encode, manner=manner), shared_bytes):
            yield Request("POST", f"{self._origin}/transmissions", headers, body, messages)

    def _held_up(self, request: Request, reply: Reply, answer: _Json, judgement: _Judgement) -> list[Outcome]:
        """Nothing was taken, for a reason that has to do with no mail in particular."""
        verdict, blame = judgement
        return base.outcomes(request, verdict, blame, _words(reply, answer), retry_after_s=self._wait_s(reply, answer, verdict))

    def _refused(self, request: Request, reply: Reply, answer: _Json, codes: Sequence[str]) -> list[Outcome]:
        verdict, blame = next((_CODES[code] for code in codes if code in _CODES), _REJECTED)
        is_single = len(request.messages) == 1 and len(recipients(request.messages[0])) == 1
        # A sole recipient who is suppressed is refused with 1902, although the counts beside it say that it was accepted.
        if _accepted_count(answer) and not (is_single and _SUPPRESSED in codes):
            return base.unknown(request, reply)
        if verdict is not Verdict.REJECTED:
            return self._held_up(request, reply, answer, (verdict, blame))
        if len(request.messages) > 1:
            verdict, blame = Verdict.SPLIT, Blame.NEIGHBOUR
        elif blame is Blame.RECIPIENT and not is_single:
            blame = Blame.MESSAGE
        return base.outcomes(request, verdict, blame, _words(reply, answer))

    def _wait_s(self, reply: Reply, answer: _Json, verdict: Verdict) -> float | None:
        """A used-up quota comes back within hours or days, a rate within seconds."""
        if verdict is not Verdict.THROTTLED:
            return None
        asked_s = base.retry_after_s(reply.headers.get("retry-after"), self._now())
        is_quota = reply.status == 420 or any(code in _QUOTAS for code, _ in _errors(answer))
        default_s = base.LONGEST_WAIT_S if is_quota else 5.0  # "wait 1 to 5 seconds"
        return default_s if asked_s is None else asked_s

    def _search(self, group: Sequence[base.Sought]) -> base.Search:
        times = [time_of(a.attempt_id) for a in group]
        query = {
            "events": _SEARCHED_EVENTS,
            "from": _spelled_time(min(times) - _EARLIER_S),
            "to": _spelled_time(min(max(times) + _LATER_S, self._now())),
            "per_page": str(_PAGE_EVENTS),
            "recipients": ",".join(dict.fromkeys(a.recipient.lower() for a in group)),
        }
        url = f"{self._origin}/events/message?{urlencode(query, quote_via=quote)}"
        return base.Search(Request("GET", url, self._headers, b""), tuple(group))


def _nothing(message: Message) -> int:
    return 0


def _form_problem(message: Message) -> str | None:
    """What SparkPost has no field for, or would read as its template language where no variable can be put."""
    names = [name.lower() for name, _ in message.headers]
    if forbidden := next((name for name in names if name in _WRITTEN_BY_THEM or name.startswith("content-")), None):
        return f"SparkPost does not let the header {forbidden} be set"
    if len(set(names)) < len(names):
        return "SparkPost takes each header only once"
    if not message.subject:
        return "SparkPost needs a subject"
    people = (message.sender, *message.to, *message.cc, *message.bcc, *((message.reply_to,) if message.reply_to else ()))
    if any("{{" in text or "}}" in text for person in people for text in (person.name, person.email)) or "{{" in "".join(names):
        return "SparkPost would read double braces in a name as its template language"
    return None


def _size_problem(message: Message) -> str | None:
    if base.recipients_of(message) > LIMITS.recipients_per_message:
        return f"SparkPost takes {LIMITS.recipients_per_message} recipients a message"
    if base.content_bytes(message) > LIMITS.message_bytes:
        return f"SparkPost takes {LIMITS.message_bytes} bytes a message"
    if any(base.size_bytes(a.name) > _FILE_NAME_BYTES for a in message.attachments):
        return f"SparkPost takes {_FILE_NAME_BYTES} bytes of an attachment's name"
    images = [a.content_id for a in message.attachments if is_inline_image(a)]
    return "SparkPost takes each content id only once" if len(set(images)) < len(images) else None


def _condition(account: _Json) -> Health:
    """What SparkPost says of the account: whether it may send, and what is left of its quotas."""
    status = events.text(account.get("status"))
    if status != "active":
        return Health(False, f"the account is {status or 'in no known state'}: ask SparkPost's support")
    usage = account.get("usage")
    periods = usage if isinstance(usage, dict) else {}
    spent = [name for name, one in periods.items() if isinstance(one, dict) and _is_spent(one.get("used"), one.get("limit"))]
    if spent:
        return Health(None, f"the quota of the {spent[0]} is used up: mail is refused until it is renewed; raise the plan's limit")
    return GOOD


def _is_spent(used: object, limit: object) -> bool:
    return isinstance(used, int) and isinstance(limit, int) and 0 < limit <= used


def _counted(request: Request, reply: Reply, answer: _Json) -> list[Outcome]:
    """All, none, or it cannot be told who."""
    results = answer.get("results")
    counts = results if isinstance(results, dict) else {}
    due = sum([len(recipients(message)) for message in request.messages])
    accepted, rejected = counts.get("total_accepted_recipients"), counts.get("total_rejected_recipients")
    if type(accepted) is not int or type(rejected) is not int or accepted + rejected != due:
        return base.unknown(request, reply)
    if accepted == due:
        return base.outcomes(request, Verdict.ACCEPTED, message_id=events.text(counts.get("id")))
    words = _words(reply, answer)
    if accepted or rejected < due:
        return base.outcomes(request, Verdict.UNKNOWN, Blame.ESP, f"{accepted} of {due} recipients accepted, not told which; {words}")
    return [_refused_recipient(message, words) for message in request.messages]


def _refused_recipient(message: Message, words: str) -> Outcome:
    """A recipient to blame is suppressed, so it takes words about the address, and only one that they can mean."""
    is_address = len(recipients(message)) == 1 and "address" in words.lower()
    blame = Blame.RECIPIENT if is_address else Blame.MESSAGE
    return Outcome(message.attempt_id, Verdict.REJECTED, blame, detail=base.cut_detail(words))


def _accepted_count(answer: _Json) -> int:
    """What an error's body says was accepted all the same."""
    results = answer.get("results")
    count = results.get("total_accepted_recipients") if isinstance(results, dict) else 0
    return count if type(count) is int else 0


def _read(body: bytes) -> _Json:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _errors(answer: _Json) -> list[tuple[str, str]]:
    """Code and words of each error, those of single recipients last."""
    results = answer.get("results")
    nested = results.get("rcpt_to_errors") if isinstance(results, dict) else None
    listed = [error for some in (answer.get("errors"), nested) if isinstance(some, list) for error in some if isinstance(error, dict)]
    return [(events.text(error.get("code")), words) for error in listed if (words := _about(error))]


def _about(error: _Json) -> str:
    words = [events.text(error.get(name), base.DETAIL_CHARACTERS) for name in ("code", "message", "description")]
    return " ".join(filter(None, words))


def _words(reply: Reply, answer: _Json) -> str:
    errors = "; ".join(words for _, words in _errors(answer)[:10])
    return f"HTTP {reply.status} {errors or base.text_of(reply.body)}"


def _search_groups(attempts: Sequence[base.Sought]) -> Iterator[list[base.Sought]]:
    """Runs of attempts, oldest first, whose addresses fit into a URI beside the rest, and whose times into a day."""
    group: list[base.Sought] = []
    characters = 0
    for attempt in attempts:
        more = len(quote(attempt.recipient, safe="")) + len("%2C")
        is_far = bool(group) and time_of(attempt.attempt_id) - time_of(group[0].attempt_id) > _SPAN_S
        if group and (is_far or characters + more > _RECIPIENTS_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(attempt)
        characters += more
    if group:
        yield group


def _has_next_page(answer: _Json) -> bool:
    """The links were an array of relations once, and are an object now."""
    links = answer.get("links")
    if isinstance(links, list):
        return any(isinstance(link, dict) and link.get("rel") == "next" for link in links)
    return isinstance(links, dict) and bool(links.get("next"))


def _spelled_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
