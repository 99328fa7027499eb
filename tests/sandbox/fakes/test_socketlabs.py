"""The documented rules of SocketLabs' Injection API, one test each."""

from typing import Any

import orjson
import pytest

from sandbox.fakes.contract import Answer, Call, Traits
from sandbox.fakes.socketlabs import Fake

ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"
NEW_KEY = "a" * 20 + "." + "b" * 40
HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def message(**more: Any) -> dict[str, Any]:
    sound = {"to": [{"emailAddress": "a@x.test"}], "from": {"emailAddress": "me@brand.test"}, "subject": "Hi", "textBody": "Hi"}
    return {**sound, **more}


def people(count: int, letter: str = "a") -> list[dict[str, str]]:
    return [{"emailAddress": f"{letter}{n}@x.test"} for n in range(count)]


def post(body: Any, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Fake().answer(Call("POST", "/api/v1/email", HEADERS if headers is None else headers, raw, **more))


def send(*messages: Any, **more: Any) -> Answer:
    return post({"serverId": "12345", "apiKey": "legacy", "messages": list(messages)}, **more)


def reply_of(answer: Answer) -> dict[str, Any]:
    reply: dict[str, Any] = orjson.loads(answer.body)
    return reply


def assert_refused(answer: Answer, code: str, status: int = 200) -> None:
    assert (answer.status, reply_of(answer)["ErrorCode"], list(answer.accepted)) == (status, code, [])


def assert_failed(broken: dict[str, Any], code: str, **more: Any) -> None:
    """The message fails inside a 200, by its index, and its neighbour is taken."""
    answer = send(message(), broken, **more)
    reply = reply_of(answer)
    assert (answer.status, reply["ErrorCode"]) == (200, "Warning")
    assert [(result["Index"], result["ErrorCode"]) for result in reply["MessageResults"]] == [(1, code)]
    assert [mail.item for mail in answer.accepted] == [0]


def test_a_sound_message_is_taken_under_its_own_message_id() -> None:
    answer = send(message(messageId=ATTEMPT))
    assert (answer.status, reply_of(answer)) == (200, {"ErrorCode": "Success", "MessageResults": None, "TransactionReceipt": None})
    assert [tuple(mail) for mail in answer.accepted] == [(ATTEMPT, ATTEMPT, "a@x.test", "Hi", 0)]


def test_names_are_read_without_regard_to_case() -> None:
    body = {"ServerId": 12345, "APIKEY": "legacy", "Messages": [{name.upper(): value for name, value in message(messageId="m1").items()}]}
    assert [mail.message_id for mail in post(body).accepted] == ["m1"]


def test_a_new_key_belongs_into_the_header_and_an_old_one_into_the_body() -> None:
    bearer = {**HEADERS, "Authorization": f"Bearer {NEW_KEY}"}
    assert post({"serverId": "1", "messages": [message()]}, headers=bearer).status == 200
    assert_refused(
        post({"serverId": "1", "messages": [message()]}, headers={**HEADERS, "Authorization": "Bearer old"}), "InvalidAuthentication", 401
    )
    assert_refused(post({"serverId": "1", "messages": [message()]}), "InvalidAuthentication", 401)
    assert_refused(post({"serverId": "x", "apiKey": "k", "messages": [message()]}), "InvalidAuthentication", 401)
    assert_refused(post({"apiKey": "k", "messages": [message()]}), "InvalidAuthentication", 401)
    assert_refused(send(message(), traits=Traits(key="another")), "InvalidAuthentication", 401)


def test_a_disabled_account_and_a_used_up_quota_are_codes_of_a_200() -> None:
    assert_refused(send(message(), traits=Traits(has_send_scope=False)), "AccountDisabled")
    assert_refused(send(message(), traits=Traits(has_credits=False)), "OverQuota")


def test_other_paths_methods_and_types_of_content_are_refused() -> None:
    assert Fake().answer(Call("POST", "/api/v2/email", HEADERS, b"{}")).status == 404
    assert Fake().answer(Call("GET", "/api/v1/email", HEADERS, b"")).status == 405
    assert post({}, headers={"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize("body", [b"{", [], "x"])
def test_a_body_that_is_no_object_is_invalid_data(body: Any) -> None:
    assert_refused(post(body), "InvalidData")


def test_nothing_to_send_says_so_which_also_proves_the_key() -> None:
    assert_refused(send(), "NoMessages")


def test_ten_messages_a_request() -> None:
    assert len(send(*[message()] * 10).accepted) == 10
    assert_refused(send(*[message()] * 11), "TooManyMessages")


def test_fifty_recipients_a_message() -> None:
    assert len(send(message(to=people(30), cc=people(10, "c"), bcc=people(10, "b"))).accepted) == 1
    assert_refused(send(message(), message(to=people(30), cc=people(10, "c"), bcc=people(11, "b"))), "TooManyRecipients")


@pytest.mark.parametrize(
    "broken",
    [
        message(messageId="with_underscore"),
        message(messageId="m" * 31),
        message(messageId="m" * 20, mailingId="c" * 11),
        message(metadata=[{"key": "k", "value": "v"}] * 11),
        message(metadata=[{"key": "k" * 50, "value": "v" * 50}]),
        message(metadata=[{"key": "", "value": "v"}]),
        message(metadata=[{"key": "k", "value": 5}]),
        message(metadata={"k": "v"}),
        message(tags=["t"] * 26),
        message(tags=["t" * 12_501]),
        message(tags=[5]),
        message(subject=5),
        message(to="a@x.test"),
        message(to=["a@x.test"]),
        message(cc=[{"emailAddress": 5}]),
        5,
    ],
)
def test_invalid_data_in_one_message_refuses_the_whole_request(broken: Any) -> None:
    assert_refused(send(message(), broken), "InvalidData")


def test_what_is_just_within_the_limits_is_taken() -> None:
    metadata = [{"key": f"k{n}", "value": "v" * 97} for n in range(10)]
    assert len(send(message(messageId=ATTEMPT, mailingId="CAMP", metadata=metadata, tags=["t" * 400] * 25)).accepted) == 1


def test_a_message_without_anything_to_say_is_an_empty_message() -> None:
    assert_refused(send(message(), message(subject="", textBody="")), "EmptyMessage")


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (message(to=[]), "EmptyToAddress"),
        (message(**{"from": {}}) | {"from": {"emailAddress": "me@brand"}}, "InvalidFromAddress"),
        (message(subject=""), "EmptySubject"),
        (message(textBody=""), "NoValidBodyParts"),
        (message(textBody="", ampBody="<amp>"), "NoValidBodyParts"),
        (message(apiTemplate="1"), "MessageBodyConflict"),
        (message(mergeData=[1]), "InvalidMergeData"),
        (message(attachments=[{"name": "a.txt", "content": "not base64!", "contentType": "text/plain"}]), "InvalidAttachment"),
        (message(attachments=[{"name": "a.txt", "content": "", "contentType": "text/plain"}]), "InvalidAttachment"),
        (message(attachments=[{"name": "a.txt", "content": "YQ=="}]), "InvalidAttachment"),
        (message(textBody="x" * 40_000_000), "MessageTooLarge"),
        (message(to=[{"emailAddress": "nonsense"}]), "NoValidRecipients"),
    ],
)
def test_a_message_that_fails_is_listed_by_its_index_and_costs_itself_only(broken: dict[str, Any], code: str) -> None:
    assert_failed(broken, code)


def test_an_unknown_template_and_a_domain_that_may_not_send() -> None:
    assert_failed(message(textBody="", apiTemplate="2"), "InvalidTemplateId", traits=Traits(templates=frozenset({"1"})))
    (result,) = reply_of(send(message(), traits=Traits(sender_domains=frozenset({"other.test"}))))["MessageResults"]
    assert result["ErrorCode"] == "InvalidFromAddress"


def test_of_several_recipients_only_the_bad_ones_are_listed() -> None:
    answer = send(message(to=[{"emailAddress": "bad@@x"}, {"emailAddress": "b@x.test"}]))
    (result,) = reply_of(answer)["MessageResults"]
    assert result == {
        "Index": 0,
        "ErrorCode": "Warning",
        "AddressResults": [{"EmailAddress": "bad@@x", "Accepted": False, "ErrorCode": "InvalidAddress"}],
    }
    assert [mail.recipient for mail in answer.accepted] == ["b@x.test"]


def test_bad_recipients_are_refused_and_suppressed_ones_are_taken() -> None:
    traits = Traits(bad_recipients=frozenset({"bad@x.test"}), inactive=frozenset({"gone@x.test"}))
    answer = send(message(to=[{"emailAddress": "Bad@x.test"}]), message(to=[{"emailAddress": "gone@x.test"}]), traits=traits)
    assert [result["ErrorCode"] for result in reply_of(answer)["MessageResults"]] == ["NoValidRecipients"]
    assert [mail.recipient for mail in answer.accepted] == ["gone@x.test"]


def test_a_partial_failure_spoils_the_first_message() -> None:
    answer = send(message(), message(), is_spoiled=lambda item: item == 0)
    assert [mail.item for mail in answer.accepted] == [1]


def test_error_statuses_have_codes() -> None:
    assert [reply_of(Fake().refuse(status))["ErrorCode"] for status in (401, 429, 500, 503)] == [
        "InvalidAuthentication",
        "OverQuota",
        "InternalError",
        "InternalError",
    ]
    assert reply_of(Fake().refuse(500))["TransactionReceipt"]


def test_a_mail_is_read_back_whole() -> None:
    full = message(
        to=[{"emailAddress": "a@x.test", "friendlyName": "A"}],
        cc=[{"emailAddress": "c@x.test"}],
        replyTo={"emailAddress": "r@brand.test"},
        htmlBody="<p>H</p>",
        customHeaders=[{"name": "X-A", "value": "v"}],
        metadata=[{"key": "order", "value": "7"}],
        attachments=[{"name": "a.txt", "content": "YWI=", "contentType": "text/plain", "contentId": "x"}],
    )
    mail = Fake().mail(orjson.dumps({"messages": [message(), full]}), 1)
    assert (mail.subject, mail.html, mail.text, mail.metadata) == ("Hi", "<p>H</p>", "Hi", {"order": "7"})
    for header in (("To", "A <a@x.test>"), ("Cc", "c@x.test"), ("Reply-To", "r@brand.test"), ("X-A", "v")):
        assert header in mail.headers
    assert [(part.name, part.size_bytes) for part in mail.attachments] == [("a.txt", 2)]


def row(**values: str) -> list[dict[str, str]]:
    return [{"field": name, "value": value} for name, value in values.items()]


def merged(*rows: Any, **more: Any) -> dict[str, Any]:
    """A message for each row, as the SDKs ask for them."""
    to = [{"emailAddress": "%%DeliveryAddress%%", "friendlyName": "%%RecipientName%%"}]
    words = {"subject": "For %%name%%", "textBody": "Hi %%Name%% from %%Brand%%%%Nobody%%", "htmlBody": ""}
    data = {"perMessage": list(rows), "global": row(Brand="Acme")}
    return message(to=to, **words, mergeData=data, **more)


def test_a_merge_is_a_mail_for_each_row() -> None:
    request = [merged(row(DeliveryAddress="a@x.test", RecipientName="Ann", Name="%%Brand%%"), row(DeliveryAddress="b@x.test")), message()]
    answer = send(*request)
    assert reply_of(answer)["ErrorCode"] == "Success"
    assert [(mail.recipient, mail.item) for mail in answer.accepted][:2] == [("a@x.test", 0), ("b@x.test", 1)]
    assert len(answer.accepted) == 3
    body = orjson.dumps({"messages": request})
    first, second = (Fake().mail(body, item) for item in (0, 1))
    assert (first.subject, first.text, dict(first.headers)["To"]) == ("For %%Brand%%", "Hi %%Brand%% from Acme", "Ann <a@x.test>")
    assert (second.subject, second.text, dict(second.headers)["To"]) == ("For ", "Hi  from Acme", "b@x.test")
    assert Fake().mail(body, 2).subject == message()["subject"]


def test_a_bad_row_costs_itself_only() -> None:
    answer = send(merged(row(DeliveryAddress="a@x.test"), row(DeliveryAddress="nonsense"), row(DeliveryAddress="c@x.test")))
    assert [(mail.recipient, mail.item) for mail in answer.accepted] == [("a@x.test", 0), ("c@x.test", 2)]
    (failed,) = reply_of(answer)["MessageResults"]
    assert [one["EmailAddress"] for one in failed["AddressResults"]] == ["nonsense"]


def test_a_merge_has_fifty_rows_with_a_recipient_each() -> None:
    rows = [row(DeliveryAddress=f"u{n}@x.test") for n in range(51)]
    assert len(send(merged(*rows[:50])).accepted) == 50
    assert_refused(send(message(), merged(*rows)), "TooManyRecipients")


@pytest.mark.parametrize(
    "data",
    [
        {"perMessage": [[{"field": "Name", "value": "Ann"}]]},
        {"perMessage": [[{"field": "DeliveryAddress"}]]},
        {"perMessage": [{"DeliveryAddress": "a@x.test"}]},
        {"perMessage": "rows"},
        {"perMessage": [[{"field": "DeliveryAddress", "value": 5}]]},
        {"global": "Acme"},
        [],
        "x",
    ],
)
def test_merge_data_that_is_none_is_invalid(data: Any) -> None:
    broken = message() | {"mergeData": data}
    if data:
        assert_failed(broken, "InvalidMergeData")
    else:
        assert len(send(broken).accepted) == 1


def test_a_merge_of_bad_rows_only_reaches_nobody() -> None:
    answer = send(merged(row(DeliveryAddress="nonsense")))
    assert list(answer.accepted) == []
    assert reply_of(answer)["MessageResults"][0]["ErrorCode"] == "NoValidRecipients"
