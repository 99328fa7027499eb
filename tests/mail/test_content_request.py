"""Content requests: one body, one email per personalization. Wire format, section 2, sentence by sentence."""

import json
from typing import Any

import pytest

from mail.decode import decode, decode_one
from mail.errors import InvalidJob
from mail.job import Job
from mail.limits import DecodeLimits
from mail.message import Address, Attachment

LIMITS = DecodeLimits()


def request(top: dict[str, Any] | None = None, **body: Any) -> bytes:
    """The example of the wire format with changes; `...` takes a field away."""
    example = {
        "From": {"email": "a@x.com", "name": "A"},
        "To": ["Bob <b@y.com>", {"email": "c@y.com"}],
        "Cc": ["d@y.com"],
        "Bcc": [],
        "Subject": "Hi -name-",
        "TextBody": "",
        "HtmlBody": "",
        "Content": [{"type": "text/plain", "value": "Hi {{name}}"}, {"type": "text/html", "value": "<p>Hi -name-</p>"}],
        "Attachments": [{"content": "aGk=", "filename": "t.pdf", "type": "application/pdf", "disposition": "attachment", "content_id": ""}],
        "Headers": {"X-Campaign": "1"},
        "custom_args": {"IsBatch": "true"},
        "Sections": {"-sec-": "text"},
        "Categories": ["news"],
        "Personalizations": [{"To": "b@y.com", "Subject": "Hi Bob", "Substitutions": {"name": "Bob"}}],
    }
    fields = {"BatchID": 0, "MessageID": "m-uuid", "UserID": 42, "headers": {"X-Any": ["v"]}, "body": without_gaps(example | body)}
    return json.dumps(without_gaps(fields | (top or {}))).encode()


def without_gaps(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}


def jobs(value: bytes, limits: DecodeLimits = LIMITS) -> list[Job]:
    items = decode(value, limits)
    assert all(isinstance(item, Job) for item in items), items
    return items  # type: ignore[return-value]


def assert_refused(value: bytes, reason: str, field: str, limits: DecodeLimits = LIMITS) -> InvalidJob:
    items = decode(value, limits)
    assert len(items) == 1, items
    problem = items[0]
    assert isinstance(problem, InvalidJob), problem
    assert problem.reason == reason, problem.error
    assert problem.error.startswith(f"{field}: "), problem.error
    return problem


def other_case(node: Any, change: Any) -> Any:
    """`node` with the names of the format in another case; the caller's own names are left alone."""
    if isinstance(node, list):
        return [other_case(one, change) for one in node]
    if not isinstance(node, dict):
        return node
    own = ("Substitutions", "Sections", "Headers", "custom_args", "headers")
    return {change(key): child if key in own else other_case(child, change) for key, child in node.items()}


def test_every_field_of_a_content_request_arrives() -> None:
    (job,) = jobs(request({"BatchID": 9}))
    assert (job.tenant, job.job_id, job.index, job.type, job.template, job.batch_id) == (42, "m-uuid:0", 0, "email", "inline", 9)
    assert (job.sender, job.to, job.cc, job.bcc) == (Address("a@x.com", "A"), (Address("b@y.com"),), (Address("d@y.com"),), ())
    assert job.inline is not None
    assert (job.inline.subject, job.inline.text, job.inline.html) == ("Hi Bob", "Hi {{name}}", "<p>Hi -name-</p>")
    assert (job.inline.substitutions, job.inline.sections) == ({"name": "Bob"}, {"-sec-": "text"})
    assert job.headers == (("X-Campaign", "1"),)
    assert job.metadata == (("IsBatch", "true"),)
    assert job.tags == ("news",)
    assert job.attachments == (Attachment("t.pdf", "application/pdf", "aGk="),)


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
def test_field_names_match_without_regard_to_case_but_the_callers_own_names_keep_theirs(change: Any) -> None:
    personalization = {"To": {"email": "b@y.com", "name": "B"}, "Substitutions": {"Name": "Bob"}}
    value = json.loads(request(Personalizations=[personalization]))
    expected = jobs(json.dumps(value).encode())
    assert jobs(json.dumps(other_case(value, change)).encode()) == expected
    assert expected[0].inline is not None
    assert expected[0].inline.substitutions == {"Name": "Bob"}


def test_each_personalization_is_one_email_with_its_index_and_its_to_may_be_a_list() -> None:
    two = [{"To": ["b@y.com", "Carl <c@y.com>"]}, {"To": {"email": "e@y.com", "name": "E"}, "Cc": "f@y.com", "Bcc": ["g@y.com"]}]
    first, second = jobs(request(Personalizations=two))
    assert (first.job_id, first.index, first.recipient.email) == ("m-uuid:0", 0, "b@y.com")
    assert first.to == (Address("b@y.com"), Address("c@y.com", "Carl"))
    assert (second.job_id, second.index) == ("m-uuid:1", 1)
    assert (second.cc, second.bcc) == ((Address("d@y.com"), Address("f@y.com")), (Address("g@y.com"),))
    assert first.inline is not None
    assert first.inline.subject == "Hi -name-"


