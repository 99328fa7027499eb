"""Whatever comes in, decode answers with a list of its three types and never raises."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mail.decode import decode, decode_one
from mail.errors import InvalidJob
from mail.job import Cancel, Job
from mail.limits import DecodeLimits

LIMITS = DecodeLimits(max_job_bytes=100_000)
REASONS = {"not-json", "too-large", "invalid-job", "invalid-address", "header-injection", "not-allowed"}

TEMPLATE_JOB: dict[str, Any] = {
    "id": "job-1",
    "type": "email",
    "template": "t",
    "recipient": {"email": "user@example.com", "name": "John", "userId": "u"},
    "data": {"a": 1},
    "priority": "high",
    "scheduledAt": "2024-01-01T10:00:00Z",
    "retryCount": 0,
    "tenant": 1,
    "from": "a@example.com",
    "cc": ["c@example.com"],
    "headers": {"X-A": ["1"]},
    "attachments": [{"name": "a", "contentType": "a/b", "content": "aGk="}],
    "tags": ["t"],
    "provider": "ses",
}
CONTENT_REQUEST: dict[str, Any] = {
    "MessageID": "m",
    "UserID": 1,
    "BatchID": 0,
    "body": {
        "From": "a@example.com",
        "To": ["b@example.com"],
        "Subject": "s",
        "Content": [{"type": "text/plain", "value": "x"}],
        "Attachments": [{"filename": "a", "content": "aGk="}],
        "Headers": {"X-A": "1"},
        "custom_args": {"a": "b"},
        "Sections": {"s": "t"},
        "Personalizations": [{"To": {"email": "b@example.com"}, "Substitutions": {"n": "v"}}, {"To": ["c@example.com"]}],
    },
}

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["\0", "\r\n", "a@x", "A <a@example.com>", "cancel", "bulk", "2024-01-01", "\u2028", "\u202e"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON_VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=15)


def assert_decodes(value: bytes) -> None:
    items = decode(value, LIMITS)
    assert items
    for item in items:
        assert isinstance(item, Job | Cancel | InvalidJob)
        if isinstance(item, InvalidJob):
            assert_names_a_field(item)
    for index in (None, 0, 1):
        one = decode_one(value, index, LIMITS)
        assert isinstance(one, Job | InvalidJob)
        if isinstance(one, InvalidJob):
            assert_names_a_field(one)


def assert_names_a_field(problem: InvalidJob) -> None:
    assert problem.reason in REASONS
    field, colon, fix = problem.error.partition(": ")
    assert field
    assert colon
    assert fix
    assert problem.error.isprintable()
    assert problem.__traceback__ is None
    assert problem.job_id is None or 0 < len(problem.job_id) <= 100
    assert 0 <= problem.tenant < 2**63


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    own = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in own] + [place for _, child in own for place in places(child)]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(value: bytes) -> None:
    assert_decodes(value)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_any_json(value: Any) -> None:
    assert_decodes(json.dumps(value).encode())


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([TEMPLATE_JOB, CONTENT_REQUEST]), st.data())
def test_a_good_job_with_anything_in_place_of_some_fields(good: dict[str, Any], data: st.DataObject) -> None:
    mutant = json.loads(json.dumps(good))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(mutant)))
        container[key] = data.draw(JSON_VALUES)
    assert_decodes(json.dumps(mutant).encode())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([TEMPLATE_JOB, CONTENT_REQUEST]), st.data())
def test_a_good_job_with_damaged_bytes(good: dict[str, Any], data: st.DataObject) -> None:
    value = bytearray(json.dumps(good, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        value[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    assert_decodes(bytes(value))


@settings(deadline=None)
@given(st.sampled_from([TEMPLATE_JOB, CONTENT_REQUEST]), st.integers(0, 600))
def test_a_good_job_cut_short(good: dict[str, Any], length: int) -> None:
    assert_decodes(json.dumps(good).encode()[:length])


def test_the_good_jobs_are_good() -> None:
    for good, count in ((TEMPLATE_JOB, 1), (CONTENT_REQUEST, 2)):
        items = decode(json.dumps(good).encode(), LIMITS)
        assert [type(item) for item in items] == [Job] * count
