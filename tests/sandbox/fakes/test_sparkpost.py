"""The documented rules of SparkPost's transmissions and events, one test each."""

import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from sandbox.fakes.contract import Answer, Call, Traits
from sandbox.fakes.sparkpost import Fake
from sandbox.fakes.sparkpost_language import SyntaxProblem, compile_template, render

ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"
NOW = 1_800_000_000.0
HEADERS = {"Authorization": "key", "Content-Type": "application/json"}


def fake() -> Fake:
    return Fake(clock=lambda: NOW)


def to(email: str, **more: Any) -> dict[str, Any]:
    return {"address": {"email": email}, **more}


def content(**more: Any) -> dict[str, Any]:
    return {"from": {"email": "me@brand.test"}, "subject": "Hi", "text": "Hi", **more}


def transmission(*recipients: Any, **more: Any) -> dict[str, Any]:
    return {"recipients": list(recipients) or [to("a@x.test")], "content": content(), **more}


def post(
    body: Any, headers: dict[str, str] | None = None, path: str = "/api/v1/transmissions", by: Fake | None = None, **more: Any
) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return (by or fake()).answer(Call("POST", path, HEADERS if headers is None else headers, raw, **more))


def reply_of(answer: Answer) -> dict[str, Any]:
    reply: dict[str, Any] = orjson.loads(answer.body)
    return reply


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """Nothing is taken, not even for the sound neighbours."""
    assert (answer.status, [error.get("code") for error in reply_of(answer)["errors"]]) == (status, [code])
    assert list(answer.accepted) == []


def counts_of(answer: Answer) -> tuple[int, int]:
    results = reply_of(answer)["results"]
    return results["total_accepted_recipients"], results["total_rejected_recipients"]


def test_a_transmission_has_one_id_and_counts() -> None:
    answer = post(transmission(to("a@x.test", metadata={"attempt_id": ATTEMPT}), to("b@x.test")))
    results = reply_of(answer)["results"]
    assert (answer.status, counts_of(answer)) == (200, (2, 0))
    assert results["id"].isdecimal() and int(results["id"]) > 2**53
    assert [tuple(mail) for mail in answer.accepted] == [
        (ATTEMPT, results["id"], "a@x.test", "Hi", 0),
        (None, results["id"], "b@x.test", "Hi", 1),
    ]


def test_the_key_stands_bare_or_as_a_basic_user_name() -> None:
    basic = "Basic " + base64.b64encode(b"key:").decode()
    for value, status in (("key", 200), (basic, 200), ("Bearer key", 401), ("", 401), ("other", 401), ("Basic !", 401)):
        assert post(transmission(), headers={**HEADERS, "Authorization": value}, traits=Traits(key="key")).status == status


def test_a_trailing_slash_and_a_query_change_nothing_and_other_paths_are_404() -> None:
    assert post(transmission(), path="/api/v1/transmissions/?num_rcpt_errors=3").status == 200
    assert post(transmission(), path="/api/v1/transmission").status == 404
    assert fake().answer(Call("GET", "/api/v1/transmissions", HEADERS, b"")).status == 405


def test_a_wrong_type_of_content_is_415_and_broken_json_400() -> None:
    assert post(transmission(), headers={**HEADERS, "Content-Type": "text/plain"}).status == 415
    assert_refused(post(b"{"), 400, "1300")
    assert_refused(post(b'{"a":"\xff"}'), 400, "1305")
    assert_refused(post([]), 422, "1300")


