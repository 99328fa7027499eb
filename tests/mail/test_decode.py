"""What comes in as bytes: the parser's refusals, template jobs and cancels. Each sentence of the wire format is a test."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.decode import decode, decode_one
from mail.errors import InvalidJob
from mail.job import Cancel, Job
from mail.limits import DecodeLimits
from mail.message import Address
from mail.template import JOB_TYPES

LIMITS = DecodeLimits(providers=frozenset({"postmark", "ses", "sendgrid"}))


def template_job(**changes: Any) -> dict[str, Any]:
    """A job in which every field is set, so that a test changes one thing."""
    job = {
        "id": "job-1",
        "type": "email",
        "template": "booking-confirmation",
        "recipient": {"email": "user@example.com", "name": "John Doe", "userId": "u-1"},
        "data": {"bookingId": "b-1", "ticketCount": 2, "totalAmount": 150.0},
        "priority": "high",
        "scheduledAt": "2024-01-01T10:00:00Z",
        "expiresAt": "2024-01-02T10:00:00Z",
        "retryCount": 1,
        "maxRetries": 3,
        "tenant": 42,
        "from": "Shop <shop@example.com>",
        "replyTo": "help@example.com",
        "cc": ["c@example.com"],
        "bcc": ["d@example.com"],
        "headers": {"X-Campaign": "1", "X-Many": ["a", "b"]},
        "attachments": [{"name": "t.pdf", "contentType": "application/pdf", "content": "aGk="}],
        "tags": ["news"],
        "campaignId": "camp-1",
        "batchId": 7,
        "locale": "de-DE",
        "provider": "ses",
    }
    return {name: value for name, value in (job | changes).items() if value is not ...}


def only(value: bytes | dict[str, Any], limits: DecodeLimits = LIMITS) -> Any:
    items = decode(value if isinstance(value, bytes) else json.dumps(value).encode(), limits)
    assert len(items) == 1
    return items[0]


def assert_refused(value: bytes | dict[str, Any], reason: str, field: str, limits: DecodeLimits = LIMITS) -> InvalidJob:
    item = only(value, limits)
    assert isinstance(item, InvalidJob), item
    assert item.reason == reason, item.error
    assert item.error.startswith(f"{field}: "), item.error
    return item


def accepted(value: bytes | dict[str, Any], limits: DecodeLimits = LIMITS) -> Job:
    item = only(value, limits)
    assert isinstance(item, Job), item
    return item


def test_every_field_of_a_template_job_arrives() -> None:
    job = accepted(template_job())
    assert (job.tenant, job.job_id, job.type, job.template, job.index) == (42, "job-1", "email", "booking-confirmation", None)
    assert job.to == (Address("user@example.com", "John Doe"),)
    assert (job.user_id, job.data["totalAmount"], job.priority, job.retry_count, job.max_retries) == ("u-1", 150.0, "high", 1, 3)
    assert job.scheduled_at == datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert job.expires_at == datetime(2024, 1, 2, 10, tzinfo=UTC)
    assert (job.sender, job.reply_to) == (Address("shop@example.com", "Shop"), Address("help@example.com"))
    assert (job.cc, job.bcc) == ((Address("c@example.com"),), (Address("d@example.com"),))
    assert job.headers == (("X-Campaign", "1"), ("X-Many", "a"), ("X-Many", "b"))
    attachment = job.attachments[0]
    assert (attachment.name, attachment.content_type, attachment.content, attachment.disposition) == (
        *("t.pdf", "application/pdf", "aGk="),
        "attachment",
    )
    assert (job.tags, job.campaign_id, job.batch_id, job.locale, job.provider) == (("news",), "camp-1", 7, "de-DE", "ses")


def test_a_job_needs_no_more_than_id_template_and_recipient_and_ignores_unknown_fields() -> None:
    job = accepted({"zebra": [{}], "recipient": {"email": "a@example.com"}, "template": "t", "id": "1"})
    assert (job.type, job.priority, job.tenant, job.max_retries, job.data, job.sender) == ("email", "normal", 0, None, {}, None)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"", "value"),
        (b"hello", "value"),
        (b'{"id":', "value"),
        (b'{"id":1} x', "value"),
        (b"\xef\xbb\xbf{}", "value"),
        ('{"id":"1"}'.encode("utf-16"), "value"),
        (b'{"id":"\xe9"}', "value"),
        (b'{"id":"\xed\xa0\x80"}', "value"),
        (b'{"id":"\\ud800"}', "value"),
        (b'{"id":"\\udc00\\ud800"}', "value"),
        (b'{"\\ud800":1}', "value"),
        (b'{"id":NaN}', "value"),
        (b'{"id":-Infinity}', "value"),
        (b'{"id":1e999}', "value"),
        (b'{"id":' + b"1" * 5000 + b"}", "value"),
        (b"[" * 200_000, "value"),
        (b"[" * 200_000 + b"]" * 200_000, "value"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "value"),
        (b'{"data":' + b"[" * 100 + b"]" * 100 + b"}", "value"),
    ],
)
def test_what_the_parser_cannot_read_is_not_json(value: bytes, field: str) -> None:
    assert_refused(value, "not-json", field)


def test_nesting_up_to_the_limit_and_many_brackets_side_by_side_are_fine() -> None:
    deep: Any = "x"
    for _ in range(98):
        deep = [deep]
    assert accepted(template_job(data={"deep": deep})).data["deep"] == deep
    assert len(accepted(template_job(data={"wide": [[]] * 500})).data["wide"]) == 500
    assert_refused(template_job(data={"deep": [[deep]]}), "not-json", "value")


@pytest.mark.parametrize("value", [b"null", b"5", b'"x"', b"[]", b"true"])
def test_json_that_is_no_object_is_an_invalid_job(value: bytes) -> None:
    assert_refused(value, "invalid-job", "value")


def test_a_value_over_the_limit_is_too_large_and_one_at_the_limit_is_not() -> None:
    value = json.dumps(template_job()).encode()
    accepted(value, DecodeLimits(max_job_bytes=len(value)))
    assert_refused(value, "too-large", "value", DecodeLimits(max_job_bytes=len(value) - 1))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data": {"a": {"b": ["x", "\0"]}}}, "data.a.b[1]"),
        ({"data": {"someone@example.com": "\0"}}, "data...."),
        ({"data": {"a\0": 1}}, "data"),
        ({"unknown": "\0"}, "unknown"),
        ({"recipient": {"email": "a@example.com", "name": "a\0b"}}, "recipient.name"),
        ({"headers": {"X-A": "\0"}}, "headers.X-A"),
        ({"id": "job\0"}, "id"),
    ],
)
def test_a_nul_anywhere_is_an_invalid_job(changes: dict[str, Any], field: str) -> None:
    problem = assert_refused(template_job(**changes), "invalid-job", field)
    assert problem.job_id == (None if "id" in changes else "job-1")
    assert problem.tenant == 42


def test_text_that_only_looks_like_an_escaped_nul_passes() -> None:
    assert accepted(template_job(data={"a": "\\u0000"})).data["a"] == "\\u0000"


def test_large_integers_in_data_stay_exact() -> None:
    assert accepted(template_job(data={"n": 2**70})).data["n"] == 2**70


WRONG_TYPES: dict[str, list[Any]] = {
    "id": [None, 1, True, [], {}, "", "x" * 101, "a\nb", "a\u200bb", ...],
    "type": [1, [], {}, True, "unknown", "Email"],
    "template": [1, [], {}, "x" * 101, "a\tb"],
    "recipient": [None, 1, True, [], ["a@example.com"], {}, {"email": 1}, {"email": None}, {"email": "a@x.com", "name": 1}, ...],
    "data": [1, "x", [], True],
    "priority": [1, "urgent", "High", [], {}],
    "scheduledAt": [1, "tomorrow", "2024-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00", [], {}, True],
    "expiresAt": [1, "x", {}],
    "retryCount": ["1", -1, 101, 1.5, True, [], 2**70],
    "maxRetries": ["1", -1, 101, 1.5, True, {}],
    "tenant": ["1", -1, 1.5, True, False, [], 2**63],
    "from": [1, True, [], {}],
    "replyTo": [1, [], {}],
    "cc": [1, False, {}, [1], [None]],
    "bcc": [1, False, {}, [[]]],
    "headers": [1, "x", [], {"X-A": 1}, {"X-A": {}}, {"X-A": [1]}, {"X-A": None}, {"X-A": "v" * 999}],
    "attachments": [1, "x", {}, [1], [{}], [{"name": "a", "content": "%%%"}], [{"name": "a", "content": ""}], [{"content": "aGk="}]],
    "tags": [1, "x", {}, [1], [None]],
    "campaignId": [1, [], "x" * 101, "a\nb"],
    "batchId": ["1", -1, True, 1.5],
    "locale": [1, [], "x" * 101],
    "provider": [1, [], "mailgun", "SES"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG_TYPES.items() for value in values])
def test_a_wrong_type_length_or_range_is_an_invalid_job_that_names_the_field(field: str, value: Any) -> None:
    item = only(template_job(**{field: value}))
    assert isinstance(item, InvalidJob), item
    assert item.reason == "invalid-job"
    assert item.error.startswith(field), item.error
    assert item.tenant == (0 if field == "tenant" else 42)


@pytest.mark.parametrize("field", [field for field in WRONG_TYPES if field not in ("id", "recipient", "template")])
def test_null_means_that_an_optional_field_is_not_given(field: str) -> None:
    assert only(template_job(**{field: None})) == only(template_job(**{field: ...}))


def test_errors_never_show_a_value() -> None:
    secrets = {"recipient": {"email": "geheim@x", "name": "Geheim"}, "priority": "geheim", "provider": "geheim", "scheduledAt": "geheim"}
    for field, value in secrets.items():
        assert "geheim" not in str(only(template_job(**{field: value})).error).lower()


def test_a_missing_type_with_a_template_means_email() -> None:
    assert accepted(template_job(type=...)).type == "email"


@pytest.mark.parametrize("name", JOB_TYPES)
def test_a_job_type_names_the_template_unless_one_is_given(name: str) -> None:
    job = accepted(template_job(type=name, template=...))
    assert (job.type, job.template) == (name, name)
    job = accepted(template_job(type=name, template="other"))
    assert (job.type, job.template) == (name, "other")


def test_neither_type_nor_template_is_a_dead_letter_and_so_is_email_without_a_template() -> None:
    assert_refused(template_job(type=..., template=...), "invalid-job", "type")
    assert_refused(template_job(template=...), "invalid-job", "template")


def test_bulk_is_not_allowed_and_recipients_belong_to_bulk_only() -> None:
    problem = assert_refused(
        {"id": "camp-1", "type": "bulk", "template": "n", "recipients": [{"email": "a@example.com"}]}, "not-allowed", "type"
    )
    assert problem.job_id == "camp-1"
    assert_refused(template_job(recipients=[{"email": "a@example.com"}]), "invalid-job", "recipients")


def test_a_cancel_needs_only_an_id_and_a_tenant() -> None:
    assert only({"id": "job-1", "type": "cancel", "tenant": 3, "priority": 5}) == Cancel(3, "job-1")
    assert only({"id": "m:0", "type": "cancel"}) == Cancel(0, "m:0")
    assert_refused({"type": "cancel"}, "invalid-job", "id")
    assert_refused({"id": "1", "type": "cancel", "tenant": True}, "invalid-job", "tenant")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01T10:00:00Z", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("2024-01-01T10:00:00", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("2024-01-01T12:30:00.123456789+02:30", datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ("", None),
    ],
)
def test_times_are_iso_8601_and_utc_where_no_offset_is_given(text: str, expected: datetime | None) -> None:
    assert accepted(template_job(scheduledAt=text)).scheduled_at == expected


CONTROLS = ["\r\nBcc: x@example.com", "\n", "\r", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("recipient.name", lambda c: {"recipient": {"email": "a@example.com", "name": f"A{c}B"}}),
        ("recipient.email", lambda c: {"recipient": {"email": f"a@example.com{c}"}}),
        ("from", lambda c: {"from": f"A{c}B <a@example.com>"}),
        ("replyTo", lambda c: {"replyTo": f"a{c}@example.com"}),
        ("cc[0]", lambda c: {"cc": [f"a@example.com{c}"]}),
        ("headers.X-A", lambda c: {"headers": {"X-A": f"v{c}w"}}),
        ("headers.X-A", lambda c: {"headers": {"X-A": ["v", f"v{c}w"]}}),
        ("headers", lambda c: {"headers": {f"X-A{c}": "v"}}),
        ("attachments[0].name", lambda c: {"attachments": [{"name": f"a{c}.pdf", "content": "aGk="}]}),
        ("attachments[0].contentType", lambda c: {"attachments": [{"name": "a", "contentType": f"a/b{c}", "content": "aGk="}]}),
        ("attachments[0].contentId", lambda c: {"attachments": [{"name": "a", "contentId": f"b{c}", "content": "aGk="}]}),
        ("tags[0]", lambda c: {"tags": [f"a{c}"]}),
    ],
)
def test_a_control_character_in_what_becomes_a_header_is_header_injection(control: str, path: str, change: Any) -> None:
    assert_refused(template_job(**change(control)), "header-injection", path)


@pytest.mark.parametrize(
    "name", ["To", "BCC", "From", "Subject", "DKIM-Signature", "Content-Type", "Received", "X-SMTPAPI", "X-Attempt-Id"]
)
def test_headers_that_are_not_the_callers_are_not_allowed(name: str) -> None:
    assert_refused(template_job(headers={name: "v"}), "not-allowed", f"headers.{name}")


def test_a_header_name_with_a_colon_or_a_blank_is_header_injection() -> None:
    for name in ("X-A: b", "X-A:", "", "X-ä"):
        assert only(template_job(headers={name: "v"})).reason == "header-injection"


def test_more_than_fifty_addresses_are_an_invalid_job() -> None:
    addresses = [f"a{n}@example.com" for n in range(49)]
    assert len(accepted(template_job(cc=addresses, bcc=[])).cc) == 49
    assert_refused(template_job(cc=addresses, bcc=["b@example.com"]), "invalid-job", "cc")
    assert_refused(template_job(bcc=["b@example.com"] * 51), "invalid-job", "bcc")


def test_an_address_that_stands_twice_gets_one_mail() -> None:
    job = accepted(template_job(cc=["USER@example.com", "c@example.com"], bcc=["c@example.com", "d@example.com"]))
    assert (job.cc, job.bcc) == ((Address("c@example.com"),), (Address("d@example.com"),))


SAME: list[dict[str, Any]] = [
    {"priority": "low"},
    {"scheduledAt": "2030-01-01T00:00:00Z"},
    {"retryCount": 2},
    {"recipient": "John Doe <user@EXAMPLE.com>"},
]
OTHER: list[dict[str, Any]] = [
    {"template": "other"},
    {"type": "welcome-email"},
    {"data": {"bookingId": "b-2"}},
    {"recipient": {"email": "other@example.com", "name": "John Doe"}},
    {"recipient": {"email": "user@example.com", "name": "Jane Doe"}},
]


def test_the_content_hash_tells_other_content_but_not_another_priority_schedule_or_key_order() -> None:
    base = template_job(recipient={"email": "user@example.com", "name": "John Doe"})
    wanted = accepted(base).content_hash
    assert len(wanted) == 32
    reordered = base | {"data": dict(reversed(base["data"].items()))}
    assert accepted(dict(reversed(reordered.items()))).content_hash == wanted
    for change in SAME:
        assert accepted(base | change).content_hash == wanted, change
    for change in OTHER:
        assert accepted(base | change).content_hash != wanted, change


def test_decode_one_reads_a_stored_template_job_again_and_refuses_an_index_into_it() -> None:
    value = json.dumps(template_job()).encode()
    assert decode_one(value, None, LIMITS) == only(value)
    for payload, index in ((value, 0), (b"{}", 1), (b"x", None), (b'{"id":"1","type":"cancel"}', None)):
        problem = decode_one(payload, index, LIMITS)
        assert isinstance(problem, InvalidJob)
        assert problem.index == index
