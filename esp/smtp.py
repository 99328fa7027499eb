"""Any mail relay that speaks SMTP: one mail a request, and a verdict from the code, the enhanced code and the stage of its reply.

A relay calls nobody back, so there is no other direction, and labels (tags, metadata) are left out: nobody would report them, and a
header would show them to the recipient. It must never take a reply that is not to the final dot for a yes, nor
give a refusal of our login or our domain for the recipient's fault.
Facts: RFC 5321, 3463, 4954, 6531; the words of SES, SendGrid and SparkPost from their SMTP pages (2021 to 2026-08).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from esp import base, mime
from esp.dkim_key import DkimKey
from esp.health import GOOD, Health
from mail.account import Account
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict

LIMITS = base.Limits(
    messages_per_request=1,
    recipients_per_request=100,  # what every server takes (RFC 5321, 4.5.3.1.8)
    recipients_per_message=100,
    request_bytes=60_000_000,
    message_bytes=40_000_000,  # the server's own SIZE decides before the mail is said
    idle_s=20.0,
)
_Judgement = tuple[Verdict, Blame]
_REJECTED: _Judgement = (Verdict.REJECTED, Blame.MESSAGE)
_BAD_RECIPIENT: _Judgement = (Verdict.REJECTED, Blame.RECIPIENT)
_MISCONFIGURED: _Judgement = (Verdict.MISCONFIGURED, Blame.US)
_THROTTLED: _Judgement = (Verdict.THROTTLED, Blame.ESP)
_UNAVAILABLE: _Judgement = (Verdict.UNAVAILABLE, Blame.ESP)
_NOT_NOW: _Judgement = (Verdict.UNAVAILABLE, Blame.RECIPIENT)  # the mailbox, or its server, is not ready; another ESP may be
_UNSUPPORTED: _Judgement = (Verdict.UNSUPPORTED, Blame.MESSAGE)

_ENHANCED = re.compile(r"[245]\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")
_TOO_MUCH = re.compile(r"too many|throttl|maximum sending rate|rate limit|quota|credits|messaging limit", re.IGNORECASE)
_FOR_LONG = re.compile(r"daily|quota|credits|messaging limit", re.IGNORECASE)
# Our domain, key or address is not known to the relay: it relays nothing of ours, whoever the recipient is.
_NOT_OURS = re.compile(
    r"relay(?:ing)?\b.{0,20}(?:denied|not permitted|not allowed|prohibited)|not permitted to relay|unable to relay|not verified"
    r"|access denied|unconfigured sending domain|authentication (?:failed|required)|not authenticated",
    re.IGNORECASE,
)
# RFC 3463: subject and detail of an enhanced code, where the class (4 or 5) does not decide alone. None = any detail.
_PERMANENT: dict[tuple[str, str | None], _Judgement] = {
    **{("1", detail): _BAD_RECIPIENT for detail in ("1", "2", "3", "6", "10")},
    **{("1", detail): _MISCONFIGURED for detail in ("7", "8")},
    **{("2", detail): _REJECTED for detail in ("2", "3")},  # a full mailbox empties, and another mail may be short enough for it
    ("2", None): _BAD_RECIPIENT,
    **{("3", detail): _UNAVAILABLE for detail in ("1", "2")},
    ("3", "4"): base.TOO_LARGE,
    **{("4", detail): _REJECTED for detail in ("4", "6", "7")},  # no way there for now, which says nothing about the address
    ("4", None): _UNAVAILABLE,
    ("5", "3"): _UNSUPPORTED,  # too many recipients, and no less of them later
    ("6", None): _REJECTED,
    **{("7", detail): _MISCONFIGURED for detail in ("8", "9", "11", "14", *map(str, range(20, 28)))},
    ("7", None): _REJECTED,
}
_CODES = {
    **dict.fromkeys((530, 534, 535, 538), _MISCONFIGURED),
    555: _REJECTED,
}
_AT_RCPT = dict.fromkeys((521, 550, 551, 553, 556), _BAD_RECIPIENT)  # a 552 is a full mailbox
# What a refusal for good says of the account, by the stage at which it comes.
_CONDITIONS = {
    "greeting": "takes no mail from this machine: have its address allowed, or use another relay",
    "starttls": "offers no STARTTLS: set the encryption to tls (port 465), or to none on loopback",
    "auth": "refuses user name and password: set those of this relay",
    "noop": "wants a login first: set user name and password",
}
_OUR_STAGES = frozenset({"greeting", "starttls", "auth", "noop"})


class Esp:
    """Credentials: `host`; optionally `port`, `username`, `password`, `encryption` (starttls, tls, none), and for DKIM
    `dkim_key_file`, `dkim_selector`, `dkim_domain`.
    """

    limits = LIMITS

    def __init__(self, account: Account):
        given = account.credentials
        self._url = account.base_url.rstrip("/") + "/"
        self._login = {name: given[name] for name in ("encryption", "username", "password") if given.get(name)}
        key_file = given.get("dkim_key_file")
        self._key = DkimKey(Path(key_file), given.get("dkim_selector", ""), given.get("dkim_domain", "")) if key_file else None

    def unsupported(self, message: Message) -> str | None:
        if base.recipients_of(message) > LIMITS.recipients_per_message:
            return f"SMTP takes {LIMITS.recipients_per_message} recipients a message"
        if base.content_bytes(message) > LIMITS.message_bytes:
            return f"SMTP takes {LIMITS.message_bytes} bytes a message"
        return self._key.problem if self._key else None

    def prepare(self, messages: Sequence[Message]) -> list[Request]:
        """One request for each message: the envelope in its headers, the mail as its body."""
        return [self._request(message) for message in messages]

    def interpret(self, request: Request, reply: Reply | NoReply) -> list[Outcome]:
        if isinstance(reply, NoReply):
            return base.unanswered(request, reply)
        stage = reply.headers.get("stage", "end")
        words = f"SMTP {reply.status} {base.text_of(reply.body)}"
        if stage == "end" and reply.status == 250:
            return [_accepted(message, words, reply.headers.get("refused", "")) for message in request.messages]
        outcomes: list[Outcome] = []
        for message in request.messages:
            verdict, blame = _judge(stage, reply.status, base.text_of(reply.body), message)
            wait_s = base.LONGEST_WAIT_S if verdict is Verdict.THROTTLED and _FOR_LONG.search(words) else None
            outcomes.append(Outcome(message.attempt_id, verdict, blame, "", base.cut_detail(f"{words} (at {stage})"), wait_s))
        return outcomes

    def health(self) -> Request:
        return Request("NOOP", self._url, self._login, b"")

    def read_health(self, reply: Reply | NoReply) -> Health:
        """At which stage the relay said no tells what is wrong."""
        if self._key and self._key.problem:
            return Health(False, f"{self._key.problem}: no mail leaves unsigned; mend the DKIM settings")
        if isinstance(reply, NoReply):
            return Health(False, f"does not answer ({reply.error}): check host, port, encryption and the relay's certificate")
        stage = reply.headers.get("stage", "")
        if stage == "noop" and reply.status == 250:
            return GOOD
        if 400 <= reply.status < 500 and _TOO_MUCH.search(base.text_of(reply.body)):
            return Health(None, f"is asked too often, or our quota is used up (SMTP {reply.status}): check again later")
        if 400 <= reply.status < 500:
            return Health(False, f"cannot serve us now (SMTP {reply.status} at {stage}): check again later")
        says = _CONDITIONS.get(stage) if 500 <= reply.status < 600 else None
        return Health(False, f"{says or 'answers what no relay answers: check host and port'} (SMTP {reply.status})")

    def _request(self, message: Message) -> Request:
        recipients = list(dict.fromkeys(a.email for a in (*message.to, *message.cc, *message.bcc)))
        envelope = {"mail-from": message.sender.email, "rcpt-to": "\n".join(recipients)}
        if not "".join((message.sender.email, *recipients)).isascii():
            envelope["smtputf8"] = "yes"
        body = mime.build(message)
        if self._key:
            body = self._key.sign(body, message.sender.email.rpartition("@")[2])
        return Request("MAIL", self._url, {**self._login, **envelope}, body, (message,))


def _accepted(message: Message, words: str, refused: str) -> Outcome:
    """The relay's own words stay in the detail, since it is only there that its queue id is told."""
    note = f"; {refused} of the other recipients refused" if refused else ""
    return Outcome(message.attempt_id, Verdict.ACCEPTED, None, mime.message_id(message), base.cut_detail(words + note))


