"""The settings, each declared once: field, kind, default, and one sentence on what it does.

A field's name is the setting's in lower case, with `_s` for `_SECONDS`. What belongs to one ESP is in config/esp_settings.py
and config/esps.toml. Nothing here reads the environment: config/settings.py does.
"""
# ruff: noqa: RUF009 - each field's default is the declaration of its setting, made by `setting`

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from config import kinds, urls
from config.kinds import choice, seconds, whole
from config.machine import available_cpus, default_state_dir
from config.secret import ClientOptions, Secret
from config.setting import setting, settings_of
from mail.account import Account
from mail.limits import DecodeLimits

_worker = partial(setting, "The worker")
_ledger = partial(setting, "What is kept")
_doubt = partial(setting, "Uncertain emails")
_time = partial(setting, "Time limits and retries")
_db = partial(setting, "PostgreSQL")
_redis = partial(setting, "Redis (optional)")
_kafka = partial(setting, "Kafka")
_grpc = partial(setting, "Other services (gRPC, each optional)")
_route = partial(setting, "Routing")
_mail = partial(setting, "What the emails say")

_DEVELOPMENT = frozenset({"development", "dev", "local", "test", "sandbox"})
# librdkafka's own default is 300 s; a batch may take as long as EMAIL_JOB_TIMEOUT_SECONDS
_LEAST_POLL_INTERVAL_MS = 300_000
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """All settings of a process, checked. Made by config.settings.load_settings only."""

    worker_name: str = _worker(kinds.NAME, "email-worker-1", "Name of this worker, unique per host: lock, state folder and Kafka member.")
    environment: str = _worker(
        kinds.NAME, "production", "Where this runs; production refuses plain SMTP and unencrypted PostgreSQL off loopback."
    )
    log_level: str = _worker(kinds.LEVEL, "info", "Lines below this level are not written.")
    worker_concurrency: int = _worker(
        whole(1, 100),
        None,
        "Delivery processes; `--workers` wins.",
        aliases=("EMAIL_JOB_CONCURRENCY",),
        derive=lambda environ, values: min(100, available_cpus()),
        default_text="CPUs",
    )
    worker_batch_size: int = _worker(
        whole(1, 5_000), 500, "Most emails that one process takes in hand at once.", unit="emails", aliases=("EMAIL_JOB_BATCH_SIZE",)
    )
    express_workers: int = _worker(whole(0, 99), 1, "Delivery processes that serve the high lane only; without effect with one worker.")
    webhook_workers: int = _worker(whole(0, 16), 1, "Processes that apply the ESPs' events.")
    esp_connections: int = _worker(whole(1, 50), 8, "Requests to ESPs at once, per delivery process.")
    state_dir: Path = _worker(
        kinds.FOLDER,
        None,
        "Flight logs, locks and metric files; it must outlive the service's restarts.",
        derive=default_state_dir,
        default_text="$STATE_DIRECTORY, else a folder per user and worker name in the temporary directory",
    )
    max_job_bytes: int = _worker(
        whole(1_024, 16 << 20), 1 << 20, "A record's value longer than this is a dead letter (too-large).", unit="bytes"
    )
    metrics_port: int = _worker(kinds.ANY_PORT, 9464, "Port of metrics and health; 0 = any free one, which is logged.")
    encryption_keys: tuple[Secret, ...] = _worker(
        kinds.FERNET_KEYS, (), "Fernet keys for stored payloads and credentials, comma-separated, newest first."
    )

    keep_content: str = _ledger(
        choice("none", "unfinished", "all"), "unfinished", "For which jobs the rows keep the content and data: none, unfinished or all."
    )
    dedup_days: int = _ledger(whole(1, 3_650), 45, "A job id is known this long; keep it longer than Kafka's retention.", unit="days")
    retention_jobs_days: int = _ledger(whole(1, 36_500), 90, "Jobs and attempts older than this are dropped.", unit="days")
    retention_tracking_days: int = _ledger(whole(1, 36_500), 180, "Events older than this are dropped.", unit="days")
    retention_dead_letters_days: int = _ledger(
        whole(1, 36_500), 90, "Dead letters older than this are deleted, replayed or not; the audit log tells how many.", unit="days"
    )
    keep_unmatched_events: bool = _ledger(kinds.TRUTH, True, "Keep events that belong to no email of ours (accounts shared with others).")

    uncertain_policy_transactional: str = _doubt(
        choice("resend", "hold"), "resend", "What is done with a transactional email of which no evidence comes: resend once, or hold."
    )
    uncertain_policy_marketing: str = _doubt(choice("resend", "hold"), "hold", "The same for a marketing email.")
    uncertain_policy_smtp: str = _doubt(
        choice("resend", "hold"),
        "hold",
        "The same for what went out by SMTP, which never gives evidence to wait for; the policy above must say resend too.",
    )
    uncertain_grace_s: float = _doubt(seconds(0, 604_800), 900.0, "No decision without evidence before this has passed.", unit="seconds")

    esp_timeout_s: float = _time(seconds(0.1, 300), 20.0, "Total time for one request to an ESP.", unit="seconds")
    esp_connect_timeout_s: float = _time(seconds(0.05, 60), 3.0, "Time for connecting to an ESP.", unit="seconds")
    drain_timeout_s: float = _time(seconds(0, 3_600), 30.0, "Time that a stopping worker has to finish what is in hand.", unit="seconds")
    email_job_timeout_s: float = _time(seconds(1, 43_200), 300.0, "Longest time of a batch, from poll to commit.", unit="seconds")
    email_retry_delay_s: float = _time(seconds(0, 21_600), 60.0, "Retry n waits this × 2^n with jitter, at most 6 hours.", unit="seconds")
    email_max_retries: int = _time(whole(0, 100), 3, "Attempts that were refused before an email is dead, where its job does not say.")
    email_dead_letter_queue: str = _time(kinds.TOPIC, "email-dlq", "Kafka topic and Redis list of dead letters.")

    db_host: str = _db(kinds.HOST, "localhost", "Host of PostgreSQL, or the folder of its socket.", url="DATABASE_URL")
    db_port: int = _db(kinds.PORT, 5432, "Port of PostgreSQL.", url="DATABASE_URL")
    db_name: str = _db(kinds.DB_NAME, "email_worker_db", "Database.", url="DATABASE_URL")
    db_user: str = _db(kinds.DB_NAME, "email_worker_user", "Role to log in as.", url="DATABASE_URL")
    db_password: Secret = _db(kinds.SECRET, Secret(), "That role's password.", url="DATABASE_URL")
    db_ssl_mode: str = _db(
        choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "require",
        "libpq's sslmode; production refuses disable off loopback.",
        url="DATABASE_URL",
    )

    redis_host: str = _redis(kinds.HOST, "", "Host of Redis; unset = no Redis.", url="REDIS_URL")
    redis_port: int = _redis(kinds.PORT, 6379, "Port of Redis.", url="REDIS_URL")
    redis_password: Secret = _redis(kinds.SECRET, Secret(), "Password of Redis.", url="REDIS_URL")
    redis_db: int = _redis(whole(0, 1_000_000), 5, "Number of the Redis database.", url="REDIS_URL")

    kafka_bootstrap_servers: str = _kafka(
        kinds.BROKERS, "localhost:9092", "Brokers to start from, host:port, comma-separated.", aliases=("KAFKA_BROKERS",)
    )
    kafka_topic_email_jobs: tuple[str, ...] = _kafka(
        kinds.TOPICS,
        ("email-jobs",),
        "Jobs of the normal lane: a topic, a comma list, or a regular expression that begins with ^.",
        aliases=("KAFKA_EMAIL_TOPIC",),
    )
    kafka_topic_email_jobs_high: tuple[str, ...] = _kafka(kinds.TOPICS, ("email-jobs-high",), "Jobs of the high lane.")
    kafka_topic_email_jobs_bulk: tuple[str, ...] = _kafka(kinds.TOPICS, ("email-jobs-bulk",), "Jobs of the bulk lane.")
    kafka_topic_email_events: str = _kafka(kinds.TOPIC, "email-events", "Topic that we publish events to.")
    kafka_group_id: str = _kafka(kinds.NAME, "email-worker", "Consumer group of the delivery workers.")
    kafka_webhook_group_id: str = _kafka(
        kinds.NAME,
        None,
        "Consumer group of the webhook workers.",
        derive=lambda environ, values: f"{values['KAFKA_GROUP_ID']}-webhooks",
        default_text="<KAFKA_GROUP_ID>-webhooks",
    )
    kafka_offset_reset: str = _kafka(choice("earliest", "latest", "error"), "earliest", "Where a group without offsets begins.")

    grpc_auth_service_url: str = _grpc(kinds.TARGET, "", "host:port of the auth service; unset = off.")
    grpc_user_service_url: str = _grpc(kinds.TARGET, "", "host:port of the user service (segments, names); unset = off.")
    grpc_booking_service_url: str = _grpc(kinds.TARGET, "", "host:port of the booking service; unset = off.")
    grpc_max_receive_message_size: int = _grpc(whole(1_024, _MAX_BYTES), 4 << 20, "Longest message taken.", unit="bytes")
    grpc_max_send_message_size: int = _grpc(whole(1_024, _MAX_BYTES), 4 << 20, "Longest message sent.", unit="bytes")
    # a gRPC server with default settings hangs up on clients that ping more often than every five minutes (grpc keepalive guide, 2026)
    grpc_keepalive_time_ms: int = _grpc(whole(1_000, 86_400_000), 300_000, "A ping after this much silence.", unit="milliseconds")
    grpc_keepalive_timeout_ms: int = _grpc(whole(100, 600_000), 20_000, "A ping unanswered for this long means dead.", unit="milliseconds")

    email_routing: str = _route(
        choice("weighted", "primary"), "weighted", "weighted, or primary: PRIMARY, FALLBACK, then the rest by weight."
    )
    email_provider_primary: str = _route(kinds.IDENTIFIER, "", "First ESP where EMAIL_ROUTING=primary.")
    email_provider_fallback: str = _route(kinds.IDENTIFIER, "", "Second ESP where EMAIL_ROUTING=primary.")
    mx_lookups: bool = _route(
        kinds.TRUTH, False, "Look up mail exchangers, so that a domain hosted by a mailbox provider counts as that provider's."
    )
    email_recipient_allowlist: tuple[str, ...] = _route(
        kinds.ALLOWLIST, (), "Staging guard: only these addresses and domains get mail; comma-separated."
    )
    email_recipient_redirect: str = _route(kinds.ADDRESS, "", "Staging guard: all mail goes to this address instead.")

    email_from_address: str = _mail(kinds.ADDRESS, "", "Sender of jobs that name none; without it they are dead letters.")
    email_from_name: str = _mail(kinds.LINE, "", "That sender's display name.")
    email_reply_to: str = _mail(kinds.ADDRESS, "", "Reply-To of jobs that name none.")
    unsubscribe_url: str = _mail(
        kinds.UNSUBSCRIBE_URL, "", "https URL with {token} for one-click unsubscribing from marketing mail; unset = no such header."
    )
    unsubscribe_mailto: str = _mail(kinds.MAILTO, "", "Address for unsubscribing by mail.")
    unsubscribe_key: Secret = _mail(kinds.SECRET, Secret(), "Key that signs the unsubscribe tokens.")

    # What follows from several settings, and has no name of its own in the environment.
    accounts: tuple[Account, ...] = ()
    providers: frozenset[str]
    webhook_topics: Mapping[str, str]
    kafka_client: ClientOptions
    db_options: ClientOptions
    redis_user: str = ""
    redis_has_tls: bool = False
    esp_values: ClientOptions
    secret_values: tuple[Secret, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, known in settings_of(Settings).items() if not known.kind.is_private)
        return f"Settings({', '.join(shown)}, accounts={list(self.accounts)!r})"

    def notices(self) -> list[str]:
        """What the boot log says: what is off, ignored or unguarded. No secret and no address in it."""
        return list(self.notes)

    def secrets(self) -> list[str]:
        """Every secret text that is set, for the log's redaction (telemetry.log.hide)."""
        return [*(secret.reveal() for secret in self.secret_values if secret), *_secret_options(self.kafka_client)]

    @property
    def is_production(self) -> bool:
        return self.environment.lower() in ("production", "prod")

    @property
    def decode_limits(self) -> DecodeLimits:
        """How much a record may ask for, and which ESPs a job may pin: those of config/esps.toml, on or off."""
        return DecodeLimits(max_job_bytes=self.max_job_bytes, providers=self.providers)

    @property
    def metrics_host(self) -> str:
        """Where the exporter listens: every interface, for probes and Prometheus; on a developer's machine loopback only."""
        return "127.0.0.1" if self.environment.lower() in _DEVELOPMENT else "0.0.0.0"  # noqa: S104

    @property
    def kafka_max_poll_interval_ms(self) -> int:
        """Consumers' max.poll.interval.ms: KAFKA_CLIENT_MAX_POLL_INTERVAL_MS, else twice the longest batch, at least 300 s."""
        given = self.kafka_client.get("max.poll.interval.ms", "")
        return int(given) if given.isdigit() else max(_LEAST_POLL_INTERVAL_MS, int(self.email_job_timeout_s * 2_000))

    @property
    def database_url(self) -> Secret:
        """All of PostgreSQL's settings as one libpq URL."""
        options = {"sslmode": self.db_ssl_mode, **self.db_options}
        return Secret(urls.database_url(self.db_host, self.db_port, self.db_name, self.db_user, self.db_password.reveal(), options))

    @property
    def redis_url(self) -> Secret:
        """All of Redis' settings as one URL; empty where there is no Redis."""
        if not self.redis_host:
            return Secret()
        login = (self.redis_user, self.redis_password.reveal())
        return Secret(urls.redis_url(self.redis_host, self.redis_port, self.redis_db, login, self.redis_has_tls))


def _secret_options(options: Mapping[str, Any]) -> list[str]:
    return [value for name, value in options.items() if any(word in name for word in ("password", "secret", "key", "token"))]
