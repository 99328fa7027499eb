"""The documented limits of Postmark's /email and /email/batch, one test each."""

import re
from dataclasses import replace
from typing import Any

import orjson
import pytest

from sandbox.fakes.contract import Answer, Call, Traits
from sandbox.fakes.postmark import Fake

NOW = 1_800_000_000.25
HEADERS = {"X-Postmark-Server-Token": "token", "Content-Type": "application/json", "Accept": "application/json"}
ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def message(**more: Any) -> dict[str, Any]:
    return {"From": "me@brand.test", "To": "a@x.test", "Subject": "Hi", "TextBody": "Hi", **more}


def post(path: str, body: Any, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Fake(clock=lambda: NOW).answer(Call("POST", path, HEADERS if headers is None else headers, raw, **more))


def send(body: Any, **more: Any) -> Answer:
    return post("/email", body, **more)


def send_batch(*bodies: Any, **more: Any) -> Answer:
    return post("/email/batch", list(bodies), **more)


def reply_of(answer: Answer) -> dict[str, Any]:
    reply: dict[str, Any] = orjson.loads(answer.body)
    return reply


def results_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200
    results: list[dict[str, Any]] = orjson.loads(answer.body)
    return results


def assert_refused(body: Any, code: int, part: str = "") -> None:
    """Alone it is a 422, in a batch an item of a 200; the code and the text are the same, and nothing is taken."""
    single = send(body)
    assert single.status == 422
    assert single.accepted == []
    assert reply_of(single)["ErrorCode"] == code
    assert part in reply_of(single)["Message"]
    batch = send_batch(message(), body)
    assert len(batch.accepted) == 1
    assert results_of(batch)[1] == reply_of(single)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in HEADERS.items() if key != name}


def test_a_sound_message_has_a_message_id_of_its_own() -> None:
    answer = send(message(Metadata={"attempt_id": ATTEMPT}))
    reply = reply_of(answer)
    assert answer.status == 200
    assert (reply["ErrorCode"], reply["Message"], reply["To"]) == (0, "OK", "a@x.test")
    assert UUID.fullmatch(reply["MessageID"])
    assert reply["SubmittedAt"] == "2027-01-15T08:00:00.2500000Z"
    assert [tuple(mail) for mail in answer.accepted] == [(ATTEMPT, reply["MessageID"], "a@x.test", "Hi", 0)]


def test_a_batch_answers_item_by_item_in_order_inside_a_200() -> None:
    answer = send_batch(message(To="a@x.test"), message(To="nonsense"), message(To="c@x.test"))
    results = results_of(answer)
    assert [result["ErrorCode"] for result in results] == [0, 300, 0]
    assert "MessageID" not in results[1]
    assert "To" not in results[1]
    assert [(mail.recipient, mail.item) for mail in answer.accepted] == [("a@x.test", 0), ("c@x.test", 2)]
    assert [mail.message_id for mail in answer.accepted] == [results[0]["MessageID"], results[2]["MessageID"]]


def test_a_missing_or_wrong_token_is_401_with_code_10() -> None:
    for answer in (send(message(), headers=without("X-Postmark-Server-Token")), send(message(), traits=Traits(key="other"))):
        assert (answer.status, reply_of(answer)["ErrorCode"]) == (401, 10)


@pytest.mark.parametrize(
    "headers", [without("Accept"), without("Content-Type"), HEADERS | {"Accept": "*/*"}, HEADERS | {"Content-Type": "text/json"}]
)
def test_missing_json_headers_are_415_with_code_409(headers: dict[str, str]) -> None:
    answer = send(message(), headers=headers)
    assert (answer.status, reply_of(answer)["ErrorCode"]) == (415, 409)


def test_a_charset_beside_the_content_type_is_fine() -> None:
    assert send(message(), headers=HEADERS | {"Content-Type": "application/json; charset=utf-8"}).status == 200


def test_other_paths_are_404_and_other_methods_405() -> None:
    assert post("/emails", message()).status == 404
    assert Fake().answer(Call("GET", "/email", HEADERS, b"")).status == 405


@pytest.mark.parametrize(("path", "body"), [("/email", b"{"), ("/email", [message()]), ("/email/batch", b"["), ("/email/batch", message())])
def test_broken_json_or_the_wrong_shape_is_422_with_code_402(path: str, body: Any) -> None:
    answer = post(path, body)
    assert (answer.status, reply_of(answer)["ErrorCode"]) == (422, 402)


