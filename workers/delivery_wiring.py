"""Where one delivery worker is put together, in the order in which its parts need one another."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING

import telemetry.log
from db import due, mailbox_domains
from db.connection import Database
from db.ledger import Slot
from db.payloads import Vault
from db.slots import Claim
from esp import base as esp_base
from esp.base import Esp
from esp.exchange import Exchange, open_exchange
from intake.combined import CombinedSource
from intake.due import DueSource
from intake.kafka import KafkaSource
from intake.lanes import Subscription, subscription
from mail.account import Account
from mail.errors import Fenced, StoreUnavailable
from mail.job import Lane
from mail.message import Address
from mail.outcome import Outcome
from mail.record import Record
from render.renderer import Renderer
from routing.breaker import open_breakers
from routing.router import Mode, Router
from routing.snapshot import SnapshotReader
from telemetry import metrics
from workers import failpoints
from workers.base import RoleContext, collect_rarely
from workers.connections import host_name, open_board, open_database, open_publisher, open_redis_link, open_vault
from workers.delivery import Delivery, Tools
from workers.failpoints import Failpoints, Incarnation
from workers.flight import flight_log, settlement, slot_lock
from workers.flight.flight_log import FlightLog
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.admission import allowlist
from workers.steps.bookkeeping import Bookkeeper, Topics
from workers.steps.composing import Composer
from workers.steps.dispatch import Dispatcher
from workers.steps.judgement import RetryPolicy
from workers.steps.lag_gauge import LagGauge
from workers.steps.lane_watch import LaneWatch
from workers.steps.lane_window import open_window
from workers.steps.mailbox_providers import MailboxProviders
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine
from workers.steps.reception import House, Reception
from workers.steps.sending import Sender
from workers.steps.shelf import Shelf
from workers.steps.store_clock import StoreClock
from workers.steps.template_cache import TemplateCache
from workers.supervising.shared import Permit

if TYPE_CHECKING:
    from config.settings import Settings

Note = Callable[[Account, Iterable[Outcome]], None]

DUE_EVERY_S = 1.0
SLOT_PATIENCE_S = 60.0


def run(context: RoleContext) -> None:
    """The role: settle what the predecessor left, then turn until asked to drain."""
    with wire(context) as delivery:
        while not context.is_draining():
            delivery.turn()
        delivery.tidy()


@contextmanager
def wire(context: RoleContext) -> Iterator[Delivery]:
    """Settle the slot's past, then make everything that a worker needs; close it in reverse order."""
    settings = context.settings
    database = open_database(settings, context.name)
    boot_id = flight_log.boot_id()
    context.beat("settling the predecessor's flight log", 120.0)
    if not slot_lock.take(settings.state_dir, context.slot, SLOT_PATIENCE_S, context.wait):
        raise Fenced(f"somebody else holds delivery slot {context.slot}")
    suspect = settlement.suspect(settings.state_dir, context.slot, boot_id)
    claim = _take_over(context, database, boot_id)
    path = settlement.flight_path(settings.state_dir, context.slot)
    log = FlightLog(path, boot_id, claim.slot.incarnation)
    points = failpoints.from_environment(Incarnation(path, context.slot, claim.slot.incarnation))
    vault = open_vault(settings)
    source = _open_source(context, database, claim.slot, vault, points)
    esps = _Esps()
    idle_s = {account.base_url: esps.of(account).limits.idle_s for account in settings.accounts}
    exchange = open_exchange(settings.esp_connections, settings.esp_connect_timeout_s, settings.esp_timeout_s, idle_s=idle_s)
    link = open_redis_link(settings)
    board = open_board(settings, link)
    desk = EventDesk(open_publisher(settings, context.name), board.keep_dead_letters)
    collect_rarely()
    try:
        tools = _assemble(
            context, database, claim.slot, vault, source, exchange, esps, desk, board, Shelf(TemplateCache(link)), log, points
        )
        if suspect:
            tools.lanes.note_death(suspect, _lane_of(suspect, _subscription(context)))
        yield Delivery(tools, settings.worker_batch_size, settings.email_job_timeout_s)
    finally:
        source.close()
        exchange.close()
        desk.close()
        board.close()
        database.close()


def _take_over(context: RoleContext, database: Database, boot_id: str) -> Claim:
    """Settle the slot's past; a store that is away is waited for, unless we are asked to leave."""
    settings = context.settings
    while True:
        context.beat("settling the predecessor's flight log", 120.0)
        try:
            return settlement.take_over(
                database, settings.state_dir, host_name(settings), context.slot, boot_id, os.getpid(), settings.kafka_topic_email_events
            )
        except StoreUnavailable as error:
            if context.is_draining():
                raise SystemExit(0) from error
            telemetry.log.get("workers.delivery").warning("waiting for the store before the start", problem=str(error))
            context.wait(1.0)


