"""From a webhook topic's record to a callback, whatever somebody put into it."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mail.callback import Callback
from mail.envelope import MAX_EVENTS, MAX_HEADERS, read_envelope
from mail.errors import BadCallback
from tests.esp.mutations import documented, mutated, mutated_bytes

EVENT = {"event": "open", "email": "ann@a.test"}


def read(value: Any, **changes: Any) -> Callback:
    return read_envelope(json.dumps(value).encode(), **changes)


def test_a_raw_body_is_kept_byte_for_byte_and_parsed() -> None:
    raw = '[{"event": "open",  "n": 1.0, "é": "\\u00e9"}]\r\n'
    callback = read({"headers": {"X-Sig": ["abc"]}, "body": raw})
    assert callback.raw == raw.encode()
    assert callback.document == [{"event": "open", "n": 1.0, "é": "é"}]
    assert callback.headers == {"x-sig": "abc"}


@pytest.mark.parametrize("body", [EVENT, [EVENT, EVENT], {}, []])
def test_a_parsed_body_has_no_raw_bytes(body: Any) -> None:
    callback = read({"headers": {}, "body": body, "tenant": 42, "unknown": 1})
    assert callback == Callback({}, None, body, None, 42)


@pytest.mark.parametrize("body", [EVENT, [EVENT], {"msys": {}}, {"headers": {}, "event": "open"}, {"body": "custom", "event": "open"}])
def test_a_bare_body_is_taken_too(body: Any) -> None:
    assert read(body) == Callback({}, None, body)


def test_the_records_time_travels_along() -> None:
    assert read([EVENT], received_at_s=1_800_000_000.5).received_at_s == 1_800_000_000.5


def test_headers_lose_their_case_and_none_hides_behind_another() -> None:
    callback = read({"headers": {"X-A": ["1", "2"], "x-a": "3", "Authorization": "Basic x", "Empty": []}, "body": {}})
    assert callback.headers == {"x-a": "1, 2, 3", "authorization": "Basic x", "empty": ""}
    assert read({"headers": None, "body": {}}).headers == {}
    assert read({"body": {}}).headers == {}


@pytest.mark.parametrize(
    "headers",
    [7, "x", [], {"a": 7}, {"a": [7]}, {"a": None}, {"a": {"b": "c"}}, {str(n): "" for n in range(MAX_HEADERS + 1)}, {"a": "x" * 70_000}],
)
def test_headers_that_are_none_are_refused(headers: Any) -> None:
    with pytest.raises(BadCallback, match="headers"):
        read({"headers": headers, "body": {}})


@pytest.mark.parametrize("body", [None, 7, True, "", "not json", "7", "null", '"text"', "[" * 200 + "]" * 200, "{", "[NaN]", '["\\ud800"]'])
def test_a_body_that_is_none_is_refused(body: Any) -> None:
    with pytest.raises(BadCallback):
        read({"headers": {}, "body": body})


@pytest.mark.parametrize("tenant", [-1, 2**63, "42", 4.2, True, [], {}])
def test_a_tenant_that_is_none_is_refused(tenant: Any) -> None:
    with pytest.raises(BadCallback, match="tenant"):
        read({"headers": {}, "body": {}, "tenant": tenant})
    assert read({"headers": {}, "body": {}, "tenant": None}).tenant == 0


@pytest.mark.parametrize("value", [b"", b"\xff", b"7", b"null", b'"x"', b"[", b'{"body":', b"[" * 100_000, b'{"body": {}} {}'])
def test_bytes_that_are_no_callback_are_refused(value: bytes) -> None:
    with pytest.raises(BadCallback):
        read_envelope(value)


def test_too_many_bytes_or_events_are_refused() -> None:
    with pytest.raises(BadCallback, match="bytes"):
        read_envelope(b'{"body": {}}', max_bytes=11)
    with pytest.raises(BadCallback, match="events"):
        read([0] * (MAX_EVENTS + 1))
    with pytest.raises(BadCallback, match="events"):
        read({"headers": {}, "body": json.dumps([0] * (MAX_EVENTS + 1))})


@pytest.mark.parametrize("as_text", [True, False])
def test_nul_leaves_the_parsed_body_but_not_the_raw_one(as_text: bool) -> None:
    body = {"a\0": ["x\0y", {"b": "\0"}], "c": 1}
    callback = read({"headers": {}, "body": json.dumps(body) if as_text else body})
    assert callback.document == {"a\ufffd": ["x\ufffdy", {"b": "\ufffd"}], "c": 1}
    assert callback.raw == (json.dumps(body).encode() if as_text else None)


def test_no_error_and_no_repr_repeats_what_was_sent() -> None:
    for value in (
        {"headers": {"a": [7]}, "body": "ann@a.test"},
        {"headers": {}, "body": "ann@a.test"},
        {"tenant": "ann@a.test", "body": {}},
    ):
        with pytest.raises(BadCallback) as refusal:
            read(value)
        assert "ann" not in str(refusal.value)
    assert "ann" not in repr(read({"headers": {"authorization": "ann"}, "body": EVENT}))


@given(seed=st.integers(0, 2**64))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand_mutations_raise_nothing_but_bad_callback(seed: int) -> None:
    dice = random.Random(seed)
    bodies = [example["body"] for _, example in documented()]
    for _ in range(100):
        body = dice.choice(bodies)
        envelope = {"headers": {"Authorization": ["Basic x"]}, "body": json.dumps(body) if dice.random() < 0.5 else body, "tenant": 7}
        value = json.dumps(mutated(envelope, dice) if dice.random() < 0.5 else envelope).encode()
        try:
            callback = read_envelope(mutated_bytes(value, dice))
        except BadCallback:
            continue
        assert isinstance(callback.document, dict | list)
        assert "\\u0000" not in json.dumps(callback.document).replace("\\\\", "")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    try:
        callback = read_envelope(value)
    except BadCallback:
        return
    assert isinstance(callback.document, dict | list)
