"""What is Postmark's own: its batches, and one answer per mail."""

import json
from typing import Any

import pytest

from esp.postmark import Esp
from mail.account import Account
from mail.ids import wire_id
from mail.message import Address, Attachment
from mail.outcome import Blame, Outcome, Reply, Verdict
from tests.esp.messages import message

OK = {"To": "ann@a.test", "SubmittedAt": "2026-11-21T10:00:00Z", "MessageID": "m-1", "ErrorCode": 0, "Message": "OK"}


def esp() -> Esp:
    return Esp(Account("postmark", 0, "https://api.postmarkapp.com", {"server_token": "t"}), now=lambda: 1_800_000_000.0)


def answered(status: int, body: Any, count: int = 1, headers: dict[str, str] | None = None, **changes: Any) -> list[Outcome]:
    (request,) = esp().prepare([message(**changes) for _ in range(count)])
    return esp().interpret(request, Reply(status, headers or {}, json.dumps(body).encode()))


def item(code: int, words: str = "", **changes: Any) -> Outcome:
    return answered(200, [{"ErrorCode": code, "Message": words}], **changes)[0]


def test_a_batch_holds_500_mails_in_order() -> None:
    messages = [message(subject=f"Order {n}") for n in range(1001)]
    requests = esp().prepare(messages)
    assert [len(r.messages) for r in requests] == [500, 500, 1]
    assert [m["Subject"] for r in requests for m in json.loads(r.body)] == [m.subject for m in messages]


def test_a_batch_holds_50_megabytes() -> None:
    attachments = (Attachment("a.pdf", "application/pdf", "A" * 9_000_000),)
    requests = esp().prepare([message(attachments=attachments) for _ in range(7)])
    sizes = [(len(r.messages), len(r.body)) for r in requests]
    assert [count for count, _ in sizes] == [5, 2]
    assert all(size <= 50_000_000 for _, size in sizes)


def test_everything_a_message_has_is_expressed() -> None:
    full = message(
        to=(Address("ann@a.test", 'Ann "A" \\ B, C'), Address("al@a.test")),
        cc=(Address("c@a.test"),),
        bcc=(Address("b@a.test"),),
        reply_to=Address("r@brand.test", "R"),
        headers=(("X-A", "1"), ("X-A", "2")),
        attachments=(Attachment("a.png", "image/png", "YQ==", "inline", "logo"), Attachment("b.pdf", "application/pdf", "Yg==")),
        tags=("x" * 1001, "news", "more"),
        metadata=(("order", "7"),),
    )
    (request,) = esp().prepare([full])
    assert json.loads(request.body) == [
        {
            "From": '"The Shop" <shop@brand.test>',
            "To": '"Ann \\"A\\" \\\\ B, C" <ann@a.test>, al@a.test',
            "Cc": "c@a.test",
            "Bcc": "b@a.test",
            "ReplyTo": '"R" <r@brand.test>',
            "Subject": "Your order",
            "HtmlBody": "<p>Thanks</p>",
            "TextBody": "Thanks",
            "Tag": "news",
            "Metadata": {"attempt_id": wire_id(full.attempt_id), "order": "7"},
            "Headers": [{"Name": "X-A", "Value": "1"}, {"Name": "X-A", "Value": "2"}],
            "Attachments": [
                {"Name": "a.png", "Content": "YQ==", "ContentType": "image/png", "ContentID": "cid:logo"},
                {"Name": "b.pdf", "Content": "Yg==", "ContentType": "application/pdf"},
            ],
        }
    ]


def test_mails_go_through_the_accounts_stream_where_it_names_one() -> None:
    named = Esp(Account("postmark", 0, "https://x.test", {"server_token": "t", "message_stream": "news"}))
    assert [mail["MessageStream"] for mail in json.loads(named.prepare([message(), message()])[0].body)] == ["news", "news"]
    assert "MessageStream" not in json.loads(esp().prepare([message()])[0].body)[0]


