"""The documented limits of SendGrid's mail send, one test each."""

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest

from sandbox.fakes.contract import Call, Traits
from sandbox.fakes.sendgrid import Fake
from tests.sandbox.fakes.sendgrid_requests import ATTEMPT, HEADERS, NOW, assert_refused, call, errors_of, message, one, send, without


def test_a_sound_request_is_202_without_a_body_and_one_message_id_for_all() -> None:
    answer = send(message(one("a@x.test", custom_args={"attempt_id": ATTEMPT}), one("b@x.test")))
    assert (answer.status, answer.body) == (202, b"")
    assert [mail.recipient for mail in answer.accepted] == ["a@x.test", "b@x.test"]
    assert {mail.message_id for mail in answer.accepted} == {answer.headers["X-Message-Id"]}
    assert [mail.attempt_id for mail in answer.accepted] == [ATTEMPT, None]


def test_each_request_has_another_message_id() -> None:
    assert send(message()).headers["X-Message-Id"] != send(message()).headers["X-Message-Id"]


def test_a_missing_key_is_401_authorization_required() -> None:
    answer = send(message(), headers=without("Authorization"))
    assert answer.status == 401
    assert errors_of(answer)[0]["message"] == "authorization required"


@pytest.mark.parametrize("value", ["Basic SG.key", "SG.key", "Bearer ", "Bearer other"])
def test_a_wrong_credential_is_401(value: str) -> None:
    answer = send(message(), headers={**HEADERS, "Authorization": value}, traits=Traits(key="SG.key"))
    assert answer.status == 401
    assert "invalid, expired, or revoked" in str(errors_of(answer)[0]["message"])


def test_a_key_without_the_scope_is_403() -> None:
    assert send(message(), traits=Traits(has_send_scope=False)).status == 403


def test_used_up_credits_are_a_401_with_a_text_of_its_own() -> None:
    answer = send(message(), traits=Traits(has_credits=False))
    assert (answer.status, errors_of(answer)[0]["message"]) == (401, "Maximum credits exceeded")


def test_a_sender_that_is_not_verified_is_403() -> None:
    answer = send(message(), traits=Traits(sender_domains=frozenset({"other.test"})))
    assert answer.status == 403
    assert "verified Sender Identity" in str(errors_of(answer)[0]["message"])


def test_a_missing_accept_header_is_406() -> None:
    assert send(message(), headers=without("Accept")).status == 406


def test_another_content_type_is_415() -> None:
    assert send(message(), headers={**HEADERS, "Content-Type": "text/plain"}).status == 415
    assert send(message(), headers=without("Content-Type")).status == 415


def test_a_compressed_body_is_415_since_it_has_to_be_enabled() -> None:
    answer = send(message(), headers={**HEADERS, "Content-Encoding": "gzip"})
    assert (answer.status, list(answer.accepted)) == (415, [])


def test_another_path_is_404_and_another_method_405() -> None:
    fake = Fake()
    assert fake.answer(replace(call(message()), path="/v3/mail/sent")).status == 404
    assert fake.answer(replace(call(b""), method="GET")).status == 405


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b"[1,"])
def test_broken_json_is_400(body: bytes) -> None:
    assert_refused(body, None, "Bad Request")


def test_bytes_that_are_not_utf8_are_415() -> None:
    assert_refused(b'{"subject": "\xff"}', None, "Invalid UTF8", 415)


def test_a_body_that_is_no_object_is_400() -> None:
    assert_refused([], None, "Expected: object, given: array")


@pytest.mark.parametrize("name", ["Smith, John", "Howdy :(", "a@b.test"])
def test_a_recipients_name_that_is_not_quoted_is_read_as_addresses(name: str) -> None:
    taken = [send(message(one(to=[{"email": "a@x.test", "name": spelled}]))).accepted[0].recipient for spelled in (name, f'"{name}"')]
    assert (taken[0] == "a@x.test", taken[1]) == (False, "a@x.test")


def test_there_must_be_a_personalization() -> None:
    assert_refused(message() | {"personalizations": []}, "personalizations", "at least one personalization")


def test_a_thousand_personalizations_are_taken_and_one_more_refuses_all() -> None:
    ones = [one(f"u{n}@x.test") for n in range(1001)]
    assert len(send(message(*ones[:1000])).accepted) == 1000
    assert_refused(message(*ones), "personalizations", "limited to 1000 personalizations per API request. You have provided 1001")


def test_to_cc_and_bcc_together_are_a_thousand_at_most() -> None:
    ones = [one(f"u{n}@x.test", cc=[{"email": f"c{n}@x.test"}]) for n in range(501)]
    assert send(message(*ones[:500])).status == 202
    assert_refused(message(*ones), "personalizations", "limit of 1000 total recipients")


@pytest.mark.parametrize("address", ["", "a", "a@b", "@x.test", "a b@x.test", "a@x.test,b@x.test", "ä@x.test", "a@-x.test", "a@x..test"])
def test_a_bad_address_refuses_all_and_names_its_place(address: str) -> None:
    assert_refused(message(one(), one(address)), "personalizations.1.to.0.email", "Does not contain a valid address.")