def _judge(stage: str, code: int, words: str, message: Message) -> _Judgement:
    """A refusal is a no, before the final dot and behind it (RFC 5321, 4.2.5); only what is neither leaves it open there."""
    if not 400 <= code < 600:
        return (Verdict.UNKNOWN, Blame.ESP) if stage == "end" else _UNAVAILABLE
    if stage == "extension":
        return _UNSUPPORTED
    enhanced = _ENHANCED.match(words.lstrip())
    subject, detail = enhanced.groups() if enhanced else ("", "")
    if code < 500:
        return _judge_for_now(stage, code, subject, detail, words)
    if stage in _OUR_STAGES or _NOT_OURS.search(words):
        return _MISCONFIGURED
    judgement = _CODES.get(code) or _PERMANENT.get((subject, detail)) or _PERMANENT.get((subject, None)) or _judge_plain(stage, code)
    if stage == "mail" and code == 552:  # the size has been named by then, and the recipients have not
        return base.TOO_LARGE
    if stage == "mail" and judgement in (_BAD_RECIPIENT, _REJECTED) and code != 555:
        return _MISCONFIGURED  # nobody but the sender has been named yet
    # behind the data several may be meant, and a blamed recipient is suppressed
    is_sure = stage == "rcpt" or base.is_about_recipient(message, words)
    return _REJECTED if judgement == _BAD_RECIPIENT and not is_sure else judgement


def _judge_for_now(stage: str, code: int, subject: str, detail: str, words: str) -> _Judgement:
    """A 4yz: later is better. Too much of ours, the relay's own trouble, or the mailbox's."""
    is_policy = subject == "7" and detail != "1" and code != 454
    is_mailbox = subject == "2"  # "over quota" may be the recipient's
    if (_TOO_MUCH.search(words) and not is_mailbox) or (subject, detail) == ("5", "3") or (is_policy and stage not in _OUR_STAGES):
        return _THROTTLED
    if code == 452 and not subject:
        return _THROTTLED
    if stage == "rcpt" and (subject in ("1", "2") or (code in (450, 451) and subject not in ("3", "4"))):
        return _NOT_NOW
    return _UNAVAILABLE


def _judge_plain(stage: str, code: int) -> _Judgement:
    """A 5yz without an enhanced code that tells more."""
    if 500 <= code <= 504:
        return _MISCONFIGURED if stage == "mail" else _REJECTED
    return _AT_RCPT.get(code, _REJECTED) if stage == "rcpt" else _REJECTED