def test_a_batch_is_500_messages_at_most() -> None:
    assert len(results_of(send_batch(*[message()] * 500))) == 500
    answer = send_batch(*[message()] * 501)
    assert (answer.status, reply_of(answer)["ErrorCode"], answer.accepted) == (422, 410, ())


def test_a_batch_is_50_megabytes_at_most() -> None:
    assert Fake.max_body_bytes == 50 * 1024 * 1024
    assert Fake().refuse(413).status == 413


def test_a_message_is_10_megabytes_at_most_alone_and_in_a_batch() -> None:
    big = message(Attachments=[{"Name": "a.txt", "Content": "YWJj" * (2_700_000), "ContentType": "text/plain"}])
    assert send(big).status == 413
    assert [result["ErrorCode"] for result in results_of(send_batch(message(), big))] == [0, 300]


def test_a_body_is_5_megabytes_at_most() -> None:
    assert send(message(TextBody="x" * 5 * 1024 * 1024)).status == 200
    assert_refused(message(TextBody="x" * (5 * 1024 * 1024 + 1)), 300, "5 MB")


def test_to_cc_and_bcc_together_are_50_at_most() -> None:
    def listed(count: int, letter: str) -> str:
        return ", ".join(f"{letter}{n}@x.test" for n in range(count))

    assert send(message(To=listed(30, "t"), Cc=listed(10, "c"), Bcc=listed(10, "b"))).status == 200
    assert_refused(message(To=listed(30, "t"), Cc=listed(10, "c"), Bcc=listed(11, "b")), 300, "51 recipients")


def test_metadata_is_ten_fields_with_keys_of_20_and_values_of_80_characters() -> None:
    assert send(message(Metadata={f"k{n}" + "x" * 18: "v" * 80 for n in range(10)})).status == 200
    assert_refused(message(Metadata={f"k{n}": "v" for n in range(11)}), 300, "Invalid metadata content")
    assert_refused(message(Metadata={"k" * 21: "v"}), 300, "Field names are limited to 20 characters")
    assert_refused(message(Metadata={"k": "v" * 81}), 300, "The 'k' field in your metadata content exceeds these limits.")
    assert_refused(message(Metadata={"Color": "a", "color": "b"}), 300, "Invalid metadata content")


def test_an_attempt_id_and_a_uuid_fit_into_metadata() -> None:
    assert send(message(Metadata={"attempt_id": ATTEMPT, "job": "0198c0de-0000-7000-8000-000000000000"})).status == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Subject", 5),
        ("To", ["a@x.test"]),
        ("Metadata", {"n": 1}),
        ("Metadata", "x"),
        ("Headers", {"X-A": "b"}),
        ("Headers", [{"Name": "X-A"}]),
        ("Attachments", [{"Name": "a.txt"}]),
        ("Attachments", [{"Name": "a.txt", "Content": "not base64!", "ContentType": "text/plain"}]),
        ("TrackOpens", "true"),
        ("TrackLinks", "Sometimes"),
    ],
)
def test_a_field_of_a_wrong_type_is_code_403_and_named(field: str, value: Any) -> None:
    assert_refused(message(**{field: value}), 403, f"'{field}'")


def test_an_item_that_is_no_object_costs_itself_only() -> None:
    assert [result["ErrorCode"] for result in results_of(send_batch(5, message(), None))] == [402, 0, 402]


@pytest.mark.parametrize("address", ["a@b", "@x.test", "a b@x.test", "a@x.test b@x.test", "a@x.test,", "<a@x.test>>"])
def test_a_bad_address_is_code_300_naming_the_field(address: str) -> None:
    for field in ("To", "Cc", "Bcc", "ReplyTo"):
        assert_refused(message(**{field: address}), 300, f"'{field}'")
    assert_refused(message(From=address), 300, "Invalid 'From' address")


def test_a_word_without_an_at_is_told_so() -> None:
    assert_refused(message(To="nonsense"), 300, "Error parsing 'To': Illegal email address 'nonsense'. It must contain the '@' symbol.")


