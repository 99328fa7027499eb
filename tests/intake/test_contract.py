"""The contract of intake/source.py, over every source."""

import time
from collections.abc import Iterator, Set
from contextlib import ExitStack

import pytest

from intake.combined import CombinedSource
from intake.due import DueSource
from intake.kafka import KafkaSource
from intake.source import Source
from mail.job import Lane
from mail.record import Record, Standing
from sandbox.kafka_mock import KafkaMock
from tests.intake.kafka_world import READY_LIMIT_S, Topic, source_of

COUNT = 40
STANDING = Standing("row", "retrying", "", 0, 0, 1, b"", True, "", 0.0)


def due_rows(count: int) -> DueSource:
    rows = [Record(b"row", "normal", f"row:{number}", standing=STANDING) for number in range(count)]

    def lease(limit: int, held: Set[Lane]) -> list[Record]:
        if "normal" in held:
            return []
        page = rows[:limit]
        del rows[:limit]
        return page

    return DueSource(lease, every_s=0.05)


def kafka_records(cluster: KafkaMock, stack: ExitStack, count: int) -> KafkaSource:
    topic = Topic(cluster, partitions=2)
    for partition in (0, 1):
        topic.produce([b"record"] * (count // 2), partition)
    return stack.enter_context(source_of(topic))


@pytest.fixture(params=["kafka", "due", "combined"])
def source(request: pytest.FixtureRequest, cluster: KafkaMock) -> Iterator[Source]:
    """A source with COUNT records to give, all there from the beginning."""
    with ExitStack() as stack:
        if request.param == "due":
            yield due_rows(COUNT)
        elif request.param == "kafka":
            yield kafka_records(cluster, stack, COUNT)
        else:
            yield CombinedSource(kafka_records(cluster, stack, COUNT // 2), due_rows(COUNT // 2))


def test_a_source_keeps_its_contract(source: Source) -> None:
    """One test, because a consumer group takes seconds to form."""
    records = poll_until(source, 1)
    source.hold_lanes({"normal", "bulk"})
    source.keep_alive()
    assert_nothing_more_comes_and_waiting_is_bounded(source)
    source.hold_lanes({"bulk"})
    records += poll_until(source, COUNT - len(records))
    assert len({record.name for record in records}) == COUNT, "each record once"
    assert_nothing_more_comes_and_waiting_is_bounded(source)
    assert all(source.owns(record) for record in records)
    assert not source.owns(Record(b"x", "normal", "elsewhere", 0, 5))
    source.keep_alive()
    source.keep_alive()
    source.commit(records[1::2])
    source.commit(records[::2])
    source.commit([])
    source.commit([Record(b"x", "normal", "elsewhere", 0, 5)])
    assert_nothing_more_comes_and_waiting_is_bounded(source)


def test_closing_is_bounded(source: Source) -> None:
    source.poll(5, 0.1)
    began_s = time.monotonic()
    source.close()
    assert time.monotonic() - began_s < 4


def poll_until(source: Source, count: int) -> list[Record]:
    """Small pages until there are so many at least."""
    records: list[Record] = []
    until_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < until_s:
        page = source.poll(7, 0.25)
        assert len(page) <= 7
        records += page
        if len(records) >= count:
            return records
    raise AssertionError(f"only {len(records)} records came")


def assert_nothing_more_comes_and_waiting_is_bounded(source: Source) -> None:
    assert source.poll(0, 1.0) == []
    began_s = time.monotonic()
    assert source.poll(5, 0.3) == []
    assert time.monotonic() - began_s < 1.5
