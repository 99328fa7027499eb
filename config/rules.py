"""What must hold between settings, and what is worth saying at boot though nothing is wrong.

Each rule looks at checked settings and yields problems (a name and the fix) or notices (a sentence). No value is repeated.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from config.catalog import Stanza
from config.declared import Settings
from config.kinds import is_loopback
from mail.errors import SettingProblem

# Ours to decide: another value would lose or double emails, or has a setting of its own.
_OUR_CLIENT_OPTIONS = {
    "bootstrap.servers": "use KAFKA_BOOTSTRAP_SERVERS",
    "metadata.broker.list": "use KAFKA_BOOTSTRAP_SERVERS",
    "group.id": "use KAFKA_GROUP_ID",
    "auto.offset.reset": "use KAFKA_OFFSET_RESET",
    "group.instance.id": "it follows from WORKER_NAME, host and slot",
    "enable.auto.commit": "offsets are committed when their emails are recorded",
    "enable.auto.offset.store": "offsets are committed when their emails are recorded",
}


def problems(settings: Settings) -> Iterator[SettingProblem]:
    """Everything that is wrong between the settings."""
    yield from _times(settings)
    yield from _workers(settings)
    yield from _topics(settings)
    yield from _client_options(settings)
    yield from _routing(settings)
    yield from _plain_text(settings)
    if settings.unsubscribe_url and not settings.unsubscribe_key:
        yield SettingProblem("UNSUBSCRIBE_KEY", "is missing: UNSUBSCRIBE_URL is set, and its tokens must be signed")


def _times(settings: Settings) -> Iterator[SettingProblem]:
    if settings.email_job_timeout_s * 1_000 >= settings.kafka_max_poll_interval_ms:
        fix = (
            f"must be below Kafka's max.poll.interval.ms ({settings.kafka_max_poll_interval_ms} ms), else Kafka gives the batch to another"
        )
        yield SettingProblem("EMAIL_JOB_TIMEOUT_SECONDS", fix)
    if settings.esp_timeout_s >= settings.email_job_timeout_s:
        yield SettingProblem("ESP_TIMEOUT_SECONDS", "must be below EMAIL_JOB_TIMEOUT_SECONDS, which bounds the whole batch")
    if settings.esp_connect_timeout_s > settings.esp_timeout_s:
        yield SettingProblem("ESP_CONNECT_TIMEOUT_SECONDS", "must not exceed ESP_TIMEOUT_SECONDS, which is the total")


def _workers(settings: Settings) -> Iterator[SettingProblem]:
    if settings.express_workers >= max(2, settings.worker_concurrency):
        yield SettingProblem("EXPRESS_WORKERS", "must be below WORKER_CONCURRENCY, else nobody serves the normal lane")


def _topics(settings: Settings) -> Iterator[SettingProblem]:
    owners: dict[str, str] = {}
    for name, topic in _named_topics(settings):
        if topic in owners:
            yield SettingProblem(name, f"must name another topic than {owners[topic]}")
        owners.setdefault(topic, name)
    for name, pattern in _patterns(settings):
        for topic in (settings.kafka_topic_email_events, settings.email_dead_letter_queue):
            if re.match(pattern, topic):
                yield SettingProblem(name, f"must not match the topic of {owners[topic]}, which we write to ourselves")


def _job_topics(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {
        "KAFKA_TOPIC_EMAIL_JOBS": settings.kafka_topic_email_jobs,
        "KAFKA_TOPIC_EMAIL_JOBS_HIGH": settings.kafka_topic_email_jobs_high,
        "KAFKA_TOPIC_EMAIL_JOBS_BULK": settings.kafka_topic_email_jobs_bulk,
    }


def _named_topics(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "KAFKA_TOPIC_EMAIL_EVENTS", settings.kafka_topic_email_events
    yield "EMAIL_DEAD_LETTER_QUEUE", settings.email_dead_letter_queue
    for name, topics in _job_topics(settings).items():
        yield from ((name, topic) for topic in topics if not topic.startswith("^"))
    for provider, topic in settings.webhook_topics.items():
        yield f"WEBHOOK_TOPIC_{provider.upper()}", topic


def _patterns(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, topics in _job_topics(settings).items():
        yield from ((name, topic) for topic in topics if topic.startswith("^"))


def _client_options(settings: Settings) -> Iterator[SettingProblem]:
    for option, instead in _OUR_CLIENT_OPTIONS.items():
        if option in settings.kafka_client:
            yield SettingProblem(f"KAFKA_CLIENT_{option.upper().replace('.', '_')}", f"must not be set: {instead}")
    interval = settings.kafka_client.get("max.poll.interval.ms")
    if interval is not None and not interval.isdigit():
        yield SettingProblem("KAFKA_CLIENT_MAX_POLL_INTERVAL_MS", "must be a whole number of milliseconds")


def _routing(settings: Settings) -> Iterator[SettingProblem]:
    if settings.email_routing != "primary":
        return
    on = {account.provider for account in settings.accounts}
    if not settings.email_provider_primary:
        yield SettingProblem("EMAIL_PROVIDER_PRIMARY", "is missing: EMAIL_ROUTING=primary needs it")
    for name in ("EMAIL_PROVIDER_PRIMARY", "EMAIL_PROVIDER_FALLBACK"):
        provider = getattr(settings, name.lower())
        if provider and provider not in on:
            yield SettingProblem(name, f"must be an ESP whose credentials are set ({', '.join(sorted(on)) or 'none is'})")


def _plain_text(settings: Settings) -> Iterator[SettingProblem]:
    if not settings.is_production:
        return
    if settings.db_ssl_mode == "disable" and not is_loopback(settings.db_host):
        yield SettingProblem("DB_SSL_MODE", "must not be disable in production for a database on another host: use require or verify-full")
    smtp_host = settings.esp_values.get("SMTP_HOST", "")
    if smtp_host and settings.esp_values.get("SMTP_ENCRYPTION") == "none" and not is_loopback(smtp_host):
        yield SettingProblem("SMTP_ENCRYPTION", "must not be none in production for a relay on another host: use starttls or tls")


def notices(settings: Settings, catalog: list[Stanza], names: list[str], given: Mapping[str, str]) -> Iterator[str]:
    """What the boot log says. `names` are the ESPs' settings; `given` those that somebody set, with their texts."""
    if not settings.accounts:
        yield "no ESP is on: emails wait until the credentials of one are set"
    yield from _about_esps(catalog, names, given)
    yield from _about_unread(catalog, given)
    yield from _about_routing(settings)
    yield from _about_mail(settings)
    yield from _about_safety(settings)