@pytest.mark.parametrize("name", ["Doe, John", "John Q. Public", "A@B", "Sales (EU)"])
def test_a_name_with_punctuation_has_to_be_quoted(name: str) -> None:
    assert send(message(To=f'"{name}" <a@x.test>')).status == 200
    assert_refused(message(To=f"{name} <a@x.test>"), 300)


@pytest.mark.parametrize(
    "to", ["a@x.test", "<a@x.test>", "A B <a@x.test>", "Jürgen Weiß <a@x.test>", r'"A \"B\" C" <a@x.test>', "=?utf-8?q?x?= <a@x.test>"]
)
def test_the_recipient_is_the_bare_address(to: str) -> None:
    assert [mail.recipient for mail in send(message(To=to)).accepted] == ["a@x.test"]


def test_a_list_keeps_commas_of_quoted_names() -> None:
    for name in ("Doe, John", '\\"Doe, John', "Doe\\\\, John"):
        answer = send(message(To=f'"{name}" <a@x.test>, b@x.test'))
        assert (answer.status, answer.accepted[0].recipient) == (200, "a@x.test")


def test_from_is_required_single_and_a_known_signature() -> None:
    assert_refused(message(From=""), 300, "Invalid 'From' address: ''.")
    assert_refused(message(From="a@x.test, b@x.test"), 300, "Invalid 'From' address")
    answer = send(message(), traits=Traits(sender_domains=frozenset({"other.test"})))
    assert (answer.status, reply_of(answer)["ErrorCode"]) == (422, 400)


def test_there_must_be_a_recipient_but_it_may_be_a_copy() -> None:
    assert_refused(message(To=""), 300, "Invalid 'To' address")
    answer = send(message(To="", Cc="c@x.test"))
    assert "To" not in reply_of(answer)
    assert answer.accepted[0].recipient == "c@x.test"


def test_a_body_is_mandatory_even_with_an_attachment() -> None:
    attachment = {"Name": "a.txt", "Content": "YWJj", "ContentType": "text/plain"}
    assert_refused(message(TextBody="", Attachments=[attachment]), 300, "TextBody or HtmlBody")
    assert send(message(TextBody="", HtmlBody="<p>")).status == 200


def test_a_tag_has_1000_characters_at_most() -> None:
    assert send(message(Tag="x" * 1000)).status == 200
    assert_refused(message(Tag="x" * 1001), 300, "'Tag'")


def test_a_forbidden_attachment_type_is_code_411() -> None:
    assert_refused(message(Attachments=[{"Name": "run.EXE", "Content": "YWJj", "ContentType": "x/y"}]), 411)


def test_an_unknown_stream_is_code_1235_and_the_inbound_one_1236() -> None:
    assert send(message(MessageStream="broadcast")).status == 200
    assert_refused(message(MessageStream="news"), 1235, "'news' does not exist on this server")
    assert_refused(message(MessageStream="inbound"), 1236)


def test_a_header_with_a_line_break_is_refused() -> None:
    assert_refused(message(Headers=[{"Name": "X-A", "Value": "v\r\nBcc: b@x.test"}]), 300)


def test_null_and_empty_values_count_as_absent_and_unknown_fields_are_ignored() -> None:
    body = message(Cc=None, Bcc="", Tag=None, Headers=None, Metadata=None, Attachments=[], TrackLinks="", TemplateModel={"a": 1}, Unknown=1)
    assert send(body).status == 200


def test_field_names_are_read_without_regard_to_case() -> None:
    body = {"from": "me@brand.test", "TO": "a@x.test", "subject": "Hi", "htmlbody": "<p>"}
    assert [mail.subject for mail in send(body).accepted] == ["Hi"]
    assert Fake().mail(orjson.dumps(body), 0).html == "<p>"


def test_an_inactive_recipient_is_code_406_with_the_address_in_the_text() -> None:
    traits = Traits(inactive=frozenset({"gone@x.test"}))
    answer = send_batch(message(To="Gone@x.test"), message(), traits=traits)
    refused, taken = results_of(answer)
    assert refused["ErrorCode"] == 406
    assert "Found inactive addresses: gone@x.test. Inactive recipients are" in refused["Message"]
    assert taken["ErrorCode"] == 0
    alone = send(message(To="gone@x.test"), traits=traits)
    assert (alone.status, reply_of(alone)["ErrorCode"], alone.accepted) == (422, 406, [])