def test_a_key_without_the_permission_is_403_and_a_used_up_quota_420_for_all_of_it() -> None:
    assert_refused(post(transmission(), traits=Traits(has_send_scope=False)), 403, "1100")
    assert_refused(post(transmission(), traits=Traits(has_credits=False)), 420, "2102")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": content()}, "1400"),
        ({"recipients": [], "content": content()}, "1400"),
        (transmission(content={}), "1400"),
        (transmission(content=content(subject="")), "1400"),
        (transmission(content=content(text="")), "1400"),
        (transmission(content=content(**{"from": ""})), "1400"),
        (transmission(content=content(**{"from": "me@brand"})), "1300"),
        (transmission(content=content(**{"from": {"email": "me@brand.test", "name": 5}})), "1300"),
        (transmission(content=content(text=5)), "1300"),
        (transmission(content="x"), "1300"),
        (transmission(options={"transactional": "true"}), "1300"),
        (transmission(metadata=[1]), "1300"),
        (transmission(to("a@x.test", tags="news")), "1300"),
        (transmission(to("a@x.test", tags=["t"] * 11)), "1301"),
        (transmission(to("a@x.test", substitution_data={"n": [{"m": 2**31}]})), "1300"),
        (transmission(metadata={"n": -(2**31) - 1}), "1300"),
        (transmission(options={"sandbox": True}), "2106"),
        (transmission(options={"start_time": "soon"}), "1300"),
        (transmission(options={"start_time": 1_800_000_000}), "1300"),
        (transmission(options={"start_time": "2027-01-18T08:00:01+00:00"}), "1301"),
        (transmission(campaign_id="c" * 65), "1301"),
        (transmission(description="d" * 1025), "1301"),
        (transmission(content={"template_id": "t"}), "1603"),
        (transmission(content=content(headers={"Subject": "x"})), "3002"),
        (transmission(content=content(headers={"content-type": "x"})), "3002"),
        (transmission(content=content(headers={"X-A": "a\r\nBcc: b@x.test"})), "3002"),
        (transmission(content=content(headers={"X-A": 5})), "3002"),
        (transmission(content=content(text="Hi {{name")), "3000"),
        (transmission(content=content(subject="{{ if x }}")), "3000"),
        (transmission(content=content(headers={"X-A": "{{"})), "3000"),
        (transmission(content=content(attachments=[{"name": "a", "type": "b/c", "data": "YQ==\r\n"}])), "1300"),
        (transmission(content=content(attachments=[{"name": "n" * 256, "type": "b/c", "data": "YQ=="}])), "1300"),
        (transmission(content=content(inline_images=[{"name": "a", "type": "image/png", "data": "YQ=="}] * 2)), "1301"),
    ],
)
def test_a_transmission_that_is_wrong_is_refused_whole(body: dict[str, Any], code: str) -> None:
    assert_refused(post(body), 422, code)


def test_what_is_just_within_the_limits_is_taken() -> None:
    labels = {"campaign_id": "c" * 64, "description": "d" * 1024, "options": {"start_time": "2027-01-18T08:00:00+00:00", "sandbox": False}}
    numbers = {"n": 2**31 - 1, "m": -(2**31), "big": 1e300, "yes": True}
    assert post(transmission(to("a@x.test", tags=["t"] * 10, substitution_data=numbers), **labels)).status == 200
    assert post(transmission(options={"start_time": "now"})).status == 200


def test_a_recipient_brings_100_kilobytes_of_substitution_data() -> None:
    assert post(transmission(to("a@x.test", substitution_data={"x": "y" * 102_000}))).status == 200
    assert_refused(post(transmission(to("b@x.test"), to("a@x.test", substitution_data={"x": "y" * 102_400}))), 422, "2002")
    assert_refused(post(transmission(substitution_data={"x": "y" * 102_400})), 422, "2002")


def test_metadata_has_10_kilobytes_merged() -> None:
    assert post(transmission(to("a@x.test", metadata={"x": "y" * 10_000}))).status == 200
    assert_refused(post(transmission(to("a@x.test", metadata={"x": "y" * 10_240}))), 422, "2007")
    assert_refused(post(transmission(to("a@x.test", metadata={"x": "y" * 6_000}), metadata={"z": "y" * 6_000})), 422, "2007")


def test_a_request_is_300_megabytes_at_most() -> None:
    assert fake().max_body_bytes == 300 * 1024 * 1024
    assert fake().refuse(413).status == 413


def test_content_has_20_megabytes() -> None:
    big = {"name": "a", "type": "b/c", "data": "YWJj" * (5 * 1024 * 1024)}
    assert_refused(post(transmission(content=content(attachments=[big]))), 413, "1301")
    assert Fake.max_body_bytes == 300 * 1024 * 1024


def test_a_sender_without_a_local_part_or_of_an_unknown_domain_is_400() -> None:
    assert_refused(post(transmission(content=content(**{"from": "@brand.test"}))), 400, "2008")
    assert_refused(post(transmission(), traits=Traits(sender_domains=frozenset({"other.test"}))), 400, "7001")


