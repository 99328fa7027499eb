"""What is SocketLabs' own: ten whole mails a request, lists of failures inside a 200, the secret in the body of a callback."""

import json
from typing import Any

import pytest

from esp.socketlabs import Esp
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.ids import wire_id
from mail.message import Address, Attachment
from mail.outcome import Blame, Outcome, Reply, Verdict
from tests.esp.messages import message

NEW_KEY = "a" * 20 + "." + "b" * 40
COPY = (Address("bob@b.test"),)


def esp(**credentials: str) -> Esp:
    given = {"server_id": "12345", "api_key": NEW_KEY} | credentials
    return Esp(Account("socketlabs", 0, "https://inject.socketlabs.com", given), now=lambda: 1_800_000_000.0)


def answered(body: Any, count: int = 1, status: int = 200, headers: dict[str, str] | None = None, **changes: Any) -> list[Outcome]:
    (request,) = esp().prepare([message(**changes) for _ in range(count)])
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return esp().interpret(request, Reply(status, headers or {}, raw))


def listed(*results: Any, code: str = "Warning") -> dict[str, Any]:
    return {"ErrorCode": code, "MessageResults": list(results), "TransactionReceipt": None}


def failed(index: int, code: str, *addresses: str) -> dict[str, Any]:
    results = [{"EmailAddress": address, "Accepted": False, "ErrorCode": "InvalidAddress"} for address in addresses]
    return {"Index": index, "ErrorCode": code, "AddressResults": results}


def said(outcomes: list[Outcome]) -> list[tuple[Verdict, Blame | None]]:
    return [(outcome.verdict, outcome.blame) for outcome in outcomes]


ACCEPTED = (Verdict.ACCEPTED, None)
UNKNOWN = (Verdict.UNKNOWN, Blame.ESP)
REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
BAD_RECIPIENT = (Verdict.REJECTED, Blame.RECIPIENT)
MISCONFIGURED = (Verdict.MISCONFIGURED, Blame.US)
SPLIT = (Verdict.SPLIT, Blame.NEIGHBOUR)


def test_ten_mails_a_request_whoever_sends_them() -> None:
    messages = [message(subject=f"Order {n}", sender=Address(f"s{n}@brand.test")) for n in range(23)]
    requests = esp().prepare(messages)
    assert [len(r.messages) for r in requests] == [10, 10, 3]
    assert [m["subject"] for r in requests for m in json.loads(r.body)["messages"]] == [m.subject for m in messages]


def test_everything_a_message_has_is_expressed() -> None:
    full = message(
        cc=(Address("c@a.test", "C"),),
        bcc=(Address("b@a.test"),),
        reply_to=Address("r@brand.test", "R"),
        headers=(("X-A", "1"), ("X-A", "2"), ("List-Unsubscribe", "<https://u.test/1>")),
        attachments=(Attachment("a.png", "image/png", "YQ==", "inline", "logo"), Attachment("b.pdf", "application/pdf", "Yg==")),
        tags=("news", "", "news", "more"),
        metadata=(("order", "7"), ("attempt_id", "forged")),
    )
    (request,) = esp().prepare([full])
    assert json.loads(request.body) == {
        "serverId": "12345",
        "apiKey": "",
        "messages": [
            {
                "messageId": wire_id(full.attempt_id),
                "from": {"emailAddress": "shop@brand.test", "friendlyName": "The Shop"},
                "to": [{"emailAddress": "ann@a.test", "friendlyName": "Ann"}],
                "cc": [{"emailAddress": "c@a.test", "friendlyName": "C"}],
                "bcc": [{"emailAddress": "b@a.test"}],
                "replyTo": {"emailAddress": "r@brand.test", "friendlyName": "R"},
                "subject": "Your order",
                "charSet": "UTF-8",
                "htmlBody": "<p>Thanks</p>",
                "textBody": "Thanks",
                "customHeaders": [
                    {"name": "X-A", "value": "1"},
                    {"name": "X-A", "value": "2"},
                    {"name": "List-Unsubscribe", "value": "<https://u.test/1>"},
                ],
                "attachments": [
                    {"name": "a.png", "content": "YQ==", "contentType": "image/png", "contentId": "logo"},
                    {"name": "b.pdf", "content": "Yg==", "contentType": "application/pdf"},
                ],
                "metadata": [{"key": "order", "value": "7"}],
                "tags": ["news", "more"],
            }
        ],
    }


def test_labels_go_as_far_as_socketlabs_takes_them() -> None:
    metadata = (("k" * 50, "v" * 50), ("", "v"), *((f"f{n}", "v" * 90) for n in range(12)))
    (request,) = esp().prepare([message(metadata=metadata, tags=tuple(f"{n}" + "t" * 490 for n in range(40)))])
    (fields,) = json.loads(request.body)["messages"]
    assert [pair["key"] for pair in fields["metadata"]] == [f"f{n}" for n in range(10)]
    assert 20 < len(fields["tags"]) <= 25
    assert len(json.dumps([fields["metadata"], fields["tags"]]).encode()) <= 12_700


def test_a_new_key_travels_as_bearer_and_an_old_one_in_the_body() -> None:
    (new,), (old,) = esp().prepare([message()]), esp(api_key="legacy").prepare([message()])
    assert (new.headers["Authorization"], json.loads(new.body)["apiKey"]) == (f"Bearer {NEW_KEY}", "")
    assert ("Authorization" in old.headers, json.loads(old.body)["apiKey"]) == (False, "legacy")
    assert (new.method, new.url) == ("POST", "https://inject.socketlabs.com/api/v1/email")


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"to": tuple(Address(f"u{n}@a.test") for n in range(51))},
        {"headers": (("Reply-To", "x"),)},
        {"attachments": (Attachment("a", "b/c", "A" * 20_000_000),)},
    ],
)
def test_what_socketlabs_cannot_express_has_a_reason(changes: dict[str, Any]) -> None:
    assert esp().unsupported(message(**changes))
    assert esp().unsupported(message()) is None