def test_one_inactive_of_several_recipients_is_a_success_that_says_so() -> None:
    answer = send(message(To="gone@x.test, here@x.test"), traits=Traits(inactive=frozenset({"gone@x.test"})))
    assert reply_of(answer)["ErrorCode"] == 0
    assert reply_of(answer)["Message"].startswith("Message OK, but will not deliver to these inactive addresses: gone@x.test. ")
    assert [mail.recipient for mail in answer.accepted] == ["here@x.test"]


def test_an_account_that_is_pending_writes_to_its_own_domain_only() -> None:
    assert reply_of(send(message(), traits=Traits(is_approved=False)))["ErrorCode"] == 412
    assert reply_of(send(message(To="You <you@Brand.test>"), traits=Traits(is_approved=False)))["ErrorCode"] == 0


def test_an_account_without_credits_is_code_405() -> None:
    answer = send_batch(message(), traits=Traits(has_credits=False))
    assert (answer.status, reply_of(answer)["ErrorCode"]) == (422, 405)


def test_the_test_token_validates_and_keeps_nothing() -> None:
    headers = HEADERS | {"X-Postmark-Server-Token": "POSTMARK_API_TEST"}
    answer = send(message(), headers=headers, traits=Traits(key="token"))
    assert (reply_of(answer)["Message"], answer.accepted) == ("Test job accepted", [])
    assert send(message(To="x"), headers=headers).status == 422


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TemplateId": 7, "TemplateModel": {}}, 1101),
        ({"templateAlias": "welcome", "templateModel": {"name": "A"}}, 1101),
        ({"TemplateModel": {}}, 403),
        ({"TemplateId": 7}, 403),
    ],
)
def test_no_template_is_on_this_server(changes: dict[str, Any], code: int) -> None:
    one = {"From": "me@brand.test", "To": "a@x.test", **changes}
    alone, batch = post("/email/withTemplate", one), post("/email/batchWithTemplates", {"Messages": [one, one]})
    assert (alone.status, reply_of(alone)["ErrorCode"]) == (422, code)
    assert [item["ErrorCode"] for item in results_of(batch)] == [code, code]
    assert not alone.accepted and not batch.accepted


def test_a_batch_by_templates_is_an_object_of_500_messages_at_most() -> None:
    for body, code in (([], 402), ({"Messages": {}}, 402), ({"Messages": [{}] * 501}, 410), (b"{", 402)):
        answer = post("/email/batchWithTemplates", body)
        assert (answer.status, reply_of(answer)["ErrorCode"]) == (422, code)
    assert reply_of(post("/email/withTemplate", []))["ErrorCode"] == 402


def test_the_server_question_tells_a_good_token_from_a_bad_one() -> None:
    question = Call("GET", "/server", HEADERS, b"")
    assert reply_of(Fake().answer(question))["DeliveryType"] == "Live"
    answer = Fake().answer(replace(question, traits=Traits(key="other")))
    assert (answer.status, reply_of(answer)["ErrorCode"]) == (401, 10)


def test_rate_limit_and_maintenance_have_their_codes() -> None:
    assert [reply_of(Fake().refuse(status))["ErrorCode"] for status in (429, 503)] == [429, 100]
    assert "Retry-After" not in Fake().refuse(429).headers


def test_a_mail_is_read_back_whole() -> None:
    body = [
        message(),
        message(
            To='"A" <a@x.test>',
            HtmlBody="<p>H</p>",
            ReplyTo="r@brand.test",
            Headers=[{"Name": "X-A", "Value": "v"}],
            Metadata={"attempt_id": ATTEMPT},
            Attachments=[{"Name": "a.txt", "Content": "YWI=", "ContentType": "text/plain"}],
        ),
    ]
    mail = Fake().mail(orjson.dumps(body), 1)
    assert (mail.subject, mail.html, mail.text) == ("Hi", "<p>H</p>", "Hi")
    assert ("To", '"A" <a@x.test>') in mail.headers
    assert mail.headers[-1] == ("X-A", "v")
    assert mail.metadata == {"attempt_id": ATTEMPT}
    assert [(part.name, part.size_bytes) for part in mail.attachments] == [("a.txt", 2)]
