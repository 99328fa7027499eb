"""A storm's plan and its orders follow from the seed alone."""

from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import pytest

from mail.decode import decode
from mail.job import Job
from mail.limits import DecodeLimits
from tests.chaos import plan, sources, weather
from tests.chaos.sources import LATE_TEMPLATE

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(5))
def test_every_trouble_comes_as_often_as_it_must_and_in_order(seed: int) -> None:
    steps = plan.make(seed)
    assert Counter(step.kind for step in steps) == plan.COUNTS
    assert [step.at_share for step in steps] == sorted(step.at_share for step in steps)
    assert all(plan.EARLIEST <= step.at_share <= plan.LATEST for step in steps)


def test_the_same_seed_makes_the_same_plan_and_the_same_orders_and_another_seed_others() -> None:
    assert plan.make(7) == plan.make(7) != plan.make(8)
    first, again, other = (list(islice(sources.make(seed), 300)) for seed in (7, 7, 8))
    assert first == again != other


def test_orders_come_by_every_way_and_each_good_one_is_a_job() -> None:
    orders = list(islice(sources.make(1), 3_000))
    ways = Counter(order.way for order in orders)
    assert all(ways[way] > 150 for way in sources.SHARES)
    for order in orders:
        jobs = [item for item in decode(order.value(NOON), DecodeLimits()) if isinstance(item, Job)]
        if all(not wanted.reason for wanted in order.piece.wanted):
            assert [job.recipient.email for job in jobs] == [wanted.recipient for wanted in order.piece.wanted]
            assert all(job.template == LATE_TEMPLATE for job in jobs) or order.way != "replay"
            assert all(job.scheduled_at and job.scheduled_at > NOON for job in jobs) or order.way != "later"


def test_a_repeat_has_the_content_of_its_first_copy() -> None:
    hashes: dict[str, bytes] = {}
    repeats = 0
    for order in islice(sources.make(1), 3_000):
        for item in decode(order.value(NOON), DecodeLimits()):
            if isinstance(item, Job):
                repeats += item.job_id in hashes
                assert hashes.setdefault(item.job_id, item.content_hash) == item.content_hash
    assert repeats > 20


def test_seventeen_of_a_hundred_calls_fail() -> None:
    assert sum(weather.FAULTS.values()) == pytest.approx(0.17)
