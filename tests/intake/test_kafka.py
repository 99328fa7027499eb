"""The Kafka source against a mock cluster, and its reactions to what the mock cannot do against a fake client."""

import logging
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException, TopicPartition

from intake.kafka import KafkaSource
from intake.lanes import Subscription, subscription
from mail.errors import Expelled
from mail.record import Record
from sandbox.kafka_mock import KafkaMock
from sandbox.librdkafka import Api
from tests.intake.kafka_world import READY_LIMIT_S, Topic, poll_count, source_of
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough


def poll_until(is_so: Callable[[], object], source: KafkaSource) -> None:
    wait_until(is_so, READY_LIMIT_S, lambda: source.poll(10, 0.05))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[KafkaMock]:
    """For tests that hurt it."""
    with KafkaMock(tmp_path / "kafka") as mock:
        yield mock


def test_records_come_as_they_are_and_tombstones_as_none(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"\xff\x00", None, b""])
    with source_of(topic) as source:
        records = poll_count(source, 3)
        assert [record.value for record in records] == [b"\xff\x00", None, b""]
        assert records[1] == Record(None, "normal", topic.name, 0, 1, received_at_s=records[1].received_at_s)


def test_a_record_says_when_it_was_written(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    before = time.time()
    topic.produce([b"x"])
    with source_of(topic) as source:
        (record,) = poll_count(source, 1)
        assert record.received_at_s is not None and before - 1 < record.received_at_s < time.time() + 1


def test_one_waiting_record_is_not_kept_waiting_for_more(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"first"])
    with source_of(topic) as source:
        poll_count(source, 1)
        topic.produce([b"second"])
        began_s = time.monotonic()
        assert len(source.poll(500, 120.0)) == 1
        assert time.monotonic() - began_s < 60, "it waited for more"