@pytest.mark.parametrize("bad", [{}, {"address": ""}, {"address": {"name": "A"}}, to("nonsense"), "x"])
def test_a_bad_recipient_is_counted_and_not_named(bad: Any) -> None:
    answer = post(transmission(to("a@x.test"), bad, to("c@x.test")))
    reply = reply_of(answer)
    assert (answer.status, counts_of(answer)) == (200, (2, 1))
    assert [error["code"] for error in reply["errors"]] == ["2000"]
    assert [set(error) for error in reply["results"]["rcpt_to_errors"]] == [{"message", "description", "code"}]
    assert "nonsense" not in answer.body.decode()
    assert [mail.item for mail in answer.accepted] == [0, 2]


def test_without_any_valid_recipient_it_is_400_with_5002() -> None:
    assert_refused(post(transmission(to("nonsense"))), 400, "5002")
    assert_refused(
        post(transmission(to("x@bad.test"), to("nonsense")), traits=Traits(bad_recipients=frozenset({"@bad.test"}))), 400, "5002"
    )


def test_a_suppressed_sole_recipient_is_a_1902_that_counts_it_as_accepted() -> None:
    traits = Traits(inactive=frozenset({"gone@x.test"}))
    answer = post(transmission(to("Gone@x.test")), traits=traits)
    assert_refused(answer, 400, "1902")
    assert counts_of(answer) == (1, 0)
    many = post(transmission(to("gone@x.test"), to("b@x.test")), traits=traits)
    assert (many.status, counts_of(many), len(many.accepted)) == (200, (2, 0), 2)


def test_a_partial_failure_spoils_the_first_recipient() -> None:
    assert counts_of(post(transmission(to("a@x.test"), to("b@x.test")), is_spoiled=lambda item: item == 0)) == (1, 1)


def test_copies_of_a_mail_are_one_line_and_two_mails_of_one_attempt_are_two() -> None:
    copies = [{"address": {"email": f"{name}@x.test", "header_to": "a@x.test"}} for name in ("a", "c", "b")]
    answer = post(transmission(*copies, metadata={"attempt_id": ATTEMPT}))
    assert [(mail.recipient, mail.attempt_id) for mail in answer.accepted] == [("a@x.test", ATTEMPT)]
    assert counts_of(answer) == (3, 0)
    doubled = post(transmission(*[to("a@x.test", metadata={"attempt_id": ATTEMPT})] * 2))
    assert len(doubled.accepted) == 2


def test_the_account_question_tells_a_good_key_from_a_bad_one() -> None:
    question = Call("GET", "/api/v1/account", HEADERS, b"")
    assert reply_of(fake().answer(question))["results"]["status"] == "active"
    assert fake().answer(Call("GET", "/api/v1/account", {}, b"")).status == 401


def test_rate_limits_and_server_errors_have_their_codes() -> None:
    assert [(fake().refuse(status).status, reply_of(fake().refuse(status))["errors"][0].get("code")) for status in (429, 500, 503)] == [
        (429, None),
        (500, "1500"),
        (503, "1900"),
    ]


def ask(by: Fake, query: str, **more: Any) -> Answer:
    return by.answer(Call("GET", f"/api/v1/events/message?{query}", HEADERS, b"", **more))


SPAN = "from=2027-01-15T07:00:00Z&to=2027-01-15T09:00:00Z"


def test_events_are_found_by_recipient_time_and_type_with_their_metadata() -> None:
    by = fake()
    post(transmission(to("Ann@x.test", metadata={"attempt_id": ATTEMPT}), to("bob@x.test")), by=by)
    found = reply_of(ask(by, f"{SPAN}&recipients={quote('ann@x.test')}&events=injection"))
    assert (found["total_count"], found["links"]) == (1, {})
    assert found["results"][0]["rcpt_meta"] == {"attempt_id": ATTEMPT}
    assert (found["results"][0]["rcpt_to"], found["results"][0]["raw_rcpt_to"]) == ("ann@x.test", "Ann@x.test")
    assert reply_of(ask(by, f"{SPAN}&events=delivery"))["total_count"] == 0
    assert reply_of(ask(by, "from=2027-01-15T09:00:00Z&to=2027-01-15T10:00:00Z"))["total_count"] == 0
    assert reply_of(ask(by, "recipients=ann@x.test"))["total_count"] == 0  # by default up to a minute ago


