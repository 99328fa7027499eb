"""Where one webhook worker is put together."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from esp import base as esp_base
from esp.base import Listener
from intake.kafka import KafkaSource
from intake.lanes import Subscription
from mail.account import Account
from workers import failpoints
from workers.base import RoleContext, collect_rarely
from workers.connections import host_name, open_board, open_database, open_publisher, open_redis_link
from workers.failpoints import Incarnation
from workers.feedback.callbacks import Sorter
from workers.feedback.event_books import EventBooks
from workers.feedback.postponed import Postponed
from workers.feedback.progress import Progress
from workers.feedback.recorder import Recorder
from workers.flight import flight_log
from workers.flight.flight_log import FlightLog
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.bookkeeping import Topics
from workers.steps.lag_gauge import LagGauge
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine, note_suspect
from workers.webhook import Tools, Webhook

if TYPE_CHECKING:
    from config.settings import Settings


WAITING_S = 60.0
# The thread that waits for Postgres is to go on as soon as it has an answer, and not after Python's usual 5 ms.
SWITCH_S = 0.0005
CONNECTIONS = 2
# A broker answers behind a fetch that waits for records, half a second at most.
ENDS_LIMIT_S = 2.0
# A partition that was added is to be found before anybody believes that nothing of its topic waits (workers/keeping/doubt_rules.py).
NEW_PARTITIONS_MS = "5000"
# Asking waits for a transaction to end. At the start it is asked at once, which is when it matters.
SUSPECTS_FRESH_S = 10.0


def run(context: RoleContext) -> None:
    """The role: turn until asked to drain. Without a topic to read there is nothing to do but to live."""
    while not topics_of(context.settings) and not context.is_draining():
        context.beat("idle: no ESP of ours calls back", 60.0)
        context.wait(10.0)
    if context.is_draining():
        return
    with wire(context) as webhook:
        while not context.is_draining():
            webhook.turn()
        webhook.finish_all()
        webhook.tidy()


@contextmanager
def wire(context: RoleContext) -> Iterator[Webhook]:
    """Make everything that a worker needs; close it in reverse order."""
    settings = context.settings
    databases = [open_database(settings, context.name) for _ in range(CONNECTIONS)]
    boot_id, path = flight_log.boot_id(), settings.state_dir / f"{context.name}.flight"
    note_suspect(context, databases[0], path, boot_id)
    hand = FlightLog(path, boot_id, context.incarnation_hint)
    source = _open_source(context)
    board = open_board(settings, open_redis_link(settings))
    desk = EventDesk(open_publisher(settings, context.name), board.keep_dead_letters)
    recorder = Recorder([Patience(database, _nothing, time.sleep, _nothing) for database in databases], partial(_keep, context, source))
    sys.setswitchinterval(SWITCH_S)
    collect_rarely()
    try:
        yield Webhook(_assemble(context, source, hand, recorder, board, desk))
    finally:
        recorder.close()
        source.close()
        desk.close()
        board.close()
        hand.close()
        for database in databases:
            database.close()


def _assemble(context: RoleContext, source: KafkaSource, hand: FlightLog, recorder: Recorder, board: StatusBoard, desk: EventDesk) -> Tools:
    settings = context.settings
    topics = Topics(settings.kafka_topic_email_events, settings.email_dead_letter_queue)
    place = f"{host_name(settings)}/{context.name}"
    quarantine = Quarantine(recorder, fresh_s=SUSPECTS_FRESH_S)
    points = failpoints.from_environment(Incarnation(settings.state_dir / f"{context.name}.flight", context.slot, context.incarnation_hint))
    return Tools(
        source=source,
        quarantine=quarantine,
        sorter=Sorter(topics_of(settings), settings.accounts, _Listeners().of, quarantine, hand, points),
        postponed=Postponed(recorder, list(topics_of(settings)), source.hold),
        books=EventBooks(place, topics, settings.email_recipient_redirect, settings.keep_unmatched_events),
        recorder=recorder,
        desk=desk,
        lag=LagGauge(source.lag),
        progress=Progress(source.positions, partial(source.ends, ENDS_LIMIT_S)),
        beat=context.beat,
        note_batch=context.note_batch,
        board=board,
    )


def topics_of(settings: "Settings") -> dict[str, str]:
    """Whose callbacks each topic holds; only of ESPs that are on, since nobody could verify those of others: they stay in Kafka."""
    on = {account.provider for account in settings.accounts}
    return {topic: provider for provider, topic in settings.webhook_topics.items() if provider in on}


def _keep(context: RoleContext, source: KafkaSource) -> None:
    """While the store is waited for: the supervisor hears that we live, and the group too."""
    context.beat("waiting for the store", WAITING_S)
    source.keep_alive()


def _nothing(*_: object) -> None:
    """The main thread beats and keeps the partitions."""


def _open_source(context: RoleContext) -> KafkaSource:
    settings = context.settings
    return KafkaSource(
        Subscription(tuple((topic, "normal") for topic in topics_of(settings)), ()),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.kafka_webhook_group_id,
        instance_id=f"{settings.worker_name}-{socket.gethostname()}-{context.name}",
        offset_reset=settings.kafka_offset_reset,
        max_poll_interval_s=settings.kafka_max_poll_interval_ms / 1000,
        client_settings={"topic.metadata.refresh.interval.ms": NEW_PARTITIONS_MS, **settings.kafka_client},
    )


class _Listeners:
    """One reader of callbacks per account, made when it is first needed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Listener] = {}

    def of(self, account: Account) -> Listener:
        key = (account.provider, account.tenant)
        if key not in self._known:
            esp = esp_base.load(account)
            if not isinstance(esp, Listener):
                raise LookupError(f"esp/{account.provider}.py reads no callbacks, though config/esps.toml says that it has some")
            self._known[key] = esp
        return self._known[key]
