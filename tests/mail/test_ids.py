"""Ids: the same as the standard library makes, sortable by time, and spelled for the wire without loss."""

import time
import uuid
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.ids import bounds_of_day, fresh_ids, from_wire, job_key, new_id, recipient_job_id, time_of, tracking_id, wire_id

N = uuid.uuid5(uuid.NAMESPACE_DNS, "email-worker")
UUIDS = st.uuids().map(str)


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.text(max_size=100))
def test_a_job_key_is_the_uuid5_of_tenant_and_job_id(tenant: int, job_id: str) -> None:
    assert job_key(tenant, job_id) == str(uuid.uuid5(N, f"job:{tenant}:{job_id}"))


@settings(deadline=None)
@given(st.text(max_size=50), st.emails())
def test_a_recipient_job_id_is_the_uuid5_of_campaign_and_lower_cased_address(campaign_id: str, address: str) -> None:
    assert recipient_job_id(campaign_id, address) == str(uuid.uuid5(N, f"recipient:{campaign_id}:{address.lower()}"))
    assert recipient_job_id(campaign_id, address.upper()) == recipient_job_id(campaign_id, address.upper().lower())


@settings(deadline=None)
@given(st.sampled_from(["ses", "smtp"]), st.integers(0, 2**63 - 1), st.text(max_size=50))
def test_a_tracking_id_is_the_uuid5_of_provider_account_and_event(provider: str, tenant: int, event_id: str) -> None:
    assert tracking_id(provider, tenant, event_id) == str(uuid.uuid5(N, f"event:{provider}:{tenant}:{event_id}"))


@settings(deadline=None)
@given(UUIDS)
def test_a_wire_id_comes_back_as_the_id(id_: str) -> None:
    wire = wire_id(id_)
    assert len(wire) == 26
    assert set(wire) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert from_wire(wire) == from_wire(wire.lower()) == id_


@settings(deadline=None)
@given(UUIDS, UUIDS)
def test_wire_ids_sort_as_their_ids_do(one: str, other: str) -> None:
    assert (wire_id(one) < wire_id(other)) == (one < other)


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "I" * 26, "U" + "0" * 25, "Z" * 26, "8" + "0" * 25, "é" * 26, "0" * 25 + " "])
def test_what_is_no_wire_id_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="wire id"):
        from_wire(text)


@settings(deadline=None)
@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_new_ids_are_version_7_and_sort_by_time(one_ms: int, other_ms: int) -> None:
    one, other = new_id(one_ms), new_id(other_ms)
    parsed = uuid.UUID(one)
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, one)
    assert time_of(one) == one_ms / 1000
    if one_ms != other_ms:
        assert (one < other) == (one_ms < other_ms)


def test_new_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_id(1_700_000_000_000) for _ in range(1000)}) == 1000


def test_fresh_ids_are_version_7_of_this_moment_and_all_different() -> None:
    before_s = time.time()
    ids = list(islice(fresh_ids(), 1000))
    assert len({id_[15:] for id_ in ids}) == 1000
    for id_ in ids:
        parsed = uuid.UUID(id_)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, id_)
        assert before_s - 1 < time_of(id_) < time.time() + 1


def test_an_id_lies_within_the_bounds_of_its_day_and_of_no_other() -> None:
    day = 86_400_000
    low, high = bounds_of_day(20_000 * day, 20_001 * day)
    assert low <= new_id(20_000 * day) < high
    assert low <= new_id(20_001 * day - 1) < high
    assert new_id(20_001 * day) >= high
    assert new_id(20_000 * day - 1) < low
