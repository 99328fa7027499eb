"""Due rows and how they share a batch with Kafka."""

from collections.abc import Callable, Sequence, Set
from typing import cast

import pytest

from intake.combined import CombinedSource
from intake.due import DueSource
from intake.kafka import KafkaSource
from mail.errors import StoreUnavailable
from mail.job import Lane
from mail.record import Record


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.longest_sleep_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.longest_sleep_s = max(self.longest_sleep_s, duration_s)
        self.now_s += duration_s


def rows(count: int) -> list[Record]:
    return [Record(b"{}", "normal", f"row:{number}") for number in range(count)]


def full_page(limit: int, held: Set[Lane]) -> list[Record]:
    return rows(limit)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def source_with(lease: Callable[[int, Set[Lane]], list[Record]], clock: Clock) -> DueSource:
    return DueSource(lease, every_s=2.0, clock=clock, sleep=clock.sleep)


def test_an_idle_database_is_asked_only_every_so_often(clock: Clock) -> None:
    asked: list[float] = []

    def lease(limit: int, held: Set[Lane]) -> list[Record]:
        asked.append(clock.now_s)
        return []

    source = source_with(lease, clock)
    for _ in range(100):
        source.poll(10, 0.1)
    assert asked == pytest.approx([1000, 1002, 1004, 1006, 1008], abs=0.01)


def test_a_full_page_is_followed_by_the_next_at_once(clock: Clock) -> None:
    pages = [rows(10), rows(10), rows(3)]
    source = source_with(lambda limit, held: pages.pop(0), clock)
    assert [len(source.poll(10, 0.0)) for _ in range(3)] == [10, 10, 3]
    assert source.wait_s() == 2.0
    assert source.poll(10, 0.0) == []
    assert clock.now_s == 1000.0


def test_waiting_is_cut_into_slices_so_that_signals_are_seen(clock: Clock) -> None:
    source = source_with(lambda limit, held: [], clock)
    source.poll(10, 0.0)
    source.poll(10, 1.5)
    assert clock.now_s == pytest.approx(1001.5)
    assert clock.longest_sleep_s <= 0.25


def test_rows_that_become_due_during_the_wait_are_taken(clock: Clock) -> None:
    pages = [[], rows(1)]
    source = source_with(lambda limit, held: pages.pop(0), clock)
    assert source.poll(10, 0.0) == []
    assert source.poll(10, 5.0) == rows(1)
    assert clock.now_s == pytest.approx(1002.0)


def test_an_unavailable_database_is_not_hammered(clock: Clock) -> None:
    def lease(limit: int, held: Set[Lane]) -> list[Record]:
        raise StoreUnavailable("away")

    source = source_with(lease, clock)
    with pytest.raises(StoreUnavailable):
        source.poll(10, 0.0)
    assert source.poll(10, 0.0) == []


class FakeKafka:
    """Always full, or always empty."""

    def __init__(self, is_full: bool):
        self.is_full = is_full
        self.committed: list[Record] = []
        self.waits_s: list[float] = []

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        self.waits_s.append(timeout_s)
        return [Record(b"{}", "normal", "jobs", 0, number) for number in range(limit if self.is_full else 0)]

    def commit(self, records: Sequence[Record]) -> None:
        self.committed += records

    def owns(self, record: Record) -> bool:
        return record.offset < 5


def combined(kafka: FakeKafka, due: DueSource) -> CombinedSource:
    return CombinedSource(cast(KafkaSource, kafka), due)


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
def test_when_both_are_full_each_gets_about_half(limit: int, clock: Clock) -> None:
    source = combined(FakeKafka(is_full=True), source_with(full_page, clock))
    taken = [record for _ in range(100) for record in source.poll(limit, 1.0)]
    assert len(taken) == limit * 100
    assert sum(record.topic == "jobs" for record in taken) == limit * 50


def test_kafka_alone_fills_the_whole_batch(clock: Clock) -> None:
    source = combined(FakeKafka(is_full=True), source_with(lambda limit, held: [], clock))
    assert len(source.poll(500, 1.0)) == 500


def test_rows_in_hand_do_not_wait_for_kafka(clock: Clock) -> None:
    kafka = FakeKafka(is_full=False)
    assert len(combined(kafka, source_with(full_page, clock)).poll(500, 1.0)) == 250
    assert kafka.waits_s == [0.0]


def test_kafka_is_not_waited_for_longer_than_until_rows_are_asked_for(clock: Clock) -> None:
    kafka = FakeKafka(is_full=False)
    source = combined(kafka, source_with(lambda limit, held: [], clock))
    source.poll(500, 10.0)
    clock.now_s += 1.5
    source.poll(500, 10.0)
    assert kafka.waits_s == [2.0, 0.5]


def test_a_failing_lease_takes_no_kafka_records_along(clock: Clock) -> None:
    def lease(limit: int, held: Set[Lane]) -> list[Record]:
        raise StoreUnavailable("away")

    kafka = FakeKafka(is_full=True)
    source = combined(kafka, source_with(lease, clock))
    with pytest.raises(StoreUnavailable):
        source.poll(10, 0.0)
    assert kafka.waits_s == []
    assert len(source.poll(10, 0.0)) == 10


def test_only_kafka_records_are_committed_and_ownership_is_asked_where_it_belongs(clock: Clock) -> None:
    kafka = FakeKafka(is_full=True)
    source = combined(kafka, source_with(full_page, clock))
    records = source.poll(10, 0.0)
    source.commit(records)
    assert [record.offset for record in kafka.committed] == [0, 1, 2, 3, 4]
    assert all(source.owns(record) for record in records)
    assert not source.owns(Record(b"", "normal", "jobs", 0, 9))
