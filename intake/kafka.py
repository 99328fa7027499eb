"""Kafka partitions as a source of records: the only consumer of this product.

Each worker is a static member of a classic consumer group, so that a killed worker's successor has its partitions back at
once (Apache Kafka 4.1, measured 2026-11; KIP-848 refuses the successor). Doubles are prevented by the ledger, not by Kafka:
an assignment can be lost without notice. Nothing here commits in the foreground or waits without a limit, because librdkafka
hangs for minutes where a broker takes connections and does not answer (librdkafka #3740).
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar

from confluent_kafka import OFFSET_END, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

import telemetry.log
from intake.lanes import Subscription, is_pattern
from intake.offsets import Offsets
from mail.errors import Expelled
from mail.job import Lane
from mail.record import Record

log = telemetry.log.get("intake.kafka")

SLICE_S = 0.25  # consume() does not notice signals before it returns (2.16.1, measured 2026-11)
FILL_S = 0.02  # after the first record, the longest wait for more of them
CLOSE_LIMIT_S = 3.0

_DEFAULTS: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 15_000,
    # a second member waits up to 5 s after joining with the default of 3 s
    "heartbeat.interval.ms": 1_000,
    "allow.auto.create.topics": False,
    "isolation.level": "read_committed",
    # the defaults keep 64 MiB and 100,000 records per worker; a small queue pauses for a second with the default back-off
    "queued.max.messages.kbytes": 4_096,
    "queued.min.messages": 2_000,
    "fetch.max.bytes": 4_194_304,
    "fetch.queue.backoff.ms": 20,
    # errors reach us by callback, once per change of state
    "log_level": 2,
}
# offsets say what is handled, so nobody but us may move them; the word that a partition has ended tells where an idle one stands
_NOT_NEGOTIABLE = {"enable.auto.commit": False, "enable.auto.offset.store": False, "enable.partition.eof": True}

T = TypeVar("T")
_Partition = tuple[str, int]


class KafkaSource:
    """The partitions that the group gives to this member; see intake/source.py for the contract.

    `instance_id` is unique and stays the same for a slot over restarts. `offset_reset` is "earliest", "latest" or "error".
    `max_poll_interval_s` exceeds the longest possible batch. `client_settings` are librdkafka's names, and win.
    `on_revoke` is called after partitions were taken away, with their names.

    Raises Expelled where Kafka takes it for a former one of its instance id, KafkaException where the client can never work again or
    the settings are wrong, RuntimeError where records were never committed.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        bootstrap_servers: str,
        group_id: str,
        instance_id: str,
        offset_reset: str,
        max_poll_interval_s: float,
        client_settings: Mapping[str, str] | None = None,
        on_revoke: Callable[[Sequence[_Partition]], None] = lambda partitions: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._subscription = subscription
        self._on_revoke = on_revoke
        self._clock = clock
        self._owned: dict[_Partition, Offsets] = {}
        self._set_aside: deque[Message] = deque()
        self._paused: set[_Partition] = set()
        self._held: frozenset[str] = frozenset()
        self._held_lanes: Set[Lane] = frozenset()
        self._must_commit_again = False
        self._fatal: KafkaError | None = None
        self._troubles: set[int] = set()
        settings = {
            **_DEFAULTS,
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "group.instance.id": instance_id,
            "client.id": instance_id,
            "auto.offset.reset": offset_reset,
            "max.poll.interval.ms": int(max_poll_interval_s * 1000),
            **_hidden_topics(subscription),
            **(client_settings or {}),
            **_NOT_NEGOTIABLE,
        }
        callbacks = {"error_cb": self._note_trouble, "on_commit": self._note_commit}
        self._consumer = Consumer({**settings, **callbacks}, logger=logging.getLogger("intake.kafka.client"))
        self._consumer.subscribe(
            [name for name, _ in subscription.topics],
            on_assign=self._take_partitions,
            on_revoke=self._lose_partitions,
            on_lost=self._lose_partitions,
        )

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most `limit` records: waits for the first one up to the timeout, then at most FILL_S for others."""
        if limit <= 0:
            return []
        deadline_s = self._clock() + timeout_s
        while True:
            self._go_on()
            left_s = deadline_s - self._clock()
            records = self._accept(self._fetch(limit, max(0.0, min(SLICE_S, left_s))))
            self._commit_again()
            if records or left_s <= SLICE_S:
                return records

    def commit(self, records: Sequence[Record]) -> None:
        """Moves each partition's offset up to its first record that is not handled; in the background, never backwards."""
        handled: dict[_Partition, list[int]] = {}
        for record in records:
            handled.setdefault((record.topic, record.partition), []).append(record.offset)
        self._send_commit([name for name, offsets in handled.items() if name in self._owned and self._owned[name].note_handled(offsets)])

    def owns(self, record: Record) -> bool:
        """Was this record handed out during the current assignment of its partition?"""
        offsets = self._owned.get((record.topic, record.partition))
        return offsets is not None and offsets.has_delivered(record.offset)

    def keep_alive(self) -> None:
        """Pauses everything and tells the group that this member lives; the next poll goes on."""
        self._pause(self._owned)
        message = self._ask(lambda: self._consumer.poll(0))
        if message is not None:
            self._set_aside.append(message)
        self._raise_fatal()

    def hold(self, topics: Collection[str]) -> None:
        """Takes no records of these topics, and of all others, from the next poll on; theirs wait in Kafka."""
        self._held = frozenset(topics)

    def hold_lanes(self, lanes: Set[Lane]) -> None:
        """The same for the topics of lanes, whichever those are."""
        self._held_lanes = lanes

    def lag(self) -> dict[_Partition, int]:
        """Records that wait behind what is handled, per owned partition; only what is known without asking a broker."""
        known = {}
        for name, position in self.positions().items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*name), cached=True)
            if high >= 0 and position is not None:
                known[name] = max(0, high - position)
        return known

    def positions(self) -> dict[_Partition, int | None]:
        """Of each owned partition: the offset before which everything is handled; None = not known yet."""
        return {name: offsets.position for name, offsets in self._owned.items()}

    def ends(self, limit_s: float) -> dict[_Partition, int]:
        """Where the owned partitions end, asked of the brokers now: what `lag` knows may be old. Those that do not answer are missing."""
        asked = [TopicPartition(*name, OFFSET_END) for name in self._owned]
        try:
            answers = self._consumer.offsets_for_times(asked, timeout=limit_s) if asked else []
        except KafkaException as error:
            self._note_trouble(error.args[0])
            return {}
        return {(each.topic, each.partition): each.offset for each in answers if each.error is None and each.offset >= 0}

    def close(self) -> None:
        """Leaves the client to a thread that may hang; the process can end without it."""
        closing = threading.Thread(target=self._consumer.close, name="kafka-close", daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)
        if closing.is_alive():
            log.warning("the Kafka client does not close", limit_s=CLOSE_LIMIT_S)

    # --- records -----------------------------------------------------------------------------------------------------

    def _fetch(self, limit: int, timeout_s: float) -> list[Message]:
        """Messages and errors as they come; `consume` alone would wait until it has `limit` of them."""
        waiting = next((message for message in self._set_aside if not self._is_held(message.topic() or "")), None)
        if waiting is not None:
            self._set_aside.remove(waiting)
            return [waiting]
        # the client cuts to whole milliseconds, and a wait of less than one would be none: a busy loop
        wait_s = math.ceil(timeout_s * 1000) / 1000
        first = self._ask(lambda: self._consumer.poll(wait_s))
        if first is None:
            return []
        return [first, *(self._ask(lambda: self._consumer.consume(limit - 1, FILL_S)) if limit > 1 else [])]

    def _ask(self, call: Callable[[], T]) -> T:
        """A call that serves callbacks; a fatal error is raised by it beside being told to error_cb (2.16.1, seen 2026-11)."""
        try:
            return call()
        except KafkaException as error:
            self._note_trouble(error.args[0])
            self._raise_fatal()
            raise

    def _accept(self, messages: Iterable[Message]) -> list[Record]:
        """The records among these messages that are still ours, in their order; errors are noted."""
        records = []
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._note_trouble(error)
                continue
            if self._is_held(message.topic() or ""):  # of a partition that came a moment ago, and is paused by the next poll
                self._set_aside.append(message)
                continue
            topic, partition, offset = _place_of(message)
            offsets = self._owned.get((topic, partition))
            if offsets is not None and error is not None:
                offsets.note_end(offset)
            elif offsets is not None:
                offsets.note_delivered(offset)
                records.append(self._record_of(message))
        self._raise_fatal()
        if records:
            self._note_recovery()
        return records

    def _record_of(self, message: Message) -> Record:
        topic, partition, offset = _place_of(message)
        return Record(message.value(), self._subscription.lane_of(topic), topic, partition, offset, received_at_s=_time_of(message))

    def _is_held(self, topic: str) -> bool:
        return topic in self._held or (bool(self._held_lanes) and self._subscription.lane_of(topic) in self._held_lanes)

    def _pause(self, names: Iterable[_Partition]) -> None:
        if new := set(names) - self._paused:
            self._consumer.pause([TopicPartition(*name) for name in new])
            self._paused |= new

    def _go_on(self) -> None:
        """A partition that was taken away while paused comes back paused (2.16.1, seen 2026-11), so it is not forgotten here."""
        held = {name for name in self._owned if self._is_held(name[0])}
        self._pause(held)
        if names := (self._paused & self._owned.keys()) - held:
            self._consumer.resume([TopicPartition(*name) for name in names])
            self._paused -= names

    # --- offsets -----------------------------------------------------------------------------------------------------

    def _send_commit(self, names: Iterable[_Partition]) -> None:
        targets = [(name, self._owned[name].next_to_commit) for name in names]
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in targets if offset is not None]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._note_trouble(error.args[0])
            self._must_commit_again = True

    def _note_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        problem = error or next((partition.error for partition in partitions if partition.error), None)
        if problem is not None:
            self._note_trouble(problem)
            self._must_commit_again = True

    def _commit_again(self) -> None:
        """After a commit that failed: another one, or the last offsets before an idle time would stay uncommitted."""
        if self._must_commit_again:
            self._must_commit_again = False
            self._send_commit(self._owned)

    # --- partitions --------------------------------------------------------------------------------------------------

    def _take_partitions(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            self._owned[each.topic, each.partition] = Offsets()
        log.info("partitions assigned", partitions=[f"{each.topic}/{each.partition}" for each in partitions])

    def _lose_partitions(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Revoked or lost, which librdkafka cannot always tell apart (2.16.1): nothing of them may be sent or committed now."""
        self._forget([(each.topic, each.partition) for each in partitions])

    def _forget(self, names: Sequence[_Partition]) -> None:
        gone = [name for name in names if self._owned.pop(name, None) is not None]
        self._set_aside = deque(message for message in self._set_aside if _place_of(message)[:2] in self._owned)
        if gone:
            log.info("partitions gone", partitions=[f"{topic}/{partition}" for topic, partition in gone])
            self._on_revoke(gone)

    # --- troubles ----------------------------------------------------------------------------------------------------

    def _note_trouble(self, error: KafkaError) -> None:
        """Transient errors are the client's to mend: one line for each kind until records come again."""
        if _is_fatal(error):
            self._fatal = error
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            # the group has given our partitions away, whatever the callbacks say later (librdkafka PR #5604)
            self._forget(list(self._owned))
        if error.code() not in self._troubles:
            self._troubles.add(error.code())
            log.warning("Kafka does not answer as it should", error=_describe(error))

    def _note_recovery(self) -> None:
        if self._troubles:
            self._troubles.clear()
            log.info("Kafka delivers again")

    def _raise_fatal(self) -> None:
        if self._fatal is None:
            return
        if _is_fencing(self._fatal):
            # A newer process, or only ourselves: a join or a commit that was under way when a broker died may count as a stranger's
            # afterwards (Apache Kafka 4.1.0, librdkafka 2.16.1, seen 2026-11).
            raise Expelled("Kafka has another member under this instance id")
        raise KafkaException(self._fatal)


def _hidden_topics(subscription: Subscription) -> dict[str, str]:
    """A regex may match topics that are not for us: librdkafka's blacklist keeps them out (it takes regexes, so names are fenced in)."""
    if not subscription.hidden or not any(is_pattern(name) for name, _ in subscription.topics):
        return {}
    return {"topic.blacklist": ",".join(f"^{name.replace('.', '[.]')}$" for name in subscription.hidden)}


def _place_of(message: Message) -> tuple[str, int, int]:
    """(topic, partition, offset); librdkafka leaves them out of errors only."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    return topic or "", -1 if partition is None else partition, -1 if offset is None else offset


def _time_of(message: Message) -> float | None:
    """When the record was written, in Unix seconds; None where the topic keeps no times."""
    kind, milliseconds = message.timestamp()
    return milliseconds / 1000 if kind != TIMESTAMP_NOT_AVAILABLE else None


def _is_fatal(error: KafkaError) -> bool:
    """error_cb is given the code _FATAL with fatal() False, and afterwards polls are empty for ever (2.16.1, seen 2026-11)."""
    return error.fatal() or error.code() == KafkaError._FATAL


def _is_fencing(error: KafkaError) -> bool:
    """Within _FATAL the cause is only told in words: the client's own for that code."""
    return error.code() == KafkaError.FENCED_INSTANCE_ID or KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str()


def _describe(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"[:300]