def test_a_page_of_events_links_to_the_next_and_a_long_uri_is_refused() -> None:
    by = fake()
    post(transmission(*[to(f"u{n}@x.test") for n in range(5)]), by=by)
    found = reply_of(ask(by, f"{SPAN}&per_page=2"))
    assert (len(found["results"]), found["total_count"], "next" in found["links"]) == (2, 5, True)
    assert ask(by, "recipients=" + "a" * 4096).status == 414
    assert ask(by, "per_page=10001").status == 400
    assert ask(by, "from=yesterday").status == 400


def test_a_suppressed_recipient_of_many_is_an_event_of_its_own() -> None:
    by = fake()
    post(transmission(to("gone@x.test"), to("b@x.test")), by=by, traits=Traits(inactive=frozenset({"gone@x.test"})))
    types = {event["rcpt_to"]: event["type"] for event in reply_of(ask(by, SPAN))["results"]}
    assert types == {"gone@x.test": "generation_rejection", "b@x.test": "injection"}


def test_values_come_from_the_recipient_first_and_a_missing_one_is_empty() -> None:
    body = transmission(
        to("a@x.test", metadata={"city": "3", "b": "m"}, substitution_data={"city": "4"}),
        to("b@x.test"),
        content=content(
            subject="{{city}}", text="{{ b }}|{{ nothing }}|{{ nothing or 'x' }}", html="{{v}} {{{v}}}", headers={"X-A": "{{city}}"}
        ),
        metadata={"city": "1"},
        substitution_data={"city": "2", "v": "<b>/"},
    )
    first, second = (Fake().mail(orjson.dumps(body), item) for item in (0, 1))
    assert (first.subject, first.text, first.html) == ("4", "m||x", "&lt;b&gt;&#x2F; <b>/")
    assert (second.subject, ("X-A", "2") in second.headers) == ("2", True)
    assert [mail.subject for mail in post(body).accepted] == ["4", "2"]


def test_without_substitutions_the_headers_are_templates_all_the_same() -> None:
    body = transmission(
        content=content(subject="{{s}}", text="{{s}}", html="{{"),
        options={"perform_substitutions": False},
        substitution_data={"s": "Hello"},
    )
    mail = Fake().mail(orjson.dumps(body), 0)
    assert (mail.subject, mail.text, mail.html) == ("Hello", "{{s}}", "{{")


def test_a_value_is_not_looked_into() -> None:
    assert render(compile_template("{{{v}}}"), {"v": "{{w}} {{"}) == "{{w}} {{"


def test_braces_are_written_by_macros() -> None:
    assert render(compile_template("{{opening_double_curly()}}{{ closing_triple_curly() }}"), {}) == "{{}}}"


@pytest.mark.parametrize("text", ["{{", "{{a", "{{a b}}", "{{1a}}", "{{each x}}", "{{end}}", "{{render_dynamic_content(x)}}"])
def test_what_cannot_be_read_is_a_syntax_problem(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        compile_template(text)


def test_a_mail_is_read_back_whole() -> None:
    recipient = {"address": {"email": "a@x.test", "name": "A", "header_to": "t@x.test"}, "metadata": {"order": "7"}}
    whole = content(
        html="<p>H</p>",
        reply_to="r@brand.test",
        headers={"X-A": "v"},
        attachments=[{"name": "a.txt", "type": "text/plain", "data": "YWI="}],
        inline_images=[{"name": "logo", "type": "image/png", "data": "YQ=="}],
    )
    mail = Fake().mail(orjson.dumps({"recipients": [to("x@x.test"), recipient], "content": whole, "metadata": {"all": "1"}}), 1)
    assert (mail.subject, mail.html, mail.text, mail.metadata) == ("Hi", "<p>H</p>", "Hi", {"all": "1", "order": "7"})
    for header in (("To", '"A" <t@x.test>'), ("Reply-To", "r@brand.test"), ("X-A", "v"), ("From", "me@brand.test")):
        assert header in mail.headers
    assert [(part.name, part.size_bytes) for part in mail.attachments] == [("a.txt", 2), ("logo", 1)]