def test_a_backlog_fills_a_batch_at_once(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"] * 3000)
    with source_of(topic) as source:
        poll_until(lambda: len(source.poll(500, 0.25)) > 400, source)
        records = source.poll(500, 5.0)
        assert len(records) == 500
        assert [record.offset for record in records] == list(range(records[0].offset, records[0].offset + 500))


def test_only_what_is_handled_without_a_gap_is_committed(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"] * 10)
    with source_of(topic) as source:
        records = poll_count(source, 10)
        source.commit(records[5:])
        source.commit(records[:3])
        poll_until(lambda: topic.committed() is not None, source)
        assert topic.committed() == 3


def test_committing_older_records_later_never_moves_back(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"] * 10)
    with source_of(topic) as source:
        records = poll_count(source, 10)
        source.commit(records)
        poll_until(lambda: topic.committed() == 10, source)
        source.commit(records[:2])
        source.commit(records)
        source.poll(1, 0.3)
        assert topic.committed() == 10


def test_a_refused_commit_is_repeated_without_another_record(cluster: KafkaMock, caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"])
    with source_of(topic) as source:
        records = poll_count(source, 1)
        cluster.push_errors(Api.OFFSET_COMMIT, [KafkaError.OFFSET_METADATA_TOO_LARGE])
        source.commit(records)
        poll_until(lambda: topic.committed() == 1, source)
    assert "Kafka does not answer as it should" in caplog.text


def test_while_kept_alive_no_record_comes_and_afterwards_all_do(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"first"])
    with source_of(topic) as source:
        first = poll_count(source, 1)
        topic.produce([b"second", b"third"])
        for _ in range(20):  # a second in which something could come
            source.keep_alive()
            time.sleep(0.05)
        assert source.owns(first[0])
        assert source.lag() == {(topic.name, 0): 1}, "nothing was taken"
        rest = poll_count(source, 2)
        assert [record.value for record in rest] == [b"second", b"third"]


def test_a_held_lane_stays_with_the_broker_while_another_goes_on(cluster: KafkaMock) -> None:
    calm, stopped = Topic(cluster), Topic(cluster)
    both = Subscription(((calm.name, "normal"), (stopped.name, "bulk")), ("normal", "bulk"))
    with source_of(calm, both) as source:
        source.hold_lanes({"bulk"})
        stopped.produce([b"held"] * 3_000)
        calm.produce([b"first"] * 50)
        assert {record.value for record in poll_count(source, 50)} == {b"first"}
        for _ in range(20):
            assert source.poll(500, 0.05) == []
        assert len(source._set_aside) <= 500, "no more of it in our memory than one poll brought"
        source.hold_lanes(set())
        records = poll_count(source, 3_000)
        assert [record.offset for record in records] == list(range(3_000)), "all, and in their order"


def test_lag_counts_what_is_behind_the_handled_records(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"] * 10)
    with source_of(topic) as source:
        records = poll_count(source, 10)
        assert source.lag() == {(topic.name, 0): 10}
        source.commit(records[:4])
        assert source.lag() == {(topic.name, 0): 6}


def test_a_partition_where_nothing_is_left_or_ever_was_has_a_position_too(cluster: KafkaMock) -> None:
    topic = Topic(cluster, partitions=2)
    topic.produce([b"x"] * 10)
    with source_of(topic) as source:
        source.commit(poll_count(source, 10))
        poll_until(lambda: topic.committed() == 10, source)
    with source_of(topic) as successor:
        poll_until(lambda: successor.positions() == {(topic.name, 0): 10, (topic.name, 1): 0}, successor)
        assert successor.lag() == {(topic.name, 0): 0, (topic.name, 1): 0}
        topic.produce([b"y"] * 3)
        assert successor.ends(5.0) == {(topic.name, 0): 13, (topic.name, 1): 0}, "asked, not remembered"


def test_where_no_broker_answers_in_time_no_end_is_known(own_cluster: KafkaMock, caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic(own_cluster)
    with source_of(topic) as source:
        poll_until(lambda: source.positions() == {(topic.name, 0): 0}, source)
        own_cluster.stop()
        assert source.ends(0.2) == {}


def test_lanes_come_from_topics_and_a_regex_finds_no_hidden_topic(cluster: KafkaMock) -> None:
    word = uuid.uuid4().hex[:8]
    refunds, high, dead = (Topic(cluster, name=f"{word}.{name}") for name in ("refunds", "high", "dlq"))
    for topic in (refunds, high, dead):
        topic.produce([topic.name.encode()])
    names = {"high": high.name, "normal": f"^{word}.*", "bulk": ""}
    slow = subscription(1, 2, 1, names, ours=(dead.name,))  # type: ignore[arg-type]
    with source_of(refunds, slow) as source:
        records = poll_count(source, 1)
        records += source.poll(10, 1.0)
        assert [(record.value, record.lane) for record in records] == [(refunds.name.encode(), "normal")]
    both = subscription(0, 1, 1, names, ours=(dead.name,))  # type: ignore[arg-type]
    with source_of(high, both) as source:
        records = poll_count(source, 2)
        assert {(record.value, record.lane) for record in records} == {(high.name.encode(), "high"), (refunds.name.encode(), "normal")}


def test_a_second_member_takes_partitions_and_the_first_owns_their_records_no_longer(cluster: KafkaMock) -> None:
    topic = Topic(cluster, partitions=2)
    for partition in (0, 1):
        topic.produce([b"x"] * 5, partition)
    revoked: list[tuple[str, int]] = []
    with source_of(topic, on_revoke=revoked.extend) as first:
        records = poll_count(first, 10)
        assert all(first.owns(record) for record in records)
        with source_of(topic) as second:
            seen = poll_until_taken_over(first, second)
            (gone,) = revoked
            assert {record.partition for record in seen} == {gone[1]}
            lost = [record for record in records if record.partition == gone[1]]
            assert not any(first.owns(record) for record in lost)
            assert all(first.owns(record) for record in records if record.partition != gone[1])
            first.commit(lost)
            first.poll(1, 0.3)
            assert topic.committed(gone[1]) < 0, "nothing may be committed for a partition that is gone"


def poll_until_taken_over(first: KafkaSource, second: KafkaSource) -> list[Record]:
    seen: list[Record] = []

    def has_come() -> int:
        seen.extend(second.poll(10, 0.05))
        return len(seen)

    poll_until(has_come, first)
    return seen


def test_brokers_that_are_away_mean_empty_polls_and_one_warning(own_cluster: KafkaMock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    topic = Topic(own_cluster)
    topic.produce([b"x"])
    with source_of(topic) as source:
        poll_count(source, 1)
        own_cluster.set_down()
        caplog.clear()
        for _ in range(12):
            assert source.poll(10, 0.25) == []
        warnings = [record for record in caplog.records if record.name == "intake.kafka" and record.levelno == logging.WARNING]
        assert 1 <= len(warnings) <= 3, "one line for each kind of trouble"
        own_cluster.set_up()
        topic.produce([b"y"])
        assert [record.value for record in poll_count(source, 1)][-1] == b"y"
        assert "Kafka delivers again" in caplog.text


def test_closing_a_source_whose_broker_is_frozen_with_a_commit_on_its_way_is_bounded(own_cluster: KafkaMock) -> None:
    topic = Topic(own_cluster)
    topic.produce([b"x"])
    with source_of(topic) as source:
        records = poll_count(source, 1)
        own_cluster.server.freeze()
        source.commit(records)
        began_s = time.monotonic()
        source.close()
        assert time.monotonic() - began_s < 4
        own_cluster.server.thaw()


def test_a_signal_is_noticed_while_waiting_for_records(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    noticed_s: list[float] = []
    with source_of(topic) as source:
        before = signal.signal(signal.SIGALRM, lambda number, frame: noticed_s.append(time.monotonic()))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            due_s = time.monotonic() + 0.3
            source.poll(10, 2.0)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert noticed_s[0] - due_s < 0.5


class FakeError:
    """A KafkaError that says it is fatal, which only a broken client can produce."""

    def __init__(self, code: int, is_fatal: bool):
        self._code, self._is_fatal = code, is_fatal

    def code(self) -> int:
        return self._code

    def fatal(self) -> bool:
        return self._is_fatal

    def name(self) -> str:
        return "FAKE"

    def str(self) -> str:
        return "made up"


def trouble(source: KafkaSource, code: int, is_fatal: bool = False) -> None:
    source._note_trouble(FakeError(code, is_fatal))  # type: ignore[arg-type]


def test_another_member_with_the_same_instance_id_ends_this_one(cluster: KafkaMock) -> None:
    with source_of(Topic(cluster)) as source:
        trouble(source, KafkaError.FENCED_INSTANCE_ID, is_fatal=True)
        with pytest.raises(Expelled):
            source.poll(1, 0.0)
        with pytest.raises(Expelled):
            source.keep_alive()


def test_any_other_fatal_error_ends_the_worker_too(cluster: KafkaMock) -> None:
    with source_of(Topic(cluster)) as source:
        trouble(source, KafkaError._FATAL, is_fatal=True)
        with pytest.raises(KafkaException):
            source.poll(1, 0.0)


def test_a_member_that_was_too_slow_owns_nothing_from_then_on(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"])
    revoked: list[tuple[str, int]] = []
    with source_of(topic, on_revoke=revoked.extend, max_poll_interval_s=6.0) as source:
        records = poll_count(source, 1)
        trouble(source, KafkaError._MAX_POLL_EXCEEDED)
        assert not source.owns(records[0])
        assert revoked == [(topic.name, 0)]


def test_partitions_that_are_lost_while_paused_deliver_again_when_they_come_back(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"])
    with source_of(topic) as source:
        records = poll_count(source, 1)
        source.keep_alive()
        cluster.push_errors(Api.HEARTBEAT, [KafkaError.UNKNOWN_MEMBER_ID])
        wait_until(lambda: source.keep_alive() or not source.owns(records[0]), READY_LIMIT_S)
        again = poll_count(source, 1)
        assert again == records, "what was not committed comes again"
        assert source.owns(records[0])


def test_a_topic_that_is_held_waits_while_others_come_and_goes_on_without_a_gap(cluster: KafkaMock) -> None:
    held, other = Topic(cluster), Topic(cluster)
    both = Subscription(((held.name, "normal"), (other.name, "normal")), ("normal",))
    held.produce([b"1"])
    with source_of(held, both) as source:
        poll_count(source, 1)
        source.hold({held.name})
        source.poll(1, 0.0)  # from here on
        held.produce([b"2", b"3"])
        other.produce([b"x"] * 5)
        assert {record.topic for record in poll_count(source, 5)} == {other.name}
        source.keep_alive()
        other.produce([b"y"])
        assert [record.value for record in poll_count(source, 1)] == [b"y"]
        source.hold(())
        assert [record.value for record in poll_count(source, 2)] == [b"2", b"3"]


class FakeMessage:
    """A message that came in the moment in which everything was paused."""

    def __init__(self, topic: str, offset: int, is_end: bool = False):
        self._topic, self._offset, self._is_end = topic, offset, is_end

    def error(self) -> FakeError | None:
        return FakeError(KafkaError._PARTITION_EOF, False) if self._is_end else None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"late"

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_NOT_AVAILABLE, 0


def test_a_message_that_slipped_through_a_pause_is_kept_unless_its_partition_goes(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"])
    with source_of(topic) as source:
        poll_count(source, 1)
        source._set_aside.append(FakeMessage(topic.name, 1))  # type: ignore[arg-type]
        assert [record.value for record in source.poll(5, 0.0)] == [b"late"]
        source._set_aside.append(FakeMessage(topic.name, 2))  # type: ignore[arg-type]
        source._forget([(topic.name, 0)])
        source._take_partitions(source._consumer, [TopicPartition(topic.name, 0)])
        assert source.poll(5, 0.0) == []


def test_what_is_held_is_not_taken_for_handled_where_its_partition_ends(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    with source_of(topic) as source:
        poll_until(lambda: source.positions() == {(topic.name, 0): 0}, source)
        source._take_partitions(source._consumer, [TopicPartition(topic.name, 0)])
        source.hold([topic.name])
        messages = [FakeMessage(topic.name, 5), FakeMessage(topic.name, 6, is_end=True)]
        assert source._accept(messages) == []  # type: ignore[arg-type]
        assert source.positions() == {(topic.name, 0): None}
        source.hold([])
        records = source.poll(1, 0.0)
        assert source.positions() == {(topic.name, 0): 5}
        source.poll(1, 0.0)
        assert source.positions() == {(topic.name, 0): 5}, "it is in hand"
        source.commit(records)
        assert source.positions() == {(topic.name, 0): 6}


def test_a_setting_that_breaks_the_offsets_cannot_be_passed_in(cluster: KafkaMock) -> None:
    topic = Topic(cluster)
    topic.produce([b"x"])
    bad = {"session.timeout.ms": "6000", "enable.auto.commit": "true", "auto.commit.interval.ms": "50", "enable.auto.offset.store": "true"}
    with source_of(topic, client_settings=bad) as source:
        poll_count(source, 1)
        source.poll(1, 0.5)
    assert topic.committed() < 0


def test_a_wrong_setting_names_itself_and_not_its_value(cluster: KafkaMock) -> None:
    with pytest.raises(KafkaException) as raised, source_of(Topic(cluster), client_settings={"no.such.thing": "hunter2"}):
        pass
    assert "no.such.thing" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_the_client_itself_writes_no_noise(own_cluster: KafkaMock, caplog: pytest.LogCaptureFixture) -> None:
    with source_of(Topic(own_cluster)) as source:
        source.poll(1, 0.5)
        own_cluster.set_down()
        source.poll(1, 1.0)
    assert not [record for record in caplog.records if record.name == "intake.kafka.client" and record.levelno >= logging.WARNING]


def test_subscribing_to_nothing_is_a_mistake_that_shows(cluster: KafkaMock) -> None:
    with pytest.raises(KafkaException), source_of(Topic(cluster), Subscription((), ("normal",))):
        pass