def test_an_address_has_320_characters_at_most() -> None:
    assert send(message(one("a" * 313 + "@x.test"))).status == 202
    assert_refused(message(one("a" * 314 + "@x.test")), "personalizations.0.to.0.email", "320 characters")


def test_a_personalization_needs_a_to() -> None:
    assert_refused(message({"to": []}), "personalizations.0.to", "The to array is required")


@pytest.mark.parametrize("key", ["to", "cc", "bcc"])
def test_an_address_may_come_once_across_to_cc_and_bcc_whatever_its_case(key: str) -> None:
    twice = one() | {key: [{"email": "b@x.test"}, {"email": "B@X.test"}]} | ({} if key == "to" else {"to": [{"email": "a@x.test"}]})
    assert_refused(message(twice), "personalizations.0", "should be unique between to, cc, and bcc")
    assert_refused(message(one(cc=[{"email": "A@x.test"}])), "personalizations.0", "[A@x.test] in the personalizations.0.cc field")


def test_the_same_address_in_two_personalizations_is_two_mails() -> None:
    assert len(send(message(one(), one())).accepted) == 2


@pytest.mark.parametrize("value", ["", None, 5])
def test_an_empty_content_value_is_refused(value: Any) -> None:
    body = message(content=[{"type": "text/plain", "value": value}])
    assert_refused(body, "content.0.value", "must be a string at least one character in length")


def test_contents_must_come_as_text_then_html() -> None:
    parts = [{"type": "text/html", "value": "h"}, {"type": "text/plain", "value": "t"}]
    assert_refused(message(content=parts), "content", "RFC 1341")


def test_content_is_required_without_a_template() -> None:
    body = message()
    del body["content"]
    assert_refused(body, "content", "content parameter is required")
    assert_refused(message(content=[]), "content", "content parameter is required")


def test_a_subject_is_required_and_not_empty() -> None:
    body = message()
    del body["subject"]
    assert_refused(body, "subject", "The subject is required")
    assert_refused(message(subject=""), "subject", "at least one character")
    assert_refused(message(one(subject="")), "personalizations.0.subject", "at least one character")


def test_a_subject_in_each_personalization_is_enough() -> None:
    body = message(one(subject="Yours"))
    del body["subject"]
    assert [mail.subject for mail in send(body).accepted] == ["Yours"]


def test_from_is_required_and_must_be_sound() -> None:
    assert_refused(message() | {"from": None}, "from.email", "The from object must be provided")
    assert_refused(message() | {"from": {"email": "me"}}, "from.email", "valid address")


def test_a_personalizations_own_from_stays_in_the_same_domain() -> None:
    assert send(message(one() | {"from": {"email": "you@BRAND.test"}})).status == 202
    assert_refused(message(one() | {"from": {"email": "you@other.test"}}), "personalizations.0.from", "same domain")


def test_substitutions_are_10000_bytes_at_most_per_personalization() -> None:
    fits = {"-a-": "x" * 4997, "-b-": "ü" * 2498 + "x"}
    assert send(message(one(substitutions=fits), one(substitutions=fits))).status == 202
    assert_refused(
        message(one(), one(substitutions=fits | {"-b-": "ü" * 2499})), "personalizations.1.substitutions", "limited to 10000 bytes"
    )


def test_substitution_values_are_strings() -> None:
    assert_refused(message(one(substitutions={"-a-": 5})), "personalizations.0.substitutions", "all strings")


def test_substitutions_do_not_go_with_a_dynamic_template() -> None:
    assert_refused(message(one(substitutions={"-a-": "b"}), template_id="d-1"), "personalizations.0.substitutions", "dynamic templating")


def test_custom_args_are_strings_not_empty_and_10000_bytes_with_the_messages_own() -> None:
    field = "personalizations.0.custom_args"
    assert_refused(message(one(custom_args={"a": 1})), field, "must be strings")
    assert_refused(message(one(custom_args={})), field, "cannot be empty")
    assert send(message(one(custom_args={"a": "x" * 4999}), custom_args={"b": "y" * 4999})).status == 202
    assert_refused(message(one(custom_args={"a": "x" * 4999}), custom_args={"b": "y" * 5000}), field, "10,000 bytes")
    assert send(message(one(custom_args={"b": "x" * 9}), custom_args={"b": "y" * 9999})).status == 202


RESERVED = ["x-sg-id", "X-SG-EID", "received", "DKIM-Signature", "Content-Type", "Content-Transfer-Encoding"]
RESERVED += ["To", "From", "Subject", "Reply-To", "CC", "BCC"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_header_is_refused_in_the_message_and_in_a_personalization(name: str) -> None:
    assert_refused(message(headers={name: "v"}), "headers", "reserved keys")
    assert_refused(message(one(headers={name: "v"})), "personalizations.0.headers", "reserved keys")


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({"X-A": 5}, "must be strings"),
        ({"X A": "v"}, "non-ASCII characters or empty spaces"),
        ({"X-Ä": "v"}, "non-ASCII characters or empty spaces"),
        ({"X-A": "v", "x-a": "w"}, "duplicate keys"),
        ({"X-A": "v\r\nBcc: b@x.test"}, "CRLF"),
    ],
)
def test_a_bad_header_is_refused(headers: dict[str, Any], part: str) -> None:
    assert_refused(message(headers=headers), "headers", part)


