"""What is SES' own: bodies, signatures and errors; and that its fake takes what the adapter prepares."""

import base64
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from esp import base
from esp.exchange import fetch, open_exchange
from esp.ses import LIMITS, Esp
from mail.account import Account
from mail.event import EventType
from mail.ids import wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from sandbox.fakes.contract import Answer, Call, Traits
from sandbox.fakes.ledger import read_ledger
from sandbox.fakes.ses import SANDBOX_KEY, Fake
from sandbox.world import esp_settings
from tests.esp.messages import any_message, message
from tests.esp.test_contract import QUICK
from tests.esp.test_round_trip import serving

KEYS = {"region": "eu-west-1", "access_key": SANDBOX_KEY, "secret_key": SANDBOX_KEY}
ORIGIN = "https://email.eu-west-1.amazonaws.com"
FOOD_FOR_TEMPLATES = "Use {{name}} or {{{html}}} or {{#each}} and \\ \" ' & <b> é 👋"


def esp(origin: str = ORIGIN, **credentials: str) -> Esp:
    return Esp(Account("ses", 0, origin, KEYS | credentials), now=lambda: 1_800_000_000.0)


def put(request: Request, spoiled: int = -1, **traits: Any) -> Answer:
    parts = urlsplit(request.url)
    headers = {**request.headers, "Host": parts.netloc}
    return Fake().answer(Call(request.method, parts.path, headers, request.body, Traits(**traits), lambda item: item == spoiled))


def heard(request: Request, answer: Answer) -> list[Outcome]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return esp().interpret(request, Reply(answer.status, headers, answer.body))


def body(one: Message, **credentials: str) -> dict[str, Any]:
    (request,) = esp(**credentials).prepare([one])
    found: dict[str, Any] = json.loads(request.body)
    return found


def test_a_mail_alone_is_simple_content() -> None:
    one = message(
        to=(Address("ann@a.test", 'Ann "A", B'),),
        cc=(Address("c@a.test", "Käthe"),),
        bcc=(Address("b@a.test"),),
        reply_to=Address("r@brand.test", "R"),
        headers=(("List-Unsubscribe", "<https://u.test/1>"), ("X-A", "1")),
        tags=("news", "more"),
        metadata=(("order", "7"), ("attempt_id", "forged"), ("bad name", "v"), ("long", "v" * 257), ("empty", "")),
    )
    (request,) = esp(configuration_set="events").prepare([one])
    assert (request.method, request.url) == ("POST", f"{ORIGIN}/v2/email/outbound-emails")
    assert json.loads(request.body) == {
        "FromEmailAddress": "The Shop <shop@brand.test>",
        "ReplyToAddresses": ["R <r@brand.test>"],
        "Destination": {
            "ToAddresses": ['"Ann \\"A\\", B" <ann@a.test>'],
            "CcAddresses": ["=?utf-8?b?S8OkdGhl?= <c@a.test>"],
            "BccAddresses": ["b@a.test"],
        },
        "Content": {
            "Simple": {
                "Subject": {"Data": "Your order", "Charset": "UTF-8"},
                "Body": {"Text": {"Data": "Thanks", "Charset": "UTF-8"}, "Html": {"Data": "<p>Thanks</p>", "Charset": "UTF-8"}},
                "Headers": [{"Name": "List-Unsubscribe", "Value": "<https://u.test/1>"}, {"Name": "X-A", "Value": "1"}],
            }
        },
        "EmailTags": [
            {"Name": "attempt_id", "Value": wire_id(one.attempt_id)},
            {"Name": "order", "Value": "7"},
            {"Name": "tag", "Value": "news"},
        ],
        "ConfigurationSetName": "events",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"attachments": (Attachment("a.pdf", "application/pdf", "YQ=="),)},
        {"headers": tuple((f"X-{n}", "v") for n in range(16))},
        {"headers": (("X-A", "1"), ("x-a", "2"))},
        {"headers": (("X-A", "é"),)},
        {"headers": (("X-A", ""),)},
        {"headers": (("X-A", "v" * 996),)},
        {"headers": (("X-A", "v" * 994),)},  # 997 with its name
        {"subject": ""},
    ],
)
def test_what_ses_cannot_put_together_goes_raw(changes: dict[str, Any]) -> None:
    one = message(reply_to=Address("r@brand.test"), bcc=(Address("secret@a.test"),), **changes)
    fields = body(one)
    content = base64.b64decode(fields["Content"]["Raw"]["Data"])
    assert "FromEmailAddress" not in fields  # it would overwrite what stands in the MIME
    assert fields["Destination"] == {"ToAddresses": ["Ann <ann@a.test>"], "BccAddresses": ["secret@a.test"]}
    assert message_from_bytes(content)["X-Attempt-Id"] == wire_id(one.attempt_id)
    assert b"secret" not in content
    assert fields["EmailTags"][0] == {"Name": "attempt_id", "Value": wire_id(one.attempt_id)}


