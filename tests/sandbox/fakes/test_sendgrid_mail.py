"""How the fake SendGrid reads a mail out of a request: substitutions, sections, templates, and what overrides what."""

import orjson

from sandbox.fakes.contract import Traits
from sandbox.fakes.sendgrid import Fake
from tests.sandbox.fakes.sendgrid_requests import ATTEMPT, message, one, send


def test_substitutions_are_put_literally_into_subject_contents_and_reply_to() -> None:
    body = message(
        one("a@x.test", substitutions={"-name-": "A & {B}", "-sec-": "%deal%"}),
        one("b@x.test", substitutions={"-name-": "Bob"}),
        subject="Hi -name-",
        content=[{"type": "text/plain", "value": "-name- -sec-"}, {"type": "text/html", "value": "<b>-name-</b>-none-"}],
        reply_to={"email": "r@brand.test", "name": "for -name-"},
        sections={"%deal%": "a deal for -name-"},
    )
    assert [mail.subject for mail in send(body).accepted] == ["Hi A & {B}", "Hi Bob"]
    first, second = (Fake().mail(orjson.dumps(body), item) for item in (0, 1))
    assert (first.text, first.html) == ("A & {B} a deal for A & {B}", "<b>A & {B}</b>-none-")
    assert second.text == "Bob -sec-"
    assert ("Reply-To", "for Bob <r@brand.test>") in second.headers


def test_a_dynamic_template_takes_its_subject_and_bodies_from_the_data() -> None:
    data = {"subject": "S", "html": "<p>H</p>", "text": "T"}
    body = message(one(dynamic_template_data=data), template_id="d-1")
    del body["content"], body["subject"]
    assert [mail.subject for mail in send(body).accepted] == ["S"]
    mail = Fake().mail(orjson.dumps(body), 0)
    assert (mail.subject, mail.html, mail.text) == ("S", "<p>H</p>", "T")
    assert send(body, traits=Traits(templates=frozenset({"d-2"}))).status == 400


def test_a_mail_shows_what_its_personalization_overrides() -> None:
    body = message(
        one(headers={"X-A": "mine"}, custom_args={"attempt_id": ATTEMPT}, cc=[{"email": "c@x.test", "name": "C"}]),
        headers={"X-A": "all", "X-B": "all"},
        custom_args={"job": "j"},
        attachments=[{"content": "YWJj", "filename": "a.txt"}],
    )
    mail = Fake().mail(orjson.dumps(body), 0)
    assert [header for header in mail.headers if header[0] in ("Cc", "X-A", "X-B")] == [
        ("Cc", "C <c@x.test>"),
        ("X-A", "mine"),
        ("X-B", "all"),
    ]
    assert mail.metadata == {"job": "j", "attempt_id": ATTEMPT}
    assert [(part.name, part.size_bytes) for part in mail.attachments] == [("a.txt", 3)]
