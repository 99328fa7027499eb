"""Which slot reads what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.lanes import Subscription, subscription
from mail.job import Lane

TOPICS: dict[Lane, str] = {"high": "jobs-high", "normal": "jobs, jobs.extra", "bulk": "jobs-bulk"}


def lanes(slot: int, workers: int, express: int) -> tuple[Lane, ...]:
    return subscription(slot, workers, express, TOPICS).row_lanes


def test_a_single_worker_serves_all_lanes() -> None:
    assert subscription(0, 1, 1, TOPICS) == Subscription(
        (("jobs-high", "high"), ("jobs", "normal"), ("jobs.extra", "normal"), ("jobs-bulk", "bulk")), ("high", "normal", "bulk")
    )


def test_the_first_slots_are_express_and_the_others_never_touch_high() -> None:
    assert [lanes(slot, 4, 2) for slot in range(4)] == [("high",), ("high",), ("normal", "bulk"), ("normal", "bulk")]


def test_without_express_workers_everybody_serves_all() -> None:
    assert [lanes(slot, 3, 0) for slot in range(3)] == [("high", "normal", "bulk")] * 3


@given(st.integers(1, 64), st.integers(0, 80))
def test_every_lane_is_served_by_somebody(workers: int, express: int) -> None:
    assert {lane for slot in range(workers) for lane in lanes(slot, workers, express)} == {"high", "normal", "bulk"}


def test_a_regex_hides_the_topics_of_other_slots_and_our_own() -> None:
    topics: dict[Lane, str] = {"high": "jobs-high", "normal": "^jobs.*", "bulk": "jobs-bulk"}
    found = subscription(1, 2, 1, topics, ours=("jobs-dlq", "jobs-bulk"))
    assert found.topics == (("^jobs.*", "normal"), ("jobs-bulk", "bulk"))
    assert found.hidden == ("jobs-high", "jobs-dlq")


@pytest.mark.parametrize(
    ("topic", "lane"), [("jobs-high", "high"), ("jobs-refund", "normal"), ("jobs-bulk", "bulk"), ("unheard-of", "normal")]
)
def test_the_exact_name_decides_the_lane_before_any_regex(topic: str, lane: Lane) -> None:
    topics: dict[Lane, str] = {"high": "jobs-high", "normal": "^jobs-.*", "bulk": "jobs-bulk"}
    assert subscription(0, 1, 0, topics).lane_of(topic) == lane


def test_empty_names_are_no_topics() -> None:
    assert subscription(0, 1, 0, {"high": "", "normal": "jobs,,", "bulk": " "}).topics == (("jobs", "normal"),)