def test_a_header_of_996_characters_with_its_name_is_one_that_ses_can_put_together() -> None:
    one = message(headers=(("X-A", "v" * 993),))
    assert "Simple" in body(one)["Content"]
    assert put(esp().prepare([one])[0]).status == 200


def test_mails_travel_50_at_a_time_each_with_its_own_words() -> None:
    mails = [message(subject=f"Order {n}", html=f"<p>{n}</p>", headers=(("X-N", str(n)),)) for n in range(120)]
    requests = esp(configuration_set="events").prepare(mails)
    assert [len(r.messages) for r in requests] == [50, 50, 20]
    fields = json.loads(requests[0].body)
    assert requests[0].url.endswith("/v2/email/outbound-bulk-emails")
    assert fields["DefaultContent"]["Template"]["TemplateContent"] == {"Subject": "{{subject}}", "Text": "{{text}}", "Html": "{{html}}"}
    assert fields["ConfigurationSetName"] == "events"
    entry = fields["BulkEmailEntries"][7]
    assert json.loads(entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"]) == {
        "subject": "Order 7",
        "text": "Thanks",
        "html": "<p>7</p>",
    }
    assert entry["ReplacementTags"] == [{"Name": "attempt_id", "Value": wire_id(mails[7].attempt_id)}]
    assert entry["ReplacementHeaders"] == [{"Name": "X-N", "Value": "7"}]


def test_a_batch_holds_50_recipients_copies_among_them() -> None:
    mails = [message(subject=f"Order {n}", cc=(Address("bob@b.test"),)) for n in range(60)]
    assert [len(r.messages) for r in esp().prepare(mails)] == [25, 25, 10]


def test_what_holds_for_a_whole_request_is_the_same_for_all_in_it() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"sender": Address("other@brand.test")},
        {"reply_to": Address("r@brand.test")},
        {"text": ""},
        {"html": ""},
    ]
    requests = esp().prepare([message(**change) for change in changes for _ in range(2)])
    assert [len(r.messages) for r in requests] == [2] * 5
    assert [list(json.loads(r.body)["DefaultContent"]["Template"]["TemplateContent"]) for r in requests[3:]] == [
        ["Subject", "Html"],
        ["Subject", "Text"],
    ]


@pytest.mark.parametrize(
    ("html", "is_alone"), [("x" * 261_000, False), ("x" * 263_000, True), ('"' * 140_000, True), ("{{x}}", True), ("{x}", False)]
)
def test_what_a_template_cannot_carry_travels_alone(html: str, is_alone: bool) -> None:
    requests = esp().prepare([message(html=html) for _ in range(2)])
    assert [len(r.messages) for r in requests] == ([1, 1] if is_alone else [2])
    assert {put(r).status for r in requests} == {200}


def test_what_ses_does_not_take_is_said_before() -> None:
    assert esp().unsupported(message()) is None
    assert "50 recipients" in (esp().unsupported(message(to=tuple(Address(f"u{n}@a.test") for n in range(51)))) or "")
    assert "ASCII" in (esp().unsupported(message(cc=(Address("käthe@a.test"),))) or "")
    assert "bytes" in (esp().unsupported(message(attachments=(Attachment("a", "a/b", "A" * 29_000_000),))) or "")


