"""What is SparkPost's own: substitution data, counts instead of names, a search for what is uncertain."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from esp.base import Search, Sought
from esp.sparkpost import Esp
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.ids import new_id, wire_id
from mail.message import Address, Attachment
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from tests.esp.messages import message

NOW = 1_800_000_000.0
COPY = (Address("bob@b.test", "Bob"),)


def esp(**credentials: str) -> Esp:
    return Esp(Account("sparkpost", 0, "https://api.sparkpost.com", {"api_key": "k"} | credentials), now=lambda: NOW)


def answered(status: int, body: Any, count: int = 1, headers: dict[str, str] | None = None, **changes: Any) -> list[Outcome]:
    (request,) = esp().prepare([message(**changes) for _ in range(count)])
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return esp().interpret(request, Reply(status, headers or {}, raw))


def counted(accepted: Any, rejected: Any, **more: Any) -> dict[str, Any]:
    return {"results": {"id": "116", "total_accepted_recipients": accepted, "total_rejected_recipients": rejected}, **more}


def errors(*codes: str, words: str = "") -> dict[str, Any]:
    return {"errors": [{"message": "no", "description": words, "code": code} for code in codes]}


def said(outcomes: list[Outcome]) -> list[tuple[Verdict, Blame | None]]:
    return [(outcome.verdict, outcome.blame) for outcome in outcomes]


def body_of(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body)
    return body


ACCEPTED = (Verdict.ACCEPTED, None)
UNKNOWN = (Verdict.UNKNOWN, Blame.ESP)
REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
BAD_RECIPIENT = (Verdict.REJECTED, Blame.RECIPIENT)
MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
THROTTLED = (Verdict.THROTTLED, Blame.ESP)
SPLIT = (Verdict.SPLIT, Blame.NEIGHBOUR)


def test_different_mails_travel_together_as_substitution_data() -> None:
    mails = [message(subject=f"Order {n}", html=f"<p>{n}</p>", text=str(n), headers=(("X-N", str(n)),)) for n in range(3)]
    (request,) = esp().prepare(mails)
    body = body_of(request)
    assert body["options"] == {"transactional": True, "perform_substitutions": True}
    assert body["content"] == {
        "from": {"email": "shop@brand.test", "name": "The Shop"},
        "subject": "{{{subject}}}",
        "text": "{{{text}}}",
        "html": "{{{html}}}",
        "headers": {"X-N": "{{{header_0}}}"},
    }
    assert body["recipients"][1] == {
        "address": {"email": "ann@a.test", "name": "Ann"},
        "metadata": {"attempt_id": wire_id(mails[1].attempt_id)},
        "substitution_data": {"subject": "Order 1", "text": "1", "html": "<p>1</p>", "header_0": "1"},
    }


def test_two_thousand_mails_a_transmission() -> None:
    requests = esp().prepare([message(subject=f"Order {n}") for n in range(4001)])
    assert [len(r.messages) for r in requests] == [2000, 2000, 1]


def test_a_single_mail_has_its_words_in_the_content_and_its_headers_as_variables() -> None:
    (request,) = esp().prepare([message(subject="{{a}}", html="<p>{{b}}</p>", text="{{", headers=(("X-A", "{{c}}"),))])
    body = body_of(request)
    assert body["options"]["perform_substitutions"] is False
    assert (body["content"]["html"], body["content"]["text"]) == ("<p>{{b}}</p>", "{{")
    assert (body["content"]["subject"], body["content"]["headers"]) == ("{{{subject}}}", {"X-A": "{{{header_0}}}"})
    assert body["recipients"][0]["substitution_data"] == {"subject": "{{a}}", "header_0": "{{c}}"}


def test_what_is_over_100_kilobytes_travels_with_mails_of_the_very_same_words() -> None:
    long, longer = "x" * 100_001, "y" * 100_001
    requests = esp().prepare([message(html=words, subject=f"{n}") for n, words in enumerate((long, longer, long))])
    assert [[m.subject for m in r.messages] for r in requests] == [["0", "2"], ["1"]]
    assert body_of(requests[0])["content"]["html"] == long
    assert [r["substitution_data"] for r in body_of(requests[0])["recipients"]] == [{"subject": "0"}, {"subject": "2"}]


def test_escaping_counts_in_the_100_kilobytes() -> None:
    requests = esp().prepare([message(html='"' * 60_000, subject="0"), message(html='"' * 60_000 + "x", subject="1")])
    assert [len(r.messages) for r in requests] == [1, 1]
    for request in esp().prepare([message(html='"' * 45_000, subject="0"), message(html='"' * 45_000 + "x", subject="1")]):
        assert len(request.messages) == 2
        assert all(len(json.dumps(r["substitution_data"])) <= 100_000 for r in body_of(request)["recipients"])


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": Address("other@brand.test")},
        {"reply_to": Address("r@brand.test")},
        {"text": ""},
        {"headers": (("X-B", "1"),)},
        {"attachments": (Attachment("a.pdf", "application/pdf", "YQ=="),)},
        {"cc": COPY},
        {"bcc": COPY},
        {"to": (Address("ann@a.test"), Address("al@a.test"))},
    ],
)
def test_what_holds_for_a_whole_transmission_must_be_the_same(changes: dict[str, Any]) -> None:
    assert [len(r.messages) for r in esp().prepare([message(), message(**changes), message()])] == [2, 1]


def test_an_address_that_somebody_could_find_fault_with_travels_alone() -> None:
    odd = [Address(email) for email in ('"a b"@a.test', "o'hara@a.test", "a@a.xn--p1ai")]
    requests = esp().prepare([message(), *[message(to=(address,)) for address in odd], message()])
    assert [len(r.messages) for r in requests] == [2, 1, 1, 1]
    assert body_of(requests[1])["recipients"] == [{"address": {"email": '"a b"@a.test'}}]
    assert set(body_of(requests[1])["metadata"]) == {"attempt_id"}


def test_several_recipients_are_copies_that_show_the_same_to() -> None:
    mail = message(
        to=(Address("ann@a.test", 'Ann "A"'), Address("al@a.test")),
        cc=COPY,
        bcc=(Address("eve@e.test"), Address("ANN@a.test")),
        tags=("news",),
    )
    (request,) = esp().prepare([mail])
    body = body_of(request)
    shown = '"Ann \\"A\\"" <ann@a.test>, al@a.test'
    assert [r["address"] for r in body["recipients"]] == [
        {"email": email, "header_to": shown} for email in ("ann@a.test", "al@a.test", "bob@b.test", "eve@e.test")
    ]
    assert body["content"]["headers"] == {"CC": '"Bob" <bob@b.test>'}
    assert body["metadata"] == {"attempt_id": wire_id(mail.attempt_id)}
    assert all(r["tags"] == ["news"] and "metadata" not in r for r in body["recipients"])


def test_attachments_images_labels_and_reply_to_are_expressed() -> None:
    mail = message(
        reply_to=Address("r@brand.test", "R"),
        attachments=(
            Attachment("a.png", "image/png", "YQ==", "inline", "logo"),
            Attachment("b.pdf", "application/pdf", "Yg==", "attachment", "x"),
        ),
        tags=tuple(f"t{n}" for n in range(12)),
        metadata=(("attempt_id", "forged"), ("order", "7"), ("huge", "x" * 10_000), ("more", "8")),
    )
    body = body_of(esp().prepare([mail])[0])
    assert body["content"]["reply_to"] == '"R" <r@brand.test>'
    assert body["content"]["inline_images"] == [{"name": "logo", "type": "image/png", "data": "YQ=="}]
    assert body["content"]["attachments"] == [{"name": "b.pdf", "type": "application/pdf", "data": "Yg=="}]
    assert body["recipients"][0]["tags"] == [f"t{n}" for n in range(10)]
    assert body["recipients"][0]["metadata"] == {"attempt_id": wire_id(mail.attempt_id), "order": "7", "more": "8"}


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"headers": (("X-A", "1"), ("x-a", "2"))},
        {"headers": (("Content-Language", "de"),)},
        {"headers": (("X-{{a}}", "1"),)},
        {"sender": Address("shop@brand.test", "{{name}}")},
        {"to": (Address("ann@a.test", "Ann }}"),)},
        {"cc": (Address("{{a}}@a.test"),)},
        {"attachments": (Attachment("n" * 256, "b/c", "YQ=="),)},
        {"attachments": (Attachment("a", "image/png", "YQ==", "inline", "x"), Attachment("b", "image/png", "YQ==", "inline", "x"))},
        {"attachments": (Attachment("a", "b/c", "A" * 20_000_000),)},
    ],
)
def test_what_sparkpost_cannot_express_has_a_reason(changes: dict[str, Any]) -> None:
    assert esp().unsupported(message(**changes))
    assert esp().unsupported(message(subject="{{a}}", html="{{b}}", headers=(("X-A", "{{c}}"),))) is None


def test_counts_tell_who_was_accepted_only_where_all_or_none_were() -> None:
    assert said(answered(200, counted(3, 0), count=3)) == [ACCEPTED] * 3
    assert said(answered(200, counted(2, 1), count=3)) == [UNKNOWN] * 3
    assert said(answered(200, counted(0, 3, **errors("2000", words="address is bad")), count=3)) == [BAD_RECIPIENT] * 3
    assert said(answered(200, counted(0, 1, **errors("2000", words="metadata is bad")))) == [REJECTED]
    assert said(answered(200, counted(2, 0), cc=COPY)) == [ACCEPTED]
    assert said(answered(200, counted(1, 1), cc=COPY)) == [UNKNOWN]


@pytest.mark.parametrize("accepted", [None, "3", True, 2, 4, -3, 3.0])
def test_counts_that_do_not_add_up_say_nothing(accepted: Any) -> None:
    assert said(answered(200, counted(accepted, 0), count=3)) == [UNKNOWN] * 3
    assert said(answered(200, counted(3, 1), count=3)) == [UNKNOWN] * 3
    assert said(answered(200, counted(0, 4), count=3)) == [UNKNOWN] * 3


def test_the_message_id_is_the_transmissions() -> None:
    assert {o.message_id for o in answered(200, counted(2, 0), count=2)} == {"116"}


def test_an_unreadable_or_truncated_success_is_unknown() -> None:
    for body in (b"", b'{"results":{"id":"1","total_acc', b"[]", b"null", b'{"results":[]}'):
        assert said(answered(200, body, count=2)) == [UNKNOWN] * 2


def test_the_only_recipient_suppressed_is_rejected_whatever_the_counts_say() -> None:
    quirk = counted(1, 0, **errors("1902", words="recipient address was suppressed due to customer policy"))
    assert said(answered(400, quirk)) == [BAD_RECIPIENT]
    assert said(answered(400, quirk, cc=COPY)) == [UNKNOWN]
    assert said(answered(400, quirk, count=2)) == [UNKNOWN] * 2
    assert said(answered(422, counted(1, 0, **errors("1400")))) == [UNKNOWN]


def test_a_copys_address_is_not_held_against_the_recipient() -> None:
    assert said(answered(400, errors("5002"), cc=COPY)) == [REJECTED]


def test_no_address_comes_into_the_detail() -> None:
    (outcome,) = answered(400, errors("7001", words="Unconfigured <ann@a.test>"))
    assert outcome.detail == "HTTP 400 7001 no Unconfigured <[address]>"


def test_the_request_carries_the_bare_key() -> None:
    (request,) = esp().prepare([message()])
    assert (request.method, request.url) == ("POST", "https://api.sparkpost.com/api/v1/transmissions")
    assert request.headers == {"Authorization": "k", "Accept": "application/json", "Content-Type": "application/json"}
    assert esp().health().url == "https://api.sparkpost.com/api/v1/account?include=usage"


def sought(*ages_s: float) -> list[Sought]:
    return [Sought(new_id(int((NOW - age) * 1000)), f"U{n}@a.test") for n, age in enumerate(ages_s)]


def query_of(search: Search) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(search.request.url).query).items()}


def test_a_search_names_recipients_and_the_time_around_them() -> None:
    attempts = sought(7200, 7100)
    (search,) = esp().find(attempts)
    assert list(search.attempts) == attempts
    assert (search.request.method, search.request.messages) == ("GET", ())
    assert search.request.url.startswith("https://api.sparkpost.com/api/v1/events/message?")
    query = query_of(search)
    assert query["recipients"] == "u0@a.test,u1@a.test"
    assert (query["from"], query["to"]) == ("2027-01-15T05:55:00Z", "2027-01-15T07:01:40Z")
    assert "injection" in query["events"]
    assert query_of(esp().find(sought(60))[0])["to"] == "2027-01-15T08:00:00Z"


def test_searches_fit_into_a_uri_span_a_day_and_reach_back_ten() -> None:
    searches = esp().find(sought(*[1000.0 + n for n in range(500)]))
    assert all(len(s.request.url) <= 4096 for s in searches)
    assert sum(len(s.attempts) for s in searches) == 500
    assert 2 < len(searches) < 10
    assert [len(s.attempts) for s in esp().find(sought(1000, 2000, 90_000, 11 * 86_400))] == [1, 2]
    assert esp().find([]) == []


def found_by(body: Any, status: int = 200, ages_s: tuple[float, ...] = (1000, 2000)) -> list[bool | None]:
    attempts = sought(*ages_s)
    (search,) = esp().find(attempts)
    events = [{"type": "injection", "rcpt_meta": {"attempt_id": wire_id(attempts[0].attempt_id)}}]
    raw = json.dumps(body(events) if callable(body) else body).encode()
    found = esp().read_found(search, Reply(status, {}, raw))
    return [found.get(attempt.attempt_id) for attempt in attempts]


def test_a_search_that_was_read_whole_tells_found_from_not_found() -> None:
    assert found_by(lambda events: {"results": events, "total_count": 1, "links": {}}) == [True, False]
    assert found_by({"results": [], "total_count": 0, "links": []}) == [False, False]


@pytest.mark.parametrize(
    "more",
    [
        {"total_count": 1, "links": {"next": "/api/v1/events/message?cursor=x"}},
        {"total_count": 1, "links": [{"rel": "first", "href": "/"}, {"rel": "next", "href": "/"}]},
        {"total_count": 5, "links": {}},
        {"links": {}},
    ],
)
def test_on_a_page_of_several_only_what_is_found_is_certain(more: dict[str, Any]) -> None:
    assert found_by(lambda events: {"results": events, **more}) == [True, None]


@pytest.mark.parametrize(("status", "body"), [(429, {}), (500, {"results": []}), (200, []), (200, {"results": {}}), (200, {}), (302, {})])
def test_an_answer_that_is_none_settles_nothing(status: int, body: Any) -> None:
    assert found_by(body, status) == [None, None]
    (search,) = esp().find(sought(1000))
    assert esp().read_found(search, NoReply(True, "reset")) == {}
    assert esp().read_found(search, Reply(200, {}, b'{"results":[')) == {}


def test_others_events_and_odd_ones_are_not_ours() -> None:
    odd = [None, 7, {}, {"rcpt_meta": None}, {"rcpt_meta": {"attempt_id": 5}}, {"rcpt_meta": {"attempt_id": wire_id(new_id())}}]
    assert found_by({"results": odd, "total_count": len(odd), "links": {}}) == [False, False]


def callback(**headers: str) -> Callback:
    return Callback({name.replace("_", "-"): value for name, value in headers.items()}, b"[]", [])


def test_basic_authentication_is_checked_where_a_user_is_set() -> None:
    checked = esp(webhook_username="u", webhook_password="p")
    checked.verify(callback(authorization="Basic " + b64encode(b"u:p").decode()))
    for wrong in ("", "Basic", "Basic " + b64encode(b"u:x").decode(), "Bearer p"):
        with pytest.raises(BadCallback):
            checked.verify(callback(authorization=wrong))


def test_a_password_alone_is_a_token() -> None:
    checked = esp(webhook_password="t0ken")
    checked.verify(callback(authorization="Bearer t0ken"))
    checked.verify(callback(x_messagesystems_webhook_token="t0ken"))
    for wrong in ({}, {"authorization": "Bearer other"}, {"authorization": "Bearer"}, {"x_messagesystems_webhook_token": "é"}):
        with pytest.raises(BadCallback):
            checked.verify(callback(**wrong))
    esp().verify(callback())