@pytest.mark.parametrize("none", [..., None, []])
def test_without_personalizations_each_to_becomes_one_email(none: Any) -> None:
    first, second = jobs(request(Personalizations=none))
    assert (first.job_id, first.to) == ("m-uuid:0", (Address("b@y.com", "Bob"),))
    assert (second.job_id, second.to, second.cc) == ("m-uuid:1", (Address("c@y.com"),), (Address("d@y.com"),))
    (single,) = jobs(request(Personalizations=none, To="b@y.com"))
    assert single.job_id == "m-uuid:0"


BAD_EMAILS: list[tuple[Any, str, str]] = [
    ({"To": "a@x"}, "invalid-address", ".To"),
    ({"To": "a@y.com, b@y.com"}, "invalid-address", ".To"),
    ({"To": ["b@y.com", "c@y.com\r\nBcc: d@y.com"]}, "header-injection", ".To[1]"),
    ({"To": "b@y.com", "Subject": "Hi\r\nBcc: d@y.com"}, "header-injection", ".Subject"),
    ({"To": "b@y.com", "Subject": "x" * 999}, "invalid-job", ".Subject"),
    ({"To": "b@y.com", "Subject": 5}, "invalid-job", ".Subject"),
    ({"To": "b@y.com", "Subject": "a\0"}, "invalid-job", ".Subject"),
    ({"To": "b@y.com", "Substitutions": {"name": "a\0"}}, "invalid-job", ".Substitutions.name"),
    ({"To": "b@y.com", "Substitutions": {"name": ["x"]}}, "invalid-job", ".Substitutions.name"),
    ({"To": "b@y.com", "Substitutions": {"name": None}}, "invalid-job", ".Substitutions.name"),
    ({"To": "b@y.com", "Substitutions": {"": "x"}}, "invalid-job", ".Substitutions"),
    ({"To": "b@y.com", "Substitutions": []}, "invalid-job", ".Substitutions"),
    ({"To": "b@y.com", "Cc": 5}, "invalid-job", ".Cc"),
    ({"To": [f"a{n}@y.com" for n in range(50)]}, "invalid-job", ".To"),
    ({"To": []}, "invalid-job", ".To"),
    ({"To": 5}, "invalid-job", ".To"),
    ({"To": [5]}, "invalid-job", ".To[0]"),
    ({"To": {"name": "B"}}, "invalid-job", ".To.email"),
    ({}, "invalid-job", ".To"),
    (None, "invalid-job", ""),
    ("b@y.com", "invalid-job", ""),
    ([], "invalid-job", ""),
]


@pytest.mark.parametrize(("bad", "reason", "field"), BAD_EMAILS)
def test_one_bad_personalization_is_one_dead_letter_and_the_others_are_sent(bad: Any, reason: str, field: str) -> None:
    first, problem, last = decode(request(Personalizations=[{"To": "b@y.com"}, bad, {"To": "c@y.com"}]), LIMITS)
    assert isinstance(first, Job)
    assert isinstance(last, Job)
    assert last.job_id == "m-uuid:2"
    assert isinstance(problem, InvalidJob)
    assert (problem.reason, problem.job_id, problem.tenant, problem.index) == (reason, "m-uuid:1", 42, 1)
    assert problem.error.startswith(f"body.Personalizations[1]{field}: "), problem.error


def test_one_bad_to_is_one_dead_letter_too() -> None:
    first, problem = decode(request(Personalizations=[], To=["b@y.com", "a@x"]), LIMITS)
    assert isinstance(first, Job)
    assert isinstance(problem, InvalidJob)
    assert (problem.reason, problem.index, problem.error.partition(": ")[0]) == ("invalid-address", 1, "body.To[1]")