def test_the_largest_mail_that_is_taken_is_within_the_request() -> None:
    (request,) = esp().prepare([message(attachments=(Attachment("a", "a/b", "A" * 27_999_900),))])
    assert len(request.body) <= LIMITS.request_bytes


@given(messages=st.lists(any_message(), max_size=12))
@QUICK
def test_the_fake_takes_whatever_is_prepared_and_reads_what_was_meant(messages: list[Message]) -> None:
    able = {wire_id(m.attempt_id): m for m in messages if esp().unsupported(m) is None}
    seen: list[str | None] = []
    for request in esp().prepare(list(able.values())):
        answer = put(request)
        assert {o.verdict for o in heard(request, answer)} == {Verdict.ACCEPTED}, answer.body
        for taken in answer.accepted:
            seen.append(taken.attempt_id)
            mail, meant = Fake().mail(request.body, taken.item), able[str(taken.attempt_id)]
            assert (mail.subject, _lines(mail.html), _lines(mail.text)) == (
                meant.subject.strip(),
                _lines(meant.html),
                _lines(meant.text),
            ) or (not meant.attachments and (mail.subject, mail.html, mail.text) == (meant.subject, meant.html, meant.text))
            assert taken.recipient == meant.to[0].email
            assert [dict(mail.headers)[name] for name, _ in meant.headers] == [value for _, value in meant.headers]
            assert len(mail.attachments) == len(meant.attachments)
    assert sorted(map(str, seen)) == sorted(able)


@pytest.mark.parametrize("count", [1, 5])
def test_a_text_that_looks_like_a_template_arrives_unchanged(count: int) -> None:
    words = FOOD_FOR_TEMPLATES
    mails = [message(subject=f"{words} {n}", text=words, html=f"<p>{words}</p>") for n in range(count)]
    for request in esp().prepare(mails):
        for taken, meant in zip(put(request).accepted, request.messages, strict=True):
            mail = Fake().mail(request.body, taken.item)
            assert (mail.subject, mail.text, mail.html) == (meant.subject, meant.text, meant.html)


def test_a_batch_refused_for_one_is_split_and_an_entry_refused_costs_itself_only() -> None:
    (request,) = esp().prepare([message(to=(Address(f"u{n}@a.test"),)) for n in range(3)])
    split = heard(request, put(request, bad_recipients=frozenset({"u1@a.test"})))
    assert {(o.verdict, o.blame) for o in split} == {(Verdict.SPLIT, Blame.NEIGHBOUR)}
    one_bad = heard(request, put(request, spoiled=1))
    assert [o.verdict for o in one_bad] == [Verdict.ACCEPTED, Verdict.REJECTED, Verdict.ACCEPTED]
    (alone,) = esp().prepare([request.messages[1]])
    assert [o.verdict for o in heard(alone, put(alone, bad_recipients=frozenset({"u1@a.test"})))] == [Verdict.REJECTED]


@pytest.mark.parametrize(
    ("traits", "verdict"),
    [
        ({"key": "AKIA:other"}, Verdict.MISCONFIGURED),
        ({"key": f"{SANDBOX_KEY}:other"}, Verdict.MISCONFIGURED),
        ({"has_send_scope": False}, Verdict.MISCONFIGURED),
        ({"has_credits": False}, Verdict.THROTTLED),
        ({"sender_domains": frozenset({"other.test"})}, Verdict.MISCONFIGURED),
    ],
)
def test_our_own_faults_are_told_apart(traits: dict[str, Any], verdict: Verdict) -> None:
    for request in (esp().prepare([message(), message()])[0], esp().prepare([message()])[0]):
        assert {o.verdict for o in heard(request, put(request, **traits))} == {verdict}


def test_a_changed_byte_breaks_the_signature() -> None:
    (request,) = esp().prepare([message()])
    changed = Request(request.method, request.url, request.headers, request.body.replace(b"Thanks", b"Thinks"), request.messages)
    assert (put(request).status, put(changed).status) == (200, 403)


