"""Adapters against the fakes: what an adapter prepares is taken, once, and reads as it was meant.

Adapters and fakes share nothing but the documentation, so a misunderstanding of one shows here.
"""

import time
from collections import Counter
from contextlib import closing
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from esp import base
from esp.exchange import Exchange, open_exchange
from esp.sparkpost import Esp
from mail.account import Account
from mail.ids import wire_id
from mail.message import Address, Message
from mail.outcome import Outcome, Reply, Request, Verdict
from sandbox import fakes
from sandbox.fakes.contract import Answer, Call, FakeEsp, Traits
from sandbox.fakes.ledger import Line, read_ledger
from sandbox.world import esp_settings
from tests.esp.messages import any_message, message
from tests.esp.test_contract import QUICK
from tests.sandbox.fakes.serving import serving_from_a_thread as serving

OURS = ["postmark", "sendgrid", "socketlabs", "sparkpost"]
# What leaves no doubt: a rate, Postmark's documented maintenance (503 with code 100), and SendGrid's 202, whose body says nothing.
CERTAIN = {
    ("", "throttle"): Verdict.THROTTLED,
    ("postmark", "error_before"): Verdict.UNAVAILABLE,
    ("sendgrid", "malformed"): Verdict.ACCEPTED,
}
FOOD_FOR_TEMPLATES = "Use {{name}} or {{{html}}}, {{ if x }}, {{, }} and %%Name%% \\ \" ' & <b> -name- é 👋"


def account(provider: str, address: str = "http://127.0.0.1:9") -> Account:
    (found,) = load_settings(esp_settings({provider: address}), None).accounts
    return found


def put(fake: FakeEsp, request: Request, **traits: Any) -> Answer:
    parts = urlsplit(request.url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return fake.answer(Call(request.method, path, request.headers, request.body, Traits(**traits)))


def replied(answer: Answer) -> Reply:
    return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)


@pytest.mark.parametrize("provider", OURS)
@given(messages=st.lists(any_message(), max_size=12))
@QUICK
def test_whatever_is_prepared_is_taken_and_says_what_it_said(provider: str, messages: list[Message]) -> None:
    esp, fake = base.load(account(provider)), fakes.load(provider)
    able = {wire_id(m.attempt_id): m for m in messages if esp.unsupported(m) is None}
    seen: list[str | None] = []
    for request in esp.prepare(list(able.values())):
        answer = put(fake, request)
        assert {o.verdict for o in esp.interpret(request, replied(answer))} == {Verdict.ACCEPTED}, answer.body
        for taken in answer.accepted:
            seen.append(taken.attempt_id)
            mail, meant = fake.mail(request.body, taken.item), able[str(taken.attempt_id)]
            assert (mail.subject, mail.html, mail.text) == (meant.subject, meant.html, meant.text)
            assert taken.recipient.lower() == meant.to[0].email.lower()
            assert [dict(mail.headers)[name] for name, _ in meant.headers] == [value for _, value in meant.headers]
            assert len(mail.attachments) == len(meant.attachments)
    assert sorted(map(str, seen)) == sorted(able)


@pytest.mark.parametrize("provider", OURS)
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("filler", ["", "x" * 120_000])
def test_a_text_that_looks_like_a_template_arrives_unchanged(provider: str, count: int, filler: str) -> None:
    esp, fake = base.load(account(provider)), fakes.load(provider)
    words = FOOD_FOR_TEMPLATES
    mails = [
        message(
            subject=f"{words} {n}",
            text=f"{words}\n{n} {filler}",
            html=f"<p>{words}</p> {n} {filler}",
            headers=(("X-Note", f"{words} {n}"),),
            metadata=(("subject", "not this"), ("html", "nor this")),
        )
        for n in range(count)
    ]
    read = [
        (wire_id(meant.attempt_id), fake.mail(request.body, taken.item), meant)
        for request in esp.prepare(mails)
        for taken, meant in zip(put(fake, request).accepted, request.messages, strict=True)
    ]
    assert len(read) == count
    for _, mail, meant in read:
        assert (mail.subject, mail.text, mail.html) == (meant.subject, meant.text, meant.html)
        assert str(make_header(decode_header(dict(mail.headers)["X-Note"]))) == meant.headers[0][1]


@pytest.mark.parametrize("provider", OURS)
def test_a_bad_address_costs_itself_only_or_is_told_when_alone(provider: str) -> None:
    esp, fake = base.load(account(provider)), fakes.load(provider)
    mails = [message(to=(Address(f"u{n}@a.test"),)) for n in range(5)]
    traits = {"bad_recipients": frozenset({"u3@a.test"})}
    (request,) = esp.prepare(mails)
    together = [o.verdict for o in esp.interpret(request, replied(put(fake, request, **traits)))]
    told = [Verdict.ACCEPTED] * 3 + [Verdict.REJECTED, Verdict.ACCEPTED]
    found_out = [Verdict.SPLIT] * 3 + [Verdict.REJECTED, Verdict.SPLIT]
    assert together in (told, found_out, [Verdict.UNKNOWN] * 5)
    (alone,) = esp.prepare([mails[3]])
    assert [o.verdict for o in esp.interpret(alone, replied(put(fake, alone, **traits)))] == [Verdict.REJECTED]


