"""Topics as an operator sees them: are they there, can the dead-letter topic hold every dead letter?"""

from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from config.settings import Settings
from intake.lanes import is_pattern

# A record of MAX_JOB_BYTES can double as JSON text, and its envelope comes on top.
DEAD_LETTER_ROOM_BYTES = 4 << 20
_TIMEOUT_S = 5.0


def find(settings: Settings) -> Iterator[tuple[bool | None, str, str]]:
    """Whether the broker answers, and which topics are missing."""
    try:
        present = set(_admin(settings).list_topics(timeout=_TIMEOUT_S).topics)
    except KafkaException as error:
        yield False, "kafka", f"{settings.kafka_bootstrap_servers} does not answer ({error.args[0].name()}); check KAFKA_BOOTSTRAP_SERVERS"
        return
    on = {account.provider for account in settings.accounts}
    callbacks = [topic for provider, topic in settings.webhook_topics.items() if provider in on]
    wanted = [*_job_topics(settings), *callbacks, settings.kafka_topic_email_events, settings.email_dead_letter_queue]
    missing = [name for name in wanted if name not in present]
    if missing:
        yield False, "kafka", f"topics are missing: {', '.join(missing)}; create them (64 partitions for jobs in production)"
    else:
        yield True, "kafka", f"{settings.kafka_bootstrap_servers} answers, {len(wanted)} topics are there"


def ensure_dead_letter_topic(settings: Settings) -> str | None:
    """Make the dead-letter topic, or check its message limit; returns a problem, or None."""
    name = settings.email_dead_letter_queue
    topic = NewTopic(name, 1, config={"max.message.bytes": str(DEAD_LETTER_ROOM_BYTES)})
    try:
        admin = _admin(settings)
        if name not in admin.list_topics(timeout=_TIMEOUT_S).topics:
            admin.create_topics([topic])[name].result(_TIMEOUT_S)
            return None
        return _too_small(admin, name)
    except KafkaException as error:
        return f"topic {name} could not be made: {error.args[0].name()}; make it with max.message.bytes={DEAD_LETTER_ROOM_BYTES}"


def _too_small(admin: AdminClient, name: str) -> str | None:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    try:
        entries = admin.describe_configs([resource])[resource].result(_TIMEOUT_S)
    except KafkaException:
        return None  # not every broker tells; what does not fit travels by its row id
    limit = entries.get("max.message.bytes")
    if limit is not None and limit.value is not None and int(limit.value) < DEAD_LETTER_ROOM_BYTES:
        return f"topic {name} takes {limit.value} bytes a message; raise its max.message.bytes to {DEAD_LETTER_ROOM_BYTES}"
    return None


def _job_topics(settings: Settings) -> list[str]:
    lanes = (settings.kafka_topic_email_jobs_high, settings.kafka_topic_email_jobs, settings.kafka_topic_email_jobs_bulk)
    return [name for names in lanes for name in names if not is_pattern(name)]


def _admin(settings: Settings) -> AdminClient:
    options: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0, **settings.kafka_client}
    consumers_only = ("session.timeout.ms", "max.poll.interval.ms", "heartbeat.interval.ms")
    return AdminClient({key: value for key, value in options.items() if key not in consumers_only})