def test_metadata_goes_as_far_as_postmark_takes_it_and_ours_always() -> None:
    metadata = (("Attempt_ID", "forged"), ("k" * 21, "v"), ("long", "v" * 81), ("a", "1"), ("A", "2"), *((f"f{n}", "v") for n in range(12)))
    (request,) = esp().prepare([message(metadata=metadata)])
    fields = json.loads(request.body)[0]["Metadata"]
    assert list(fields) == ["attempt_id", "a", *(f"f{n}" for n in range(8))]
    assert fields["a"] == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"to": tuple(Address(f"u{n}@a.test") for n in range(51))},
        {"html": "x" * 5_000_001},
        {"text": "é" * 2_500_001},
        {"attachments": (Attachment("a", "b/c", "A" * 10_000_000),)},
    ],
)
def test_what_postmark_cannot_express_has_a_reason(changes: dict[str, Any]) -> None:
    assert esp().unsupported(message(**changes))
    assert esp().unsupported(message()) is None


def test_the_recipient_is_blamed_only_for_its_own_address() -> None:
    assert item(300, "Invalid 'To' address: 'x'").blame is Blame.RECIPIENT
    assert item(300, "Error parsing 'To': x").blame is Blame.RECIPIENT
    assert item(300, "Invalid 'From' address: 'x'").blame is Blame.MESSAGE
    assert item(300, "Error parsing 'Cc': x").blame is Blame.MESSAGE
    copies = (Address("bob@b.test"),)
    assert item(406, "Found inactive addresses: bob@b.test.", cc=copies).blame is Blame.MESSAGE
    assert item(406, "Found inactive addresses: bob@b.test, Ann@a.test.", cc=copies).blame is Blame.RECIPIENT


def test_a_success_carries_the_message_id() -> None:
    first, second = answered(200, [OK, OK | {"MessageID": "m-2"}], count=2)
    assert (first.verdict, first.message_id, first.detail, second.message_id) == (Verdict.ACCEPTED, "m-1", "", "m-2")


def test_a_success_that_leaves_out_some_recipients_says_so_without_addresses() -> None:
    words = "Message OK, but will not deliver to these inactive addresses: bob@b.test, eve@b.test."
    (outcome,) = answered(200, [OK | {"Message": words}])
    assert (outcome.verdict, outcome.message_id) == (Verdict.ACCEPTED, "m-1")
    assert outcome.detail == "Message OK, but will not deliver to these inactive addresses: [address], [address]"


@pytest.mark.parametrize(("left_out", "verdict"), [("Ann@A.test", Verdict.REJECTED), ("bob@b.test", Verdict.ACCEPTED)])
def test_a_mail_whose_copy_alone_went_out_did_not_reach_its_recipient(left_out: str, verdict: Verdict) -> None:
    one = message(cc=(Address("bob@b.test"),))
    (request,) = esp().prepare([one])
    words = f"Message OK, but will not deliver to these inactive addresses: {left_out.lower()}. Inactive recipients are ones that bounced."
    (outcome,) = esp().interpret(request, Reply(200, {}, json.dumps([OK | {"Message": words}]).encode()))
    assert outcome.verdict is verdict
    assert outcome.blame is (Blame.RECIPIENT if verdict is Verdict.REJECTED else None)


@pytest.mark.parametrize("body", [[OK], [OK, OK, OK], [], {}, None, "OK", OK])
def test_an_answer_of_another_length_says_nothing_about_anybody(body: Any) -> None:
    assert {o.verdict for o in answered(200, body, count=2)} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    "odd", [None, 7, [], {}, {"ErrorCode": 0}, {"ErrorCode": "0", "MessageID": "m"}, {"ErrorCode": True, "MessageID": "m"}]
)
def test_an_unreadable_item_is_unknown_and_costs_its_neighbours_nothing(odd: Any) -> None:
    first, second = answered(200, [odd, OK], count=2)
    assert (first.verdict, second.verdict) == (Verdict.UNKNOWN, Verdict.ACCEPTED)


def test_the_request_carries_token_and_content_type() -> None:
    (request,) = esp().prepare([message()])
    assert (request.method, request.url) == ("POST", "https://api.postmarkapp.com/email/batch")
    assert request.headers == {"X-Postmark-Server-Token": "t", "Accept": "application/json", "Content-Type": "application/json"}
    assert (esp().health().method, esp().health().url) == ("GET", "https://api.postmarkapp.com/server")