def test_health_is_signed_too() -> None:
    health = esp().health()
    assert put(health).status == 200
    assert put(health, key="AKIA:other").status == 403


def test_botocore_is_only_imported_where_an_account_is_on() -> None:
    code = "import sys, esp.ses, esp.exchange; assert not {'botocore', 'dkim'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_nul_hidden_in_the_inner_json_is_not_kept() -> None:
    event = {"eventType": "Reject", "reject": {"reason": "a\0b"}, "mail": {"messageId": "m", "destination": ["ann@a.test"]}}
    envelope = {"Type": "Notification", "TopicArn": "t", "MessageId": "s", "Message": json.dumps(event)}
    (found,) = esp().parse_events(envelope)
    assert (found.type, found.reason) == (EventType.DROPPED, "a\ufffdb")
    assert "\0" not in json.dumps(found.raw, ensure_ascii=False)


def test_both_feeds_of_one_bounce_have_one_id() -> None:
    bounce = {
        "bounceType": "Permanent",
        "bouncedRecipients": [{"emailAddress": "ann@a.test"}],
        "timestamp": "2026-11-21T10:00:05.000Z",
        "feedbackId": "f",
    }
    mail = {"messageId": "m", "destination": ["ann@a.test"]}
    ids = []
    for number, key in enumerate(("eventType", "notificationType")):
        event = json.dumps({key: "Bounce", "bounce": bounce, "mail": mail})
        (found,) = esp().parse_events({"Type": "Notification", "TopicArn": "t", "MessageId": f"sns-{number}", "Message": event})
        ids.append(found.event_id)
    assert ids[0] == ids[1]


def account(address: str) -> Account:
    (found,) = load_settings(esp_settings({"ses": address}), None).accounts
    return found


def exchanged(address: str, mails: list[Message]) -> list[Outcome]:
    sender = base.load(account(address))
    exchange = open_exchange(4, 2.0, 5.0)
    answers = list(exchange.send_all(sender.prepare(mails), lambda request: True))
    exchange.close()
    return [outcome for request, reply in answers for outcome in sender.interpret(request, reply)]


def test_a_hundred_mails_over_http_are_each_in_the_ledger_once(tmp_path: Path) -> None:
    file = (Attachment("a.pdf", "application/pdf", "YWJj"),)
    mails = [
        message(to=(Address(f"u{n}@a.test", f"User {n}"),), subject=f"Order {n}", attachments=file if n % 20 == 0 else ())
        for n in range(100)
    ]
    with serving(tmp_path, {}) as urls:
        outcomes = exchanged(urls["ses"], mails)
    assert Counter(o.verdict for o in outcomes) == {Verdict.ACCEPTED: 100}
    lines = list(read_ledger(tmp_path / "ledger" / "ses.jsonl"))
    assert Counter(line["attempt_id"] for line in lines) == Counter(wire_id(m.attempt_id) for m in mails)
    assert {(line["recipient"], line["subject"]) for line in lines} == {(m.to[0].email, m.subject) for m in mails}
    assert {o.message_id for o in outcomes} == {line["message_id"] for line in lines}


@pytest.mark.parametrize("deed", ["throttle", "error_before", "error_after", "reset_before", "reset_after", "malformed", "cut", "redirect"])
def test_no_misbehaviour_makes_a_mail_count_as_refused_that_was_taken(deed: str, tmp_path: Path) -> None:
    with serving(tmp_path, {"ses": {deed: 1}}) as urls:
        outcomes = exchanged(urls["ses"], [message() for _ in range(20)])
    assert len(outcomes) == 20
    assert {o.verdict for o in outcomes} == ({Verdict.THROTTLED} if deed == "throttle" else {Verdict.UNKNOWN})


def test_a_page_is_fetched_in_one_request(tmp_path: Path) -> None:
    with serving(tmp_path, {}) as urls:
        answer = fetch(urls["ses"] + "/SimpleNotificationService-1.pem")
        assert isinstance(answer, Reply) and answer.status == 403
    gone = fetch("http://127.0.0.1:1/x.pem", limit_s=1.0)
    assert isinstance(gone, NoReply)


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