def _about_esps(catalog: list[Stanza], names: list[str], given: Mapping[str, str]) -> Iterator[str]:
    for stanza in catalog:
        if not stanza.is_on(given):
            yield f"{stanza.provider} is off: {', '.join(stanza.missing(given))} not set"
        elif unset := [name for name in stanza.callback_settings(names) if name not in given]:
            yield f"callbacks of {stanza.provider} are accepted unchecked: {', '.join(unset)} not set"


def _about_unread(catalog: list[Stanza], given: Mapping[str, str]) -> Iterator[str]:
    read = {credential.setting for stanza in catalog for credential in stanza.credentials.values()}
    read |= {stanza.base_url_setting for stanza in catalog}
    for name in given:
        if name not in read and not name.startswith("WEBHOOK_TOPIC_"):
            yield f"{name} is ignored: no stanza of config/esps.toml reads it"


def _about_routing(settings: Settings) -> Iterator[str]:
    named = [name for name in ("EMAIL_PROVIDER_PRIMARY", "EMAIL_PROVIDER_FALLBACK") if getattr(settings, name.lower())]
    if named and settings.email_routing == "weighted":
        yield f"{', '.join(named)} ignored: EMAIL_ROUTING is weighted"
    if settings.email_recipient_allowlist:
        yield "EMAIL_RECIPIENT_ALLOWLIST is set: everybody else gets no mail"
    if settings.email_recipient_redirect:
        yield "EMAIL_RECIPIENT_REDIRECT is set: all mail goes to one address"


def _about_mail(settings: Settings) -> Iterator[str]:
    if not settings.email_from_address:
        yield "EMAIL_FROM_ADDRESS is not set: jobs that name no sender are dead letters"
    if not settings.unsubscribe_url:
        yield "UNSUBSCRIBE_URL is not set: marketing mail has no one-click unsubscribe header, which large mailbox providers demand"


def _about_safety(settings: Settings) -> Iterator[str]:
    if not settings.encryption_keys:
        yield "ENCRYPTION_KEYS is not set: stored payloads are not encrypted"
    if settings.drain_timeout_s < settings.esp_timeout_s:
        yield "DRAIN_TIMEOUT_SECONDS is below ESP_TIMEOUT_SECONDS: a stop may leave emails uncertain"
    if settings.db_ssl_mode in ("allow", "prefer") and not is_loopback(settings.db_host):
        yield f"DB_SSL_MODE={settings.db_ssl_mode} may talk to the database unencrypted"
    for account in settings.accounts:
        url = urlsplit(account.base_url)
        if settings.is_production and url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield f"the key of {account.provider} travels unencrypted: its base URL is http"
