"""What is SendGrid's own: how mails share a request and arrive unchanged, and what its refusals mean."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp.sendgrid import Esp
from mail.account import Account
from mail.ids import wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Blame, Reply, Request, Verdict
from tests.esp.messages import any_message, message

NOW_S = 1_800_000_000.0
LARGE = "<p>large</p>" * 1_000
Words = tuple[str, str, str]


def esp(template_id: str = "") -> Esp:
    credentials = {"api_key": "SG.key"} | ({"template_id": template_id} if template_id else {})
    return Esp(Account("sendgrid", 0, "https://api.sendgrid.com", credentials), now=lambda: NOW_S)


def body_of(request: Request) -> Any:
    return json.loads(request.body)


def only(requests: list[Request]) -> Any:
    (request,) = requests
    return body_of(request)


def arriving(body: Any) -> list[Words]:
    """Subject, text and HTML of each mail, as SendGrid would put them together."""
    return [_words_of(body, personalization) for personalization in body["personalizations"]]


def _words_of(body: Any, personalization: Any) -> Words:
    if "template_id" in body:
        data = personalization["dynamic_template_data"]
        return data["subject"], data["text"], data["html"]
    parts = {part["type"]: part["value"] for part in body["content"]}
    words = (body["subject"], parts.get("text/plain", ""), parts.get("text/html", ""))
    substitutions = personalization.get("substitutions", {})
    assert sum(len(k.encode()) + len(v.encode()) for k, v in substitutions.items()) <= 10_000
    results = {tuple(_substituted(part, order) for part in words) for order in itertools.permutations(substitutions.items())}
    assert len(results) == 1, "the order of the substitutions matters"
    return results.pop()  # type: ignore[return-value]


def _substituted(part: str, substitutions: tuple[tuple[str, str], ...]) -> str:
    for tag, value in substitutions:
        part = part.replace(tag, value)
    return part


def test_a_batch_of_different_mails_is_one_request() -> None:
    messages = [message(subject=f"Order {n}", to=(Address(f"u{n}@a.test"),)) for n in range(1000)]
    (request,) = esp().prepare(messages)
    assert request.messages == tuple(messages)
    body = body_of(request)
    assert len(body["personalizations"]) == 1000
    assert arriving(body)[7] == ("Order 7", "Thanks", "<p>Thanks</p>")
    assert body["personalizations"][7]["to"] == [{"email": "u7@a.test"}]


@pytest.mark.parametrize("template_id", ["", "d-1"])
@given(messages=st.lists(any_message(), max_size=10))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_mail_arrives_with_its_own_words(template_id: str, messages: list[Message]) -> None:
    for request in esp(template_id).prepare(messages):
        assert arriving(body_of(request)) == [(m.subject, m.text, m.html) for m in request.messages]


def test_a_mail_that_quotes_another_mails_tags_arrives_unchanged() -> None:
    spied = only(esp().prepare([message(), message()]))
    tags = " ".join(spied["personalizations"][0]["substitutions"])
    quoting = [message(subject=tags, text=tags, html=f"<p>{tags} -name- {{{{x}}}} %a%</p>") for _ in range(3)]
    body = only(esp().prepare([*quoting, message()]))
    assert arriving(body)[0] == (tags, tags, f"<p>{tags} -name- {{{{x}}}} %a%</p>")
    assert not set(body["personalizations"][0]["substitutions"]) & set(tags.split())


def test_tags_are_made_anew_for_each_request_and_hold_nothing_that_html_would_change() -> None:
    one, two = esp().prepare([message() for _ in range(1500)])
    tags = [set(body_of(r)["personalizations"][0]["substitutions"]) for r in (one, two)]
    assert not tags[0] & tags[1]
    assert all(set(tag) <= set("-0123456789abcdefsth") and len(tag) >= 16 for tag in tags[0] | tags[1])


def test_a_mail_alone_has_its_content_direct() -> None:
    body = only(esp().prepare([message()]))
    assert body["subject"] == "Your order"
    assert body["content"] == [{"type": "text/plain", "value": "Thanks"}, {"type": "text/html", "value": "<p>Thanks</p>"}]
    assert "substitutions" not in body["personalizations"][0]


def test_the_one_that_is_left_over_of_a_batch_has_its_content_direct() -> None:
    *_, last = esp().prepare([message() for _ in range(1001)])
    assert body_of(last)["subject"] == "Your order"


def test_an_empty_part_is_left_out() -> None:
    assert [p["type"] for p in only(esp().prepare([message(text="")] * 2))["content"]] == ["text/html"]
    assert [p["type"] for p in only(esp().prepare([message(html="")]))["content"]] == ["text/plain"]


def test_large_mails_go_alone_without_a_template_and_together_with_one() -> None:
    large = [message(html=f"{LARGE}{n}") for n in range(3)]
    assert len(esp().prepare(large)) == 3
    body = only(esp("d-1").prepare(large))
    assert body["template_id"] == "d-1"
    assert "content" not in body
    assert "subject" not in body
    assert body["personalizations"][2]["dynamic_template_data"] == {"subject": "Your order", "text": "Thanks", "html": f"{LARGE}2"}


@pytest.mark.parametrize(("more", "requests"), [(0, 1), (1, 2)])
def test_a_mail_is_substituted_as_long_as_10000_bytes_hold_it_with_its_tags(more: int, requests: int) -> None:
    tags = sum(len(tag) for tag in only(esp().prepare([message()] * 2))["personalizations"][0]["substitutions"])
    room = 10_000 - tags - len("Your order") - len("Thanks") - len("é".encode())
    assert len(esp().prepare([message(html="é" + "x" * (room + more - 1) + end) for end in "ab"])) == requests


def test_large_mails_of_the_very_same_words_share_a_request() -> None:
    body = only(esp().prepare([message(html=LARGE, to=(Address(f"u{n}@a.test"),)) for n in range(3)]))
    assert body["content"][1]["value"] == LARGE
    assert len(body["personalizations"]) == 3


def test_a_large_mail_with_one_part_does_not_go_through_a_template_that_has_two() -> None:
    assert all(
        "template_id" not in body_of(r) for r in esp("d-1").prepare([message(html=LARGE + "1", text=""), message(html=LARGE, text="")])
    )


def test_what_holds_for_a_whole_request_keeps_mails_apart() -> None:
    base = message()
    others: list[dict[str, Any]] = [
        {"sender": Address("other@brand.test")},
        {"reply_to": Address("r@brand.test")},
        {"tags": ("news",)},
        {"attachments": (Attachment("a.pdf", "application/pdf", "YQ=="),)},
        {"text": ""},
        {"html": ""},
        {"headers": (("list-unsubscribe", "<https://u.test>"),)},
    ]
    assert len(esp().prepare([base, *(message(**changes) for changes in others), message()])) == len(others) + 1


def test_a_request_holds_at_most_1000_recipients() -> None:
    three = (Address("a@a.test"), Address("b@a.test"), Address("c@a.test"))
    sizes = [len(r.messages) for r in esp().prepare([message(to=three) for _ in range(400)])]
    assert sizes == [333, 67]


def test_a_request_holds_at_most_30_megabytes() -> None:
    attachments = (Attachment("a.pdf", "application/pdf", "A" * 25_000_000),)
    quotes = '"' * 9_000  # each becomes two bytes of JSON, so the first cut is not enough
    for html in ("é" * 4_500, quotes):
        sizes = [(len(r.messages), len(r.body)) for r in esp().prepare([message(html=html, attachments=attachments) for _ in range(600)])]
        assert sum(count for count, _ in sizes) == 600
        assert 2 <= len(sizes) <= 4
        assert all(size <= 30_000_000 for _, size in sizes)


def test_everything_a_message_has_is_expressed() -> None:
    full = message(
        cc=(Address("c@a.test"),),
        bcc=(Address("b@a.test"),),
        reply_to=Address("r@brand.test", "R"),
        headers=(("X-A", "1"), ("List-Unsubscribe", "<https://u.test/1>")),
        attachments=(Attachment("a.png", "image/png", "YQ==", "inline", "logo"),),
        tags=("news", "news", "x" * 256, "Grüße", *(f"t{n}" for n in range(12))),
        metadata=(("order", "7"), ("attempt_id", "forged")),
    )
    assert only(esp().prepare([full])) == {
        "personalizations": [
            {
                "to": [{"email": "ann@a.test", "name": "Ann"}],
                "cc": [{"email": "c@a.test"}],
                "bcc": [{"email": "b@a.test"}],
                "custom_args": {"attempt_id": wire_id(full.attempt_id), "order": "7"},
                "headers": {"X-A": "1", "List-Unsubscribe": "<https://u.test/1>"},
            }
        ],
        "from": {"email": "shop@brand.test", "name": "The Shop"},
        "reply_to": {"email": "r@brand.test", "name": "R"},
        "categories": ["news", *(f"t{n}" for n in range(9))],
        "attachments": [{"content": "YQ==", "type": "image/png", "filename": "a.png", "disposition": "inline", "content_id": "logo"}],
        "tracking_settings": {"subscription_tracking": {"enable": False}},
        "subject": "Your order",
        "content": [{"type": "text/plain", "value": "Thanks"}, {"type": "text/html", "value": "<p>Thanks</p>"}],
    }


def test_an_address_stands_once_in_a_personalization() -> None:
    twice = message(
        to=(Address("a@a.test"), Address("z@a.test"), Address("A@a.test", "again")),
        cc=(Address("a@A.test"), Address("c@a.test")),
        bcc=(Address("c@a.test"),),
    )
    (personalization,) = only(esp().prepare([twice]))["personalizations"]
    assert personalization["to"] == [{"email": "a@a.test"}, {"email": "z@a.test"}]
    assert personalization["cc"] == [{"email": "c@a.test"}]
    assert "bcc" not in personalization


def test_metadata_goes_as_far_as_10000_bytes_reach_and_ours_always() -> None:
    heavy = message(metadata=(("a", "x" * 6_000), ("b", "y" * 6_000), ("c", "z")))
    (personalization,) = only(esp().prepare([heavy]))["personalizations"]
    assert set(personalization["custom_args"]) == {"attempt_id", "a", "c"}
    assert len(json.dumps(personalization["custom_args"])) <= 10_000


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("Ann", "Ann"),
        ("Käthe Müller", "Käthe Müller"),
        ("Smith, John", '"Smith, John"'),
        ("Howdy :(", '"Howdy :("'),
        ('Ann "A\\B"', '"Ann \\"A\\\\B\\""'),
        ("ann@a.test", '"ann@a.test"'),
    ],
)
def test_a_recipients_name_that_would_be_read_as_addresses_is_quoted(name: str, spelled: str) -> None:
    one = message(sender=Address("shop@brand.test", name), to=(Address("ann@a.test", name),), cc=(Address("c@a.test", name),))
    body = only(esp().prepare([one]))
    assert [body["personalizations"][0][field][0]["name"] for field in ("to", "cc")] == [spelled, spelled]
    assert body["from"]["name"] == name  # quoted by SendGrid itself


def test_metadata_named_like_a_field_of_an_event_stays_behind_since_events_have_both_in_one_place() -> None:
    (personalization,) = only(esp().prepare([message(metadata=(("status", "5.1.1"), ("Order", "7"), ("reason", "vip")))]))[
        "personalizations"
    ]
    assert set(personalization["custom_args"]) == {"attempt_id", "Order"}


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": (("Reply-To", "x@a.test"),)},
        {"headers": (("DKIM-Signature", "x"),)},
        {"headers": (("X-A", "1"), ("x-a", "2"))},
        {"subject": ""},
        {"to": tuple(Address(f"u{n}@a.test") for n in range(1001))},
        {"html": "x" * 20_000_001},
        {"attachments": (Attachment("a.ics", "text/calendar; method=REQUEST", "YQ=="),)},
    ],
)
def test_what_sendgrid_cannot_express_has_a_reason(changes: dict[str, Any]) -> None:
    assert esp().unsupported(message(**changes))
    assert esp().unsupported(message()) is None


def refuse(count: int, status: int, *errors: dict[str, Any], **changes: Any) -> list[tuple[Verdict, Blame | None]]:
    (request,) = esp().prepare([message(**changes) for _ in range(count)])
    outcomes = esp().interpret(request, Reply(status, {}, json.dumps({"errors": errors}).encode()))
    return [(o.verdict, o.blame) for o in outcomes]


SPLIT = (Verdict.SPLIT, Blame.NEIGHBOUR)
INVALID = {"message": "Does not contain a valid address."}


def test_two_named_culprits_cost_only_themselves() -> None:
    verdicts = refuse(
        5, 400, INVALID | {"field": "personalizations.4.to.0.email"}, {"message": "bad", "field": "personalizations[1].headers"}
    )
    assert verdicts == [SPLIT, (Verdict.REJECTED, Blame.MESSAGE), SPLIT, SPLIT, (Verdict.REJECTED, Blame.RECIPIENT)]


@pytest.mark.parametrize("field", [None, 7, "content.0.value", "personalizations", "personalizations.9.to", "personalizations.99999.to"])
def test_a_refusal_that_names_no_mail_of_the_request_splits_it(field: Any) -> None:
    assert refuse(3, 400, INVALID | {"field": field}) == [SPLIT] * 3


def test_a_bad_copy_is_not_blamed_on_the_recipient() -> None:
    to = (Address("a@a.test"), Address("b@a.test"))
    assert refuse(1, 400, INVALID | {"field": "personalizations.0.to.1.email"}, to=to) == [(Verdict.REJECTED, Blame.MESSAGE)]
    assert refuse(1, 400, INVALID | {"field": "personalizations.0.to"}, to=to) == [(Verdict.REJECTED, Blame.MESSAGE)]
    assert refuse(1, 400, INVALID | {"field": "personalizations.0.cc.0.email"}) == [(Verdict.REJECTED, Blame.MESSAGE)]
    assert refuse(1, 400, INVALID | {"field": "personalizations.0.to.0.email"}, to=to) == [(Verdict.REJECTED, Blame.RECIPIENT)]


def test_the_request_carries_key_and_content_type() -> None:
    (request,) = esp().prepare([message()])
    assert (request.method, request.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert request.headers == {"Authorization": "Bearer SG.key", "Accept": "application/json", "Content-Type": "application/json"}
    assert (esp().health().method, esp().health().url) == ("GET", "https://api.sendgrid.com/v3/scopes")