BAD_BODIES: list[tuple[dict[str, Any], str, str]] = [
    ({"From": "a@x"}, "invalid-address", "body.From"),
    ({"From": {"email": "a@x.com", "name": "A\nB"}}, "header-injection", "body.From.name"),
    ({"From": 5}, "invalid-job", "body.From"),
    ({"ReplyTo": "x"}, "invalid-address", "body.ReplyTo"),
    ({"Cc": ["d@y.com", "d"]}, "invalid-address", "body.Cc[1]"),
    ({"Bcc": {"name": "x"}}, "invalid-job", "body.Bcc.email"),
    ({"Subject": 5}, "invalid-job", "body.Subject"),
    ({"Subject": "x" * 999}, "invalid-job", "body.Subject"),
    ({"Subject": "a\u2028b"}, "header-injection", "body.Subject"),
    ({"Subject": "a\0b"}, "invalid-job", "body.Subject"),
    ({"TextBody": 5}, "invalid-job", "body.TextBody"),
    ({"HtmlBody": "a\0"}, "invalid-job", "body.HtmlBody"),
    ({"HtmlBody": []}, "invalid-job", "body.HtmlBody"),
    ({"Content": "x"}, "invalid-job", "body.Content"),
    ({"Content": ["x"]}, "invalid-job", "body.Content[0]"),
    ({"Content": [{"value": "x"}]}, "invalid-job", "body.Content[0].type"),
    ({"Content": [{"type": "text/plain"}]}, "invalid-job", "body.Content[0].value"),
    ({"Content": [{"type": "text/plain", "value": 5}]}, "invalid-job", "body.Content[0].value"),
    ({"Content": [{"type": "image/png", "value": "x"}]}, "invalid-job", "body.Content[0].type"),
    ({"Content": [{"type": "text/html", "value": "x"}, {"type": "TEXT/HTML", "value": "y"}]}, "invalid-job", "body.Content[1].type"),
    ({"Content": []}, "invalid-job", "body.Content"),
    ({"Content": ...}, "invalid-job", "body.Content"),
    ({"Attachments": {}}, "invalid-job", "body.Attachments"),
    ({"Attachments": [{"filename": "a", "content": "a"}]}, "invalid-job", "body.Attachments[0].content"),
    ({"Attachments": [{"filename": "a", "content": "aGk=\n"}]}, "invalid-job", "body.Attachments[0].content"),
    ({"Attachments": [{"filename": "a", "content": "é"}]}, "invalid-job", "body.Attachments[0].content"),
    ({"Attachments": [{"filename": "a", "content": 5}]}, "invalid-job", "body.Attachments[0].content"),
    ({"Attachments": [{"filename": "a\r\nb", "content": "aGk="}]}, "header-injection", "body.Attachments[0].filename"),
    ({"Attachments": [{"filename": "", "content": "aGk="}]}, "invalid-job", "body.Attachments[0].filename"),
    ({"Attachments": [{"filename": "a", "content": "aGk=", "type": "pdf"}]}, "invalid-job", "body.Attachments[0].type"),
    ({"Attachments": [{"filename": "a", "content": "aGk=", "disposition": "x"}]}, "invalid-job", "body.Attachments[0].disposition"),
    ({"Attachments": [{"filename": "a", "content": "aGk=", "content_id": "<a>"}]}, "invalid-job", "body.Attachments[0].content_id"),
    ({"Headers": {"X-A": 1}}, "invalid-job", "body.Headers[...]"),
    ({"Headers": {"X-A": "a\r\nb"}}, "header-injection", "body.Headers.X-A"),
    ({"Headers": {"Bcc": "b@y.com"}}, "not-allowed", "body.Headers.Bcc"),
    ({"custom_args": []}, "invalid-job", "body.custom_args"),
    ({"custom_args": {"a": {}}}, "invalid-job", "body.custom_args.a"),
    ({"custom_args": {"a": "x\ny"}}, "header-injection", "body.custom_args.a"),
    ({"Sections": {"a": []}}, "invalid-job", "body.Sections.a"),
    ({"Sections": "x"}, "invalid-job", "body.Sections"),
    ({"Categories": [1]}, "invalid-job", "body.Categories[0]"),
    ({"Categories": {}}, "invalid-job", "body.Categories"),
    ({"Categories": ["a\nb"]}, "header-injection", "body.Categories[0]"),
    ({"Personalizations": {}}, "invalid-job", "body.Personalizations"),
    ({"Personalizations": "x"}, "invalid-job", "body.Personalizations"),
    ({"Personalizations": [], "To": []}, "invalid-job", "body.To"),
    ({"Personalizations": ..., "To": ...}, "invalid-job", "body.To"),
]


@pytest.mark.parametrize(("change", "reason", "field"), BAD_BODIES)
def test_what_is_wrong_in_the_body_refuses_the_request_once(change: dict[str, Any], reason: str, field: str) -> None:
    problem = assert_refused(request(**change), reason, field)
    assert (problem.job_id, problem.tenant, problem.index) == ("m-uuid", 42, None)


BAD_TOPS: list[tuple[dict[str, Any], str]] = [
    ({"MessageID": 5}, "MessageID"),
    ({"MessageID": ""}, "MessageID"),
    ({"MessageID": "x" * 91}, "MessageID"),
    ({"MessageID": "a\nb"}, "MessageID"),
    ({"MessageID": None}, "MessageID"),
    ({"UserID": "42"}, "UserID"),
    ({"UserID": -1}, "UserID"),
    ({"UserID": True}, "UserID"),
    ({"BatchID": 1.5}, "BatchID"),
    ({"BatchID": -1}, "BatchID"),
    ({"body": "x"}, "body"),
    ({"body": None}, "body"),
    ({"body": []}, "body"),
]