@pytest.mark.parametrize("provider", OURS)
def test_a_stranger_a_poor_and_a_silenced_account_are_told_apart(provider: str) -> None:
    esp, fake = base.load(account(provider)), fakes.load(provider)
    (request,) = esp.prepare([message(), message()])
    for traits, verdict in (
        ({"key": "another"}, Verdict.MISCONFIGURED),
        ({"has_send_scope": False}, Verdict.MISCONFIGURED),
        ({"has_credits": False}, Verdict.THROTTLED),
        ({"sender_domains": frozenset({"other.test"})}, Verdict.MISCONFIGURED),
    ):
        assert {o.verdict for o in esp.interpret(request, replied(put(fake, request, **traits)))} == {verdict}
    assert put(fake, esp.health()).status == 200
    assert put(fake, esp.health(), key="another").status == 401


def test_sparkposts_search_tells_who_was_accepted_of_a_transmission_that_only_counts() -> None:
    esp, fake = Esp(account("sparkpost"), now=lambda: time.time() + 900), fakes.load("sparkpost")
    mails = [message(to=(Address(f"U{n}@a.test"),)) for n in range(400)]
    (request,) = esp.prepare(mails)
    answer = put(fake, request, bad_recipients=frozenset({"u3@a.test", "u17@a.test"}))
    assert {o.verdict for o in esp.interpret(request, replied(answer))} == {Verdict.UNKNOWN}
    found: dict[str, bool] = {}
    searches = esp.find([base.Sought(m.attempt_id, m.to[0].email) for m in mails])
    for search in searches:
        found |= esp.read_found(search, replied(put(fake, search.request)))
    assert len(searches) > 1
    assert {taken.attempt_id for taken in answer.accepted} == {wire_id(attempt_id) for attempt_id, is_found in found.items() if is_found}
    assert [m.to[0].email for m in mails if not found[m.attempt_id]] == ["U3@a.test", "U17@a.test"]


def exchanged(esp: base.Esp, mails: list[Message]) -> list[Outcome]:
    with closing(Exchange(4, 2.0, 5.0)) as exchange:
        answers = list(exchange.send_all(esp.prepare(mails), lambda request: True))
    return [outcome for request, reply in answers for outcome in esp.interpret(request, reply)]


def ledger_of(folder: Path, provider: str) -> list[Line]:
    return list(read_ledger(folder / "ledger" / f"{provider}.jsonl"))


@pytest.mark.parametrize("provider", OURS)
def test_a_hundred_mails_over_http_are_each_in_the_ledger_once(provider: str, tmp_path: Path) -> None:
    with serving(tmp_path, {}) as urls:
        mails = [message(to=(Address(f"u{n}@a.test", f"User {n}"),), subject=f"Order {n}", html=f"<p>{{{{{n}</p>") for n in range(100)]
        outcomes = exchanged(base.load(account(provider, urls[provider])), mails)
    assert Counter(o.verdict for o in outcomes) == {Verdict.ACCEPTED: 100}
    lines = ledger_of(tmp_path, provider)
    assert Counter(line["attempt_id"] for line in lines) == Counter(wire_id(m.attempt_id) for m in mails)
    assert {(line["recipient"], line["subject"]) for line in lines} == {(m.to[0].email, m.subject) for m in mails}
    ids = {o.attempt_id: o.message_id for o in outcomes}
    assert all(ids[m.attempt_id] == line["message_id"] for m in mails for line in lines if line["attempt_id"] == wire_id(m.attempt_id))


@pytest.mark.parametrize("provider", OURS)
@pytest.mark.parametrize("deed", ["throttle", "error_before", "error_after", "reset_before", "reset_after", "malformed", "cut", "redirect"])
def test_no_misbehaviour_makes_a_mail_count_as_refused_that_was_taken(provider: str, deed: str, tmp_path: Path) -> None:
    with serving(tmp_path, {provider: {deed: 1}}) as urls:
        outcomes = exchanged(base.load(account(provider, urls[provider])), [message(to=(Address(f"u{n}@a.test"),)) for n in range(20)])
    verdicts = {o.verdict for o in outcomes}
    assert len(outcomes) == 20
    assert verdicts == {CERTAIN.get((provider, deed), CERTAIN.get(("", deed), Verdict.UNKNOWN))}
    assert not ledger_of(tmp_path, provider) or verdicts <= {Verdict.UNKNOWN, Verdict.ACCEPTED}


def test_a_relays_limits_of_a_connection_are_never_met(tmp_path: Path) -> None:
    with serving(tmp_path, {}) as urls:
        mails = [message(to=(Address(f"u{n}@a.test"),)) for n in range(210)]
        esp = base.load(account("smtp", urls["smtp"]))
        with closing(open_exchange(1, 2.0, 5.0)) as exchange:
            answers = list(exchange.send_all(esp.prepare(mails), lambda request: True))
    assert {o.verdict for request, reply in answers for o in esp.interpret(request, reply)} == {Verdict.ACCEPTED}
    assert len(ledger_of(tmp_path, "smtp")) == 210
