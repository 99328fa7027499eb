"""Where the intake is put together: a delivery worker's reception and books, with the Redis list before them."""

from collections.abc import Iterator
from contextlib import contextmanager

from db.connection import Database
from db.ledger import Slot
from intake.redis_list import RedisList
from workers import failpoints
from workers.base import RoleContext
from workers.connections import host_name, open_board, open_database, open_publisher, open_redis_link, open_vault
from workers.failpoints import Incarnation
from workers.flight import flight_log
from workers.flight.flight_log import FlightLog
from workers.intake import Intake, Tools
from workers.news.event_desk import EventDesk
from workers.news.status_board import StatusBoard
from workers.steps.admission import allowlist
from workers.steps.bookkeeping import Bookkeeper, Topics
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine, note_suspect
from workers.steps.reception import House, Reception
from workers.steps.shelf import Shelf
from workers.steps.store_clock import StoreClock


def run(context: RoleContext) -> None:
    """The role: take until asked to drain."""
    with wire(context) as intake:
        while not context.is_draining():
            intake.turn()
        intake.tidy()


@contextmanager
def wire(context: RoleContext) -> Iterator[Intake]:
    """Note whom the predecessor died over, then make everything; close it in reverse order."""
    settings = context.settings
    database = open_database(settings, context.name)
    boot_id, path = flight_log.boot_id(), settings.state_dir / f"{context.name}.flight"
    note_suspect(context, database, path, boot_id)
    hand = FlightLog(path, boot_id, context.incarnation_hint)
    place = f"{host_name(settings)}/{context.name}"
    queue = RedisList(settings.redis_url.reveal(), place, f"{boot_id[:8]}-{context.incarnation_hint}")
    board = open_board(settings, open_redis_link(settings))
    desk = EventDesk(open_publisher(settings, context.name), board.keep_dead_letters)
    try:
        yield Intake(_assemble(context, database, hand, queue, board, desk))
    finally:
        queue.close()
        desk.close()
        board.close()
        hand.close()
        database.close()


def _assemble(context: RoleContext, database: Database, hand: FlightLog, queue: RedisList, board: StatusBoard, desk: EventDesk) -> Tools:
    settings = context.settings
    patience = Patience(database, queue.keep_alive, context.wait, context.beat)
    quarantine = Quarantine(patience)
    topics = Topics(settings.kafka_topic_email_events, settings.email_dead_letter_queue)
    # it opens no attempt, so its slot is only a name
    slot = Slot(host_name(settings), context.slot, context.incarnation_hint)
    bookkeeper = Bookkeeper(slot, open_vault(settings), topics, settings.email_max_retries, settings.keep_content == "all")
    points = failpoints.from_environment(Incarnation(settings.state_dir / f"{context.name}.flight", context.slot, context.incarnation_hint))
    house = House(settings.decode_limits, allowlist(settings.email_recipient_allowlist))
    return Tools(
        queue=queue,
        reception=Reception(house, bookkeeper, patience, Shelf(), quarantine, hand, points, StoreClock()),
        bookkeeper=bookkeeper,
        patience=patience,
        quarantine=quarantine,
        desk=desk,
        board=board,
        failpoints=points,
        beat=context.beat,
        wait=context.wait,
        note_batch=context.note_batch,
    )
