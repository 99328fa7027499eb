"""Where the keeper is put together, and its part that speaks to ESPs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from db.connection import Database
from esp import base as esp_base
from esp.exchange import open_exchange
from workers import failpoints
from workers.base import RoleContext
from workers.connections import host_name, open_board, open_database, open_publisher, open_redis_link
from workers.keeper import Chore, Keeper, keep
from workers.keeping.doubt_keeper import ASKED_AT_ONCE, SEARCH_TIMEOUT_S, DoubtKeeper, Terms
from workers.keeping.doubt_rules import Policies, Policy

if TYPE_CHECKING:
    from config.settings import Settings


def run(context: RoleContext) -> None:
    """The role: the lease first, then the slots that nobody owns, then every chore in its time."""
    database = open_database(context.settings, context.name)
    publisher = open_publisher(context.settings, context.name)
    board = open_board(context.settings, open_redis_link(context.settings))
    keeper = Keeper(context.settings, database, publisher, context.shared.lease, copy=board.keep_dead_letters)
    with open_doubt_keeper(context.settings, database, context.name) as doubts:
        keep(context, [*keeper.chores(), Chore("settle doubts", 10.0, doubts.round)])
    publisher.close()
    board.close()
    database.close()


@contextmanager
def open_doubt_keeper(settings: "Settings", database: Database, name: str) -> Iterator[DoubtKeeper]:
    """It shares the keeper's connection; its searches have one of their own, and never more time than the host's lease allows."""
    timeout_s = min(settings.esp_timeout_s, SEARCH_TIMEOUT_S)
    exchange = open_exchange(ASKED_AT_ONCE, min(settings.esp_connect_timeout_s, timeout_s), timeout_s)
    board = open_board(settings, open_redis_link(settings))
    place = f"{host_name(settings)}/{name}"
    try:
        yield DoubtKeeper(
            terms_of(settings), settings.accounts, esp_base.load, exchange, database, place, failpoints.from_environment(), board
        )
    finally:
        exchange.close()
        board.close()


def terms_of(settings: "Settings") -> Terms:
    """What the settings say about doubts."""
    chosen = (settings.uncertain_policy_transactional, settings.uncertain_policy_marketing, settings.uncertain_policy_smtp)
    policies = Policies(*[cast(Policy, policy) for policy in chosen])
    return Terms(
        policies,
        settings.uncertain_grace_s,
        settings.webhook_topics,
        settings.kafka_topic_email_events,
        settings.email_recipient_redirect,
    )