def test_categories_are_ten_unique_ascii_strings_of_255_characters() -> None:
    assert send(message(categories=[f"c{n}" for n in range(9)] + ["x" * 255])).status == 202
    assert_refused(message(categories=[f"c{n}" for n in range(11)]), "categories", "limit of 10 categories")
    assert_refused(message(categories=["x" * 256]), "categories", "longer than 255")
    assert_refused(message(categories=["a", "a"]), "categories", "unique list")
    assert_refused(message(categories=["ä"]), "categories", "non-ASCII")
    assert_refused(message(categories="news"), "categories", "array of strings")


def test_send_at_is_an_integer_within_72_hours() -> None:
    assert send(message(send_at=int(NOW) + 72 * 3600)).status == 202
    assert_refused(message(send_at=int(NOW) + 72 * 3600 + 1), "send_at", "72 hours")
    assert_refused(message(one(send_at="soon")), "personalizations.0.send_at", "integer")


def test_an_unknown_property_is_named() -> None:
    assert_refused(message(subjekt="x"), "subjekt", "Additional property subjekt is not allowed.")
    assert_refused(message(one(attempt_id="x")), "personalizations.0.attempt_id", "not allowed")
    assert_refused(message({"to": [{"email": "a@x.test", "type": "to"}]}), "personalizations.0.to.0.type", "not allowed")


def test_an_attachment_needs_base64_content_and_a_filename() -> None:
    sound = {"content": base64.b64encode(b"abc").decode(), "filename": "a.txt", "type": "text/plain"}
    assert send(message(attachments=[sound])).status == 202
    assert_refused(message(attachments=[sound | {"content": "not base64!"}]), "attachments.0.content", "base64")
    assert_refused(message(attachments=[sound | {"content": ""}]), "attachments.0.content", "at least one character")
    assert_refused(message(attachments=[sound | {"filename": ""}]), "attachments.0.filename", "filename is required")
    assert_refused(message(attachments=[sound | {"disposition": "beside"}]), "attachments.0.disposition", "beside")


@pytest.mark.parametrize("type_", ["text/plain; charset=utf-8", "text/plain,", "text/plain\r\nX-A: 1", "", 5])
def test_an_attachments_type_is_bare(type_: Any) -> None:
    attachment = {"content": base64.b64encode(b"abc").decode(), "filename": "a.txt", "type": type_}
    assert_refused(message(attachments=[attachment]), "attachments.0.type", "attachment type")


@pytest.mark.parametrize(
    "field", ["personalizations", "from", "content", "headers", "custom_args", "categories", "mail_settings", "attachments"]
)
@pytest.mark.parametrize("value", ["x", 5, [5], True])
def test_a_field_of_a_wrong_type_is_400_never_a_crash(field: str, value: Any) -> None:
    assert send(message() | {field: value}).status == 400


def test_a_request_is_30_megabytes_at_most() -> None:
    assert Fake.max_body_bytes == 30 * 1024 * 1024
    assert Fake().refuse(413).status == 413


def test_sandbox_mode_is_200_and_delivers_nothing() -> None:
    answer = send(message(mail_settings={"sandbox_mode": {"enable": True}}))
    assert (answer.status, answer.body, answer.accepted) == (200, b"", ())
    assert_refused(message(mail_settings={"sandbox_mode": {"enable": "yes"}}), "mail_settings.sandbox_mode.enable", "boolean")


def test_too_many_requests_say_so_with_the_rate_headers() -> None:
    answer = Fake(clock=lambda: NOW).refuse(429)
    assert errors_of(answer) == [{"message": "too many requests", "field": None, "help": None}]
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert answer.headers["X-RateLimit-Reset"] == str(int(NOW) + 1)
    assert "Retry-After" not in answer.headers


def test_scopes_tell_a_good_key_from_a_bad_one() -> None:
    question = Call("GET", "/v3/scopes", HEADERS, b"")
    assert "mail.send" in orjson.loads(Fake().answer(question).body)["scopes"]
    assert "mail.send" not in orjson.loads(Fake().answer(replace(question, traits=Traits(has_send_scope=False))).body)["scopes"]
    assert Fake().answer(replace(question, traits=Traits(key="SG.other"))).status == 401


def test_an_address_that_the_fake_was_told_to_find_bad_refuses_its_neighbours_too() -> None:
    traits = Traits(bad_recipients=frozenset({"@bad.test"}))
    answer = send(message(one("a@x.test"), one("b@Bad.test")), traits=traits)
    assert answer.status == 400
    assert [error["field"] for error in errors_of(answer)] == ["personalizations.1.to.0.email"]
    assert send(message(one("a@x.test")), traits=traits).status == 202


def test_a_thousand_bad_personalizations_make_a_short_answer() -> None:
    assert len(errors_of(send(message(*[one("bad")] * 1000)))) == 50
