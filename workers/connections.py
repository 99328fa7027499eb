"""From settings to the clients that a process makes for itself, after the fork."""

import socket
from typing import TYPE_CHECKING

from db.connection import Database
from db.payloads import Vault
from workers.news.publisher import Publisher
from workers.news.redis_link import RedisLink
from workers.news.status_board import StatusBoard

if TYPE_CHECKING:
    from config.settings import Settings


def open_database(settings: "Settings", name: str) -> Database:
    """A connection to Postgres that shows up there as `name`; it connects on first use."""
    return Database({"dsn": settings.database_url.reveal()}, application_name=f"email-worker {name}")


def open_publisher(settings: "Settings", name: str) -> Publisher:
    """A producer for events and dead letters."""
    return Publisher(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id=f"{settings.worker_name}-{name}",
        client_settings=dict(settings.kafka_client),
    )


def open_redis_link(settings: "Settings") -> RedisLink | None:
    """A line to Redis for what nothing depends on; None where there is no Redis."""
    return RedisLink(settings.redis_url.reveal()) if settings.redis_host else None


def open_board(settings: "Settings", link: RedisLink | None) -> StatusBoard:
    """Where producers see the status of their jobs."""
    return StatusBoard(link, settings.email_dead_letter_queue)


def open_vault(settings: "Settings") -> Vault:
    """Stored payloads, encrypted where ENCRYPTION_KEYS is set."""
    return Vault([key.reveal() for key in settings.encryption_keys])


def host_name(settings: "Settings") -> str:
    """How the ledger calls this supervisor on this machine."""
    return f"{settings.worker_name}@{socket.gethostname()}"