@pytest.mark.parametrize(("change", "field"), BAD_TOPS)
def test_wrong_types_at_the_top_are_an_invalid_job(change: dict[str, Any], field: str) -> None:
    assert_refused(request(change), "invalid-job", field)


def test_the_headers_of_the_ingress_are_not_those_of_the_mail() -> None:
    assert jobs(request({"headers": {"Bcc": 5}}, Headers=...))[0].headers == ()


def test_a_message_id_of_ninety_characters_is_taken() -> None:
    assert jobs(request({"MessageID": "x" * 90}))[0].job_id == "x" * 90 + ":0"


def test_body_without_a_message_id_is_told_what_is_missing() -> None:
    assert_refused(request({"MessageID": ...}), "invalid-job", "id")


def test_text_and_html_body_stand_in_for_content() -> None:
    (job,) = jobs(request(Content=[], TextBody="t", HtmlBody="h"))
    assert job.inline is not None
    assert (job.inline.text, job.inline.html) == ("t", "h")
    (job,) = jobs(request(Content=[{"type": "text/html; charset=utf-8", "value": "c"}], TextBody="t", HtmlBody="h"))
    assert job.inline is not None
    assert (job.inline.text, job.inline.html) == ("t", "c")


def test_numbers_and_booleans_become_text_in_substitutions_and_custom_args() -> None:
    (job,) = jobs(request(Personalizations=[{"To": "b@y.com", "Substitutions": {"n": 2, "p": 1.5, "b": True}}], custom_args={"n": 1}))
    assert job.inline is not None
    assert job.inline.substitutions == {"n": "2", "p": "1.5", "b": "true"}
    assert job.metadata == (("n", "1"),)


def test_an_email_without_any_subject_is_refused() -> None:
    (problem,) = decode(request(Subject=..., Personalizations=[{"To": "b@y.com"}]), LIMITS)
    assert isinstance(problem, InvalidJob)
    assert problem.error.startswith("body.Personalizations[0].Subject: ")


def test_more_personalizations_than_allowed_are_refused_and_as_many_as_allowed_are_not() -> None:
    limits = DecodeLimits(max_personalizations=3)
    four = [{"To": f"b{n}@y.com"} for n in range(4)]
    assert len(jobs(request(Personalizations=four[:3]), limits)) == 3
    assert_refused(request(Personalizations=four), "invalid-job", "body.Personalizations", limits)
    assert_refused(request(Personalizations=[], To=["b@y.com"] * 4), "invalid-job", "body.To", limits)


def test_the_content_hash_is_over_addresses_subject_content_and_substitutions() -> None:
    base = jobs(request())[0].content_hash
    assert len(base) == 32
    for same in ("custom_args", "Categories", "Headers", "Attachments"):
        assert jobs(request(None, **{same: ...}))[0].content_hash == base
    personalization = {"To": "b@y.com", "Subject": "Hi Bob", "Substitutions": {"name": "Bob"}}
    changed = [personalization | {"To": "e@y.com"}, personalization | {"Subject": "x"}, personalization | {"Substitutions": {}}]
    hashes = {jobs(request(Personalizations=[one]))[0].content_hash for one in changed}
    changed_bodies: list[dict[str, Any]] = [{"Content": [], "TextBody": "x"}, {"Sections": {}}, {"Cc": []}]
    hashes |= {jobs(request(**change))[0].content_hash for change in changed_bodies}
    assert len(hashes | {base}) == 7


def test_decode_one_picks_the_email_that_decode_gave_at_that_index() -> None:
    value = request(Personalizations=[{"To": "b@y.com"}, {"To": "a@x"}, {"To": "c@y.com"}])
    items = decode(value, LIMITS)
    assert decode_one(value, 2, LIMITS) == items[2]
    problem = decode_one(value, 1, LIMITS)
    assert isinstance(problem, InvalidJob)
    assert (problem.job_id, problem.index) == ("m-uuid:1", 1)
    for payload, index in ((value, 3), (value, -1), (value, None), (request(From="x"), 0)):
        problem = decode_one(payload, index, LIMITS)
        assert isinstance(problem, InvalidJob)
        assert problem.index == index


def test_a_thousand_emails_share_the_strings_of_one_body() -> None:
    first, *_, last = jobs(request(Personalizations=[{"To": f"b{n}@y.com"} for n in range(1000)]))
    assert first.inline is not None
    assert last.inline is not None
    assert first.inline.html is last.inline.html