def _assemble(
    context: RoleContext,
    database: Database,
    slot: Slot,
    vault: Vault,
    source: CombinedSource,
    exchange: Exchange,
    esps: "_Esps",
    desk: EventDesk,
    board: StatusBoard,
    shelf: Shelf,
    log: FlightLog,
    points: Failpoints,
) -> Tools:
    settings = context.settings
    patience = Patience(database, source.keep_alive, context.wait, context.beat)
    quarantine = Quarantine(patience)
    topics = Topics(settings.kafka_topic_email_events, settings.email_dead_letter_queue)
    bookkeeper = Bookkeeper(slot, vault, topics, settings.email_max_retries, settings.keep_content == "all")
    breakers = open_breakers(settings.state_dir / "breakers", _show_breaker)
    lanes = _watch_lanes(context, database, patience, slot, vault)
    permit = Permit(context.shared.lease)
    sender = Sender(
        esps.of,
        exchange,
        log,
        permit.is_good,
        points,
        _tell_both(breakers.note, lanes.note_answers),
        is_failing=breakers.is_open,
        begin_within_s=settings.email_job_timeout_s / 2,  # the last to begin has its own deadline still
    )
    policy = RetryPolicy(settings.email_retry_delay_s, settings.email_max_retries)
    router = Router(settings.accounts, *_routing(settings), is_open=breakers.is_open, take_probe=breakers.take_probe)
    clock = StoreClock()
    house = House(settings.decode_limits, allowlist(settings.email_recipient_allowlist))
    return Tools(
        source=source,
        reception=Reception(house, bookkeeper, patience, shelf, quarantine, log, points, clock),
        composer=_open_composer(settings, shelf, log, policy, clock),
        dispatcher=Dispatcher(
            router, SnapshotReader(context.shared.snapshot), sender, policy, clock, _mailbox_providers(settings, patience)
        ),
        sender=sender,
        bookkeeper=bookkeeper,
        patience=patience,
        policy=policy,
        quarantine=quarantine,
        flight_log=log,
        desk=desk,
        lag=LagGauge(source.lag),
        lanes=lanes,
        failpoints=points,
        may_send=context.shared.lease.is_held,
        beat=context.beat,
        wait=context.wait,
        note_batch=context.note_batch,
        now=clock,
        take_permit=permit.take,
        board=board,
    )


def _watch_lanes(context: RoleContext, database: Database, patience: Patience, slot: Slot, vault: Vault) -> LaneWatch:
    settings, shared = context.settings, context.shared
    window, lanes = open_window(settings.state_dir / "lanes"), _subscription(context).row_lanes
    return LaneWatch(database, patience, window, shared.lanes, settings.accounts, lanes, slot.place, vault)


def _open_source(context: RoleContext, database: Database, slot: Slot, vault: Vault, points: Failpoints) -> CombinedSource:
    settings = context.settings
    chosen = _subscription(context)

    def lease(limit: int, held: Set[Lane]) -> list[Record]:
        lanes = [lane for lane in chosen.row_lanes if lane not in held]
        return database.run(lambda cursor: due.lease(cursor, slot.place, lanes, limit, settings.email_job_timeout_s, vault))

    def on_revoke(partitions: Sequence[tuple[str, int]]) -> None:
        points.hit("in-revoke")

    kafka = KafkaSource(
        chosen,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.kafka_group_id,
        instance_id=f"{settings.worker_name}-{socket.gethostname()}-{context.slot}",
        offset_reset=settings.kafka_offset_reset,
        max_poll_interval_s=settings.kafka_max_poll_interval_ms / 1000,
        client_settings=dict(settings.kafka_client),
        on_revoke=on_revoke,
    )
    return CombinedSource(kafka, DueSource(lease, DUE_EVERY_S))


def _lane_of(record: str, chosen: Subscription) -> Lane | None:
    """The lane of a record that the flight log names; None for a row."""
    return None if record.startswith("row:") else chosen.lane_of(record.split("/")[0])


def _subscription(context: RoleContext) -> Subscription:
    settings = context.settings
    topics: dict[Lane, str] = {
        "high": ",".join(settings.kafka_topic_email_jobs_high),
        "normal": ",".join(settings.kafka_topic_email_jobs),
        "bulk": ",".join(settings.kafka_topic_email_jobs_bulk),
    }
    ours = (settings.kafka_topic_email_events, settings.email_dead_letter_queue, *settings.webhook_topics.values())
    return subscription(context.slot, context.workers, settings.express_workers, topics, ours)


def _open_composer(settings: "Settings", shelf: Shelf, log: FlightLog, policy: RetryPolicy, clock: StoreClock) -> Composer:
    sender = Address(settings.email_from_address, settings.email_from_name) if settings.email_from_address else None
    reply_to = Address(settings.email_reply_to) if settings.email_reply_to else None
    redirect = Address(settings.email_recipient_redirect) if settings.email_recipient_redirect else None
    return Composer(Renderer(), shelf, log, sender, reply_to, redirect, policy, clock)


def _routing(settings: "Settings") -> tuple[Mode, tuple[str, ...]]:
    order = (settings.email_provider_primary, settings.email_provider_fallback)
    mode: Mode = "primary" if settings.email_routing == "primary" else "weighted"
    return mode, tuple(name for name in order if name)


def _mailbox_providers(settings: "Settings", patience: Patience) -> MailboxProviders:
    """With what the keeper has looked up, where it may."""
    if not settings.mx_lookups:
        return MailboxProviders()
    return MailboxProviders(lambda: patience.insist("mailbox domains", lambda cursor, _: mailbox_domains.find_hosted(cursor)))


class _Esps:
    """One adapter per account, made when it is first needed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Esp] = {}

    def of(self, account: Account) -> Esp:
        key = (account.provider, account.tenant)
        if key not in self._known:
            self._known[key] = esp_base.load(account)
        return self._known[key]


def _tell_both(*listeners: Note) -> Note:
    def tell(account: Account, outcomes: Iterable[Outcome]) -> None:
        told = list(outcomes)
        for listener in listeners:
            listener(account, told)

    return tell


def _show_breaker(account: Account, is_open: bool) -> None:
    metrics.BREAKER_OPEN.labels(account.provider, str(account.tenant)).set(int(is_open))
    log = telemetry.log.get("workers.delivery")
    if is_open:
        log.warning("a breaker opened: this account's mail goes elsewhere or waits", provider=account.provider, tenant=account.tenant)
    else:
        log.info("a breaker closed", provider=account.provider, tenant=account.tenant)