def test_a_success_bears_our_own_message_id() -> None:
    (request,) = esp().prepare([message(), message()])
    outcomes = esp().interpret(request, Reply(200, {}, b'{"ErrorCode":"Success","MessageResults":null}'))
    assert [o.message_id for o in outcomes] == [wire_id(m.attempt_id) for m in request.messages]
    assert said(outcomes) == [ACCEPTED, ACCEPTED]


def test_the_recipient_is_blamed_only_for_its_own_address() -> None:
    assert said(answered(listed(failed(0, "Warning", "ann@a.test")))) == [BAD_RECIPIENT]
    assert said(answered(listed(failed(0, "Warning", "as they spelled it")))) == [BAD_RECIPIENT]
    assert said(answered(listed(failed(0, "Warning", "Ann@a.test")), cc=COPY)) == [BAD_RECIPIENT]
    assert said(answered(listed(failed(0, "Warning", "bob@b.test")), cc=COPY)) == [ACCEPTED]
    assert said(answered(listed(failed(0, "Warning", "who@c.test")), cc=COPY)) == [UNKNOWN]
    assert said(answered(listed(failed(0, "NoValidRecipients")), cc=COPY)) == [REJECTED]


def test_a_copy_that_was_refused_stays_in_the_detail_without_its_address() -> None:
    (outcome,) = answered(listed(failed(0, "Warning", "bob@b.test")), cc=COPY)
    assert (outcome.detail, bool(outcome.message_id)) == ("Warning InvalidAddress", True)


@pytest.mark.parametrize("odd", [None, 7, {}, {"Index": "1"}, {"Index": 9}, {"Index": -1}, {"Index": True}, failed(0, "EmptySubject")])
def test_where_a_failure_cannot_be_placed_nobody_unnamed_counts_as_accepted(odd: Any) -> None:
    assert said(answered(listed(failed(0, "EmptySubject"), odd), count=2)) == [REJECTED, UNKNOWN]


@pytest.mark.parametrize("results", [None, [], {}, "x", 7])
def test_a_warning_without_a_list_says_nothing_about_anybody(results: Any) -> None:
    assert said(answered({"ErrorCode": "Warning", "MessageResults": results}, count=2)) == [UNKNOWN] * 2


def test_a_success_that_lists_failures_is_read_like_a_warning() -> None:
    assert said(answered(listed(failed(0, "EmptySubject"), code="Success"), count=2)) == [REJECTED, ACCEPTED]
    assert said(answered({"ErrorCode": "Success", "MessageResults": "x"})) == [UNKNOWN]


def test_a_refusal_that_names_its_culprit_splits_only_the_others() -> None:
    assert said(answered(listed(failed(1, "InvalidAttachment"), code="InvalidData"), count=3)) == [SPLIT, REJECTED, SPLIT]
    assert said(answered(listed(failed(1, "Warning", "x@b.test"), code="InvalidData"), count=2, cc=COPY)) == [SPLIT, SPLIT]


def test_names_are_read_without_regard_to_case() -> None:
    body = {"errorCode": "Warning", "messageResults": [{"index": 0, "errorCode": "EmptySubject"}]}
    assert said(answered(body, count=2)) == [REJECTED, ACCEPTED]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_no_code_makes_a_no_out_of_a_server_error(status: int) -> None:
    for code in ("InvalidData", "OverQuota", "InternalError", "Success"):
        assert said(answered({"ErrorCode": code}, status=status)) == [UNKNOWN]


def test_a_truncated_body_is_unknown() -> None:
    assert said(answered(b'{"ErrorCode":"Success","MessageRes', count=2)) == [UNKNOWN] * 2


def test_health_injects_nothing() -> None:
    health = esp().health()
    assert (health.method, json.loads(health.body)["messages"]) == ("POST", [])


def callback(document: Any) -> Callback:
    return Callback({}, None, document)


def test_the_secret_of_every_event_is_checked_where_one_is_set() -> None:
    checked = esp(webhook_secret="s3cret")
    checked.verify(callback({"Type": "Validation", "SecretKey": "s3cret"}))
    checked.verify(callback([{"SecretKey": "s3cret"}, {"secretKey": "s3cret"}]))
    for wrong in (
        {"SecretKey": "other"},
        {},
        {"SecretKey": None},
        {"SecretKey": ["s3cret"]},
        [{"SecretKey": "s3cret"}, {}],
        "s3cret",
        None,
    ):
        with pytest.raises(BadCallback):
            checked.verify(callback(wrong))
    esp().verify(callback({}))


@pytest.mark.parametrize("document", [[], [None], [7, "x"], [[]]])
def test_a_body_in_which_nobody_can_bring_the_secret_is_refused(document: Any) -> None:
    with pytest.raises(BadCallback):
        esp(webhook_secret="s").verify(Callback({}, None, document))


def test_the_secret_is_not_kept_with_the_event() -> None:
    (event,) = esp().parse_events({"Type": "Delivered", "SecretKey": "s3cret", "Address": "ann@a.test"})
    assert "s3cret" not in json.dumps(event.raw)
    assert event.raw["Address"] == "ann@a.test"


def test_two_events_of_one_moment_have_ids_of_their_own() -> None:
    click = {"Type": "Tracking", "TrackingType": 0, "MessageId": "m", "Address": "ann@a.test", "DateTime": "2026-11-21T10:00:00Z"}
    events = esp().parse_events([{**click, "Url": "https://b.test/1"}, {**click, "Url": "https://b.test/2"}])
    assert len({event.event_id for event in events}) == 2
