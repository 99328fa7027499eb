"""The publisher: the only producer of this product. Sends events and dead letters to Kafka and says when the broker has them.

Nobody waits for it: a full queue is an answer, and what is not confirmed stays in the outbox and is published again later, so
consumers see every message at least once. It must never block but in `flush` and `close`, which are bounded.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

import telemetry.log

log = telemetry.log.get("workers.news.publisher")

Pair = tuple[bytes | None, bytes]

QUEUE_MESSAGES = 20_000
CLOSE_LIMIT_S = 3.0
_PURGE_LIMIT_S = 0.5
_DEFAULTS: dict[str, Any] = {
    "enable.idempotence": True,
    # the outbox repeats what takes longer; the default of 5 minutes would hold memory for nothing
    "delivery.timeout.ms": 30_000,
    "linger.ms": 5,
    "queue.buffering.max.messages": QUEUE_MESSAGES,
    "queue.buffering.max.kbytes": 32_768,
    # dead letters carry whole values beside their reason
    "message.max.bytes": 4_194_304,
    "log_level": 2,
}


def set_up_client_library() -> None:
    """Have librdkafka set itself up (its OpenSSL alone: 4 MiB), for a parent whose children will make clients.

    Settings that contradict each other are refused after that and before a client or a thread exists (2.16.1, seen 2026-11).
    """
    with suppress(KafkaException):
        Producer({"enable.idempotence": True, "acks": "0"})


class Publication:
    """One call of `publish`: counts its delivery reports, and calls `on_done` once after the last one."""

    __slots__ = ("_has_failed", "_left", "_on_done")

    def __init__(self, count: int, on_done: Callable[[bool], None]):
        self._left = count
        self._on_done = on_done
        self._has_failed = False

    def report(self, error: KafkaError | None, message: Message | None) -> None:
        """The broker has one more of the messages, or never will."""
        self._has_failed = self._has_failed or error is not None
        self.settle(1)

    def fail(self, count: int) -> None:
        """So many messages never reached the client."""
        self._has_failed = True
        self.settle(count)

    def settle(self, count: int) -> None:
        """So many messages more are decided."""
        self._left -= count
        if self._left <= 0:
            self._on_done(not self._has_failed)


class Publisher:
    """Made after the fork, one per process, used by one thread. `client_settings` are librdkafka's names, and win.

    `make_producer` is for tests.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        client_id: str,
        client_settings: Mapping[str, str] | None = None,
        make_producer: Callable[..., Producer] = Producer,
    ):
        self._settings = {**_DEFAULTS, "bootstrap.servers": bootstrap_servers, "client.id": client_id, **(client_settings or {})}
        self._make_producer = make_producer
        self._troubles: set[int] = set()
        self._is_broken = False
        self._decided: deque[Publication] = deque()
        self._producer = self._new_producer()

    def publish(self, topic: str, pairs: Sequence[Pair], on_done: Callable[[bool], None]) -> bool:
        """Take these (key, value) messages for a topic, all or none. False = the queue is full, nothing was taken.

        After True, `on_done(is_delivered)` is called exactly once, from `poll`, `flush` or `close`: True when the broker has
        every one of them; after False some of them may have arrived all the same.
        """
        if self._is_broken:
            self._renew()
        in_queue = len(self._producer)
        if in_queue and in_queue + len(pairs) > QUEUE_MESSAGES:
            return False
        publication = Publication(len(pairs), partial(self._finish, on_done))
        if not pairs:
            self._decided.append(publication)
        for number, (key, value) in enumerate(pairs):
            if not self._produce(topic, key, value, publication):
                self._leave_out(publication, len(pairs) - number)
                break
        return True

    def poll(self) -> None:
        """Let delivery reports in; returns at once."""
        self._serve(lambda: self._producer.poll(0))
        self._tell_decided()

    def flush(self, timeout_s: float) -> bool:
        """Wait for the reports of everything taken so far; False = some are still missing."""
        self._serve(lambda: self._producer.flush(timeout_s))
        self._tell_decided()
        return len(self._producer) == 0

    def close(self) -> None:
        """Wait a little for what is on its way, then give up the rest: its `on_done(False)` is called."""
        if not self.flush(CLOSE_LIMIT_S):
            log.warning("events were left to the outbox", messages=len(self._producer))
            self._give_up()
        self._tell_decided()

    def _new_producer(self) -> Producer:
        return self._make_producer({**self._settings, "error_cb": self._note_trouble}, logger=logging.getLogger("workers.publisher.client"))

    def _produce(self, topic: str, key: bytes | None, value: bytes, publication: Publication) -> bool:
        try:
            self._producer.produce(topic, value, key, on_delivery=publication.report)
        except BufferError:  # its bytes are used up before its messages
            return False
        except KafkaException as error:
            self._note_trouble(error.args[0])
            return False
        return True

    def _leave_out(self, publication: Publication, count: int) -> None:
        """The rest of a call could not be taken: it has failed, which its caller hears from `poll`, never from `publish`."""
        publication.fail(count - 1)
        self._decided.append(publication)

    def _finish(self, on_done: Callable[[bool], None], is_delivered: bool) -> None:
        if is_delivered and self._troubles:
            self._troubles.clear()
            log.info("Kafka takes messages again")
        on_done(is_delivered)

    def _serve(self, call: Callable[[], int]) -> None:
        """A call that serves callbacks; a fatal error is raised by it beside being told to error_cb (2.16.1, seen 2026-11)."""
        try:
            call()
        except KafkaException as error:
            self._note_trouble(error.args[0])
            if not self._is_broken:
                raise

    def _tell_decided(self) -> None:
        while self._decided:
            self._decided.popleft().settle(1)

    def _note_trouble(self, error: KafkaError) -> None:
        """Transient errors are the client's to mend: one line for each kind until something is delivered again."""
        # error_cb is given the code _FATAL with fatal() False (2.16.1, seen 2026-11)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._is_broken = True
        if error.code() not in self._troubles:
            self._troubles.add(error.code())
            log.warning("Kafka does not take messages as it should", error=f"{error.name()}: {error.str()}"[:300])

    def _renew(self) -> None:
        """An idempotent producer that met a fatal error (a broker that lost data) never works again; a new one does."""
        self._give_up()
        self._is_broken = False
        self._troubles.clear()
        self._producer = self._new_producer()

    def _give_up(self) -> None:
        self._producer.purge()
        self._serve(lambda: self._producer.flush(_PURGE_LIMIT_S))
