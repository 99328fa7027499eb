"""The settings: every name of the contract, where a value comes from, and that all problems are told at once."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from config.catalog import CATALOG, read_catalog
from config.secret import Secret
from config.settings import all_settings, load_settings
from mail.errors import BadSettings

# By hand, from the contract: a name that is dropped or misspelt in the declarations must fail here.
_CONTRACT = """
WORKER_NAME ENVIRONMENT LOG_LEVEL WORKER_CONCURRENCY WORKER_BATCH_SIZE EXPRESS_WORKERS WEBHOOK_WORKERS ESP_CONNECTIONS STATE_DIR
KEEP_CONTENT DEDUP_DAYS RETENTION_JOBS_DAYS RETENTION_TRACKING_DAYS UNCERTAIN_POLICY_TRANSACTIONAL UNCERTAIN_POLICY_MARKETING
UNCERTAIN_POLICY_SMTP UNCERTAIN_GRACE_SECONDS ESP_TIMEOUT_SECONDS ESP_CONNECT_TIMEOUT_SECONDS DRAIN_TIMEOUT_SECONDS MAX_JOB_BYTES
KEEP_UNMATCHED_EVENTS DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD DB_SSL_MODE REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB
KAFKA_BOOTSTRAP_SERVERS KAFKA_TOPIC_EMAIL_JOBS KAFKA_TOPIC_EMAIL_EVENTS KAFKA_GROUP_ID KAFKA_TOPIC_EMAIL_JOBS_HIGH
KAFKA_TOPIC_EMAIL_JOBS_BULK KAFKA_WEBHOOK_GROUP_ID KAFKA_OFFSET_RESET WEBHOOK_TOPIC_SENDGRID WEBHOOK_TOPIC_POSTMARK
WEBHOOK_TOPIC_SOCKETLABS WEBHOOK_TOPIC_SPARKPOST WEBHOOK_TOPIC_SES GRPC_AUTH_SERVICE_URL GRPC_USER_SERVICE_URL GRPC_BOOKING_SERVICE_URL
GRPC_MAX_RECEIVE_MESSAGE_SIZE GRPC_MAX_SEND_MESSAGE_SIZE GRPC_KEEPALIVE_TIME_MS GRPC_KEEPALIVE_TIMEOUT_MS EMAIL_ROUTING
EMAIL_PROVIDER_PRIMARY EMAIL_PROVIDER_FALLBACK EMAIL_RECIPIENT_ALLOWLIST EMAIL_RECIPIENT_REDIRECT EMAIL_FROM_ADDRESS EMAIL_FROM_NAME
EMAIL_REPLY_TO SENDGRID_API_KEY SENDGRID_TEMPLATE_ID POSTMARK_SERVER_TOKEN SOCKETLABS_SERVER_ID SOCKETLABS_API_KEY SPARKPOST_API_KEY
AWS_SES_REGION AWS_SES_ACCESS_KEY AWS_SES_SECRET_KEY SMTP_HOST SMTP_PORT SMTP_USERNAME SMTP_PASSWORD SMTP_ENCRYPTION SENDGRID_BASE_URL
POSTMARK_BASE_URL SOCKETLABS_BASE_URL SPARKPOST_BASE_URL AWS_SES_BASE_URL SENDGRID_WEBHOOK_PUBLIC_KEY POSTMARK_WEBHOOK_USERNAME
POSTMARK_WEBHOOK_PASSWORD SOCKETLABS_WEBHOOK_SECRET SPARKPOST_WEBHOOK_USERNAME SPARKPOST_WEBHOOK_PASSWORD AWS_SES_WEBHOOK_TOPIC_ARN
AWS_SNS_CERT_HOST AWS_SNS_TRUST_ROOT UNSUBSCRIBE_URL UNSUBSCRIBE_MAILTO UNSUBSCRIBE_KEY EMAIL_JOB_TIMEOUT_SECONDS
EMAIL_RETRY_DELAY_SECONDS EMAIL_MAX_RETRIES EMAIL_DEAD_LETTER_QUEUE METRICS_PORT ENCRYPTION_KEYS
"""
CONTRACT = _CONTRACT.split()

DEFAULTS = {
    "worker_name": "email-worker-1",
    "environment": "production",
    "log_level": "info",
    "worker_batch_size": 500,
    "express_workers": 1,
    "webhook_workers": 1,
    "esp_connections": 8,
    "keep_content": "unfinished",
    "dedup_days": 45,
    "retention_jobs_days": 90,
    "retention_tracking_days": 180,
    "uncertain_policy_transactional": "resend",
    "uncertain_policy_marketing": "hold",
    "uncertain_policy_smtp": "hold",
    "uncertain_grace_s": 900,
    "esp_timeout_s": 20,
    "esp_connect_timeout_s": 3,
    "drain_timeout_s": 30,
    "max_job_bytes": 1_048_576,
    "keep_unmatched_events": True,
    "db_host": "localhost",
    "db_port": 5432,
    "db_name": "email_worker_db",
    "db_user": "email_worker_user",
    "db_ssl_mode": "require",
    "redis_host": "",
    "redis_port": 6379,
    "redis_db": 5,
    "kafka_bootstrap_servers": "localhost:9092",
    "kafka_topic_email_jobs": ("email-jobs",),
    "kafka_topic_email_jobs_high": ("email-jobs-high",),
    "kafka_topic_email_jobs_bulk": ("email-jobs-bulk",),
    "kafka_topic_email_events": "email-events",
    "kafka_group_id": "email-worker",
    "kafka_webhook_group_id": "email-worker-webhooks",
    "kafka_offset_reset": "earliest",
    "grpc_auth_service_url": "",
    "email_routing": "weighted",
    "email_job_timeout_s": 300,
    "email_retry_delay_s": 60,
    "email_max_retries": 3,
    "email_dead_letter_queue": "email-dlq",
    "metrics_port": 9464,
    "encryption_keys": (),
    "accounts": (),
}


def problems_of(environ: dict[str, str], dotenv: Path | None = None) -> dict[str, str]:
    with pytest.raises(BadSettings) as caught:
        load_settings(environ, dotenv)
    return {problem.name: problem.fix for problem in caught.value.problems}


def test_every_name_of_the_contract_is_declared_once() -> None:
    declared = [setting.name for setting in all_settings()]
    assert sorted(set(CONTRACT) - set(declared)) == []
    assert len(declared) == len(set(declared))


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings({}, None)
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


def test_every_declaration_has_a_sentence_and_its_default_is_one_of_its_values() -> None:
    for setting in all_settings():
        assert setting.about.endswith("."), setting.name
        if setting.shown_default and not setting.default_text:
            assert setting.kind.parse(setting.shown_default) == setting.default, setting.name


@pytest.mark.parametrize(
    ("alias", "text", "field", "value"),
    [
        ("EMAIL_JOB_CONCURRENCY", "7", "worker_concurrency", 7),
        ("EMAIL_JOB_BATCH_SIZE", "50", "worker_batch_size", 50),
        ("KAFKA_BROKERS", "a:1, b:2", "kafka_bootstrap_servers", "a:1,b:2"),
        ("KAFKA_EMAIL_TOPIC", "mails", "kafka_topic_email_jobs", ("mails",)),
    ],
)
def test_the_other_names_of_the_contract_are_read_too(alias: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({alias: text}, None), field) == value


def test_our_own_name_wins_over_another_and_the_boot_log_says_so() -> None:
    settings = load_settings({"KAFKA_BROKERS": "old:1", "KAFKA_BOOTSTRAP_SERVERS": "new:2"}, None)
    assert settings.kafka_bootstrap_servers == "new:2"
    assert "KAFKA_BROKERS is ignored: KAFKA_BOOTSTRAP_SERVERS is set to something else" in settings.notices()


def test_the_environment_wins_over_the_file_whatever_name_it_uses(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("WORKER_NAME=from-file\nKAFKA_BOOTSTRAP_SERVERS=file:1\nDB_HOST=file-db\nDB_PORT=6000\nMETRICS_PORT=1\n")
    settings = load_settings({"WORKER_NAME": "from-env", "KAFKA_BROKERS": "env:2", "DATABASE_URL": "postgres://u@env-db/x"}, dotenv)
    assert settings.worker_name == "from-env"
    assert settings.kafka_bootstrap_servers == "env:2"
    assert (settings.db_host, settings.db_port) == ("env-db", 5432)
    assert settings.metrics_port == 1


def test_a_missing_file_is_no_problem_and_an_unreadable_one_is(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / ".env").worker_name == "email-worker-1"
    (tmp_path / ".env").write_bytes(b"WORKER_NAME=\xff\xfe\n")
    assert "UTF-8" in problems_of({}, tmp_path / ".env")[".env"]


def test_a_dollar_in_a_password_of_the_file_means_itself(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_PASSWORD='a${HOME}b'\n")
    assert load_settings({}, tmp_path / ".env").db_password.reveal() == "a${HOME}b"


def test_an_empty_value_counts_as_unset() -> None:
    assert load_settings({"METRICS_PORT": "", "WORKER_NAME": "  "}, None).metrics_port == 9464


def test_a_misspelt_name_in_the_file_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SENGRID_API_KEY=x\nPOSTGRES_USER=u\n")
    told = [notice for notice in load_settings({}, tmp_path / ".env").notices() if ".env" in notice]
    assert told == ["SENGRID_API_KEY in .env is read by nobody: is SENDGRID_API_KEY meant?"]


def test_a_database_url_is_taken_apart_and_its_other_options_are_kept() -> None:
    url = "postgresql://us%40er:p%2Fw%3A@db.example.com:6432/mails?sslmode=verify-full&application_name=worker"
    settings = load_settings({"DATABASE_URL": url}, None)
    assert (settings.db_host, settings.db_port, settings.db_name, settings.db_user) == ("db.example.com", 6432, "mails", "us@er")
    assert (settings.db_password.reveal(), settings.db_ssl_mode) == ("p/w:", "verify-full")
    assert dict(settings.db_options) == {"application_name": "worker"}
    assert settings.database_url.reveal() == url


def test_a_database_behind_a_socket_or_an_ipv6_address_is_reached() -> None:
    socket = load_settings({"DATABASE_URL": "postgresql:///mails?host=/run/postgresql"}, None)
    assert socket.db_host == "/run/postgresql"
    assert "host=%2Frun%2Fpostgresql" in socket.database_url.reveal()
    assert "@[::1]:5433/" in load_settings({"DB_HOST": "::1", "DB_PORT": "5433"}, None).database_url.reveal()


def test_a_redis_url_is_taken_apart_and_a_missing_host_means_no_redis() -> None:
    settings = load_settings({"REDIS_URL": "rediss://ann:p%40w@cache.example.com/3"}, None)
    assert (settings.redis_host, settings.redis_port, settings.redis_db, settings.redis_has_tls) == ("cache.example.com", 6379, 3, True)
    assert settings.redis_url.reveal() == "rediss://ann:p%40w@cache.example.com:6379/3"
    assert not load_settings({}, None).redis_url


def test_client_options_reach_librdkafka_in_its_spelling_and_ours_are_refused() -> None:
    settings = load_settings({"KAFKA_CLIENT_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_CLIENT_SASL_PASSWORD": "canary-pw"}, None)
    assert dict(settings.kafka_client) == {"security.protocol": "SASL_SSL", "sasl.password": "canary-pw"}
    assert "canary" not in f"{settings.kafka_client!r} {settings.kafka_client}"
    assert set(problems_of({"KAFKA_CLIENT_ENABLE_AUTO_COMMIT": "true"})) == {"KAFKA_CLIENT_ENABLE_AUTO_COMMIT"}


def test_topics_may_be_a_list_or_a_regular_expression() -> None:
    assert load_settings({"KAFKA_TOPIC_EMAIL_JOBS": "a, b,a"}, None).kafka_topic_email_jobs == ("a", "b")
    assert load_settings({"KAFKA_TOPIC_EMAIL_JOBS": "^jobs-[a-z]{1,9}$"}, None).kafka_topic_email_jobs == ("^jobs-[a-z]{1,9}$",)


def test_topics_that_would_feed_us_our_own_output_or_serve_two_lanes_are_refused() -> None:
    assert "KAFKA_TOPIC_EMAIL_JOBS" in problems_of({"KAFKA_TOPIC_EMAIL_JOBS": "email-events"})
    assert "KAFKA_TOPIC_EMAIL_JOBS" in problems_of({"KAFKA_TOPIC_EMAIL_JOBS": "^email-.*"})
    assert "KAFKA_TOPIC_EMAIL_JOBS_BULK" in problems_of({"KAFKA_TOPIC_EMAIL_JOBS_BULK": "email-jobs-high"})


WRONG = {
    "WORKER_CONCURRENCY": "0",
    "WORKER_NAME": "../up",
    "LOG_LEVEL": "loud",
    "KEEP_CONTENT": "some",
    "KEEP_UNMATCHED_EVENTS": "perhaps",
    "ESP_TIMEOUT_SECONDS": "nan",
    "DB_PORT": "five",
    "REDIS_DB": "-1",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka://broker:9092",
    "KAFKA_TOPIC_EMAIL_EVENTS": "two words",
    "GRPC_USER_SERVICE_URL": "http://users:50051",
    "EMAIL_ROUTING": "random",
    "EMAIL_FROM_ADDRESS": "nobody",
    "UNSUBSCRIBE_URL": "http://example.com/{token}",
    "SENDGRID_BASE_URL": "https://api.sendgrid.com/v3",
    "SMTP_ENCRYPTION": "ssl3",
    "METRICS_PORT": "65536",
    "ENCRYPTION_KEYS": "short",
    "DATABASE_URL": "mysql://db/x",
    "REDIS_URL": "redis://host:port/0",
    "AWS_SES_WEBHOOK_TOPIC_ARN": "topic",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_under_its_name(name: str) -> None:
    assert name in problems_of({name: WRONG[name]})


def test_all_problems_are_told_together_with_fixes_and_without_the_values() -> None:
    found = problems_of(WRONG)
    assert set(WRONG) <= set(found)
    assert all(fix.startswith(("must", "is missing")) for fix in found.values())
    text = " ".join(f"{name} {fix}" for name, fix in found.items())
    assert not [value for value in ("../up", "loud", "perhaps", "two words", "ssl3", "mysql://db/x", "65536") if value in text]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"DB_SSL_MODE": "disable", "DB_HOST": "db.example.com"}, "DB_SSL_MODE"),
        ({"DATABASE_URL": "postgres://u:p@10.0.0.5/x?sslmode=disable"}, "DB_SSL_MODE"),
        ({"SMTP_HOST": "relay.example.com", "SMTP_ENCRYPTION": "none"}, "SMTP_ENCRYPTION"),
    ],
)
def test_production_refuses_what_travels_in_the_clear_off_loopback(environ: dict[str, str], name: str) -> None:
    assert name in problems_of(environ)
    assert load_settings(environ | {"ENVIRONMENT": "staging"}, None)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "/run/postgresql"])
def test_production_allows_plain_text_on_loopback(host: str) -> None:
    assert load_settings({"DB_SSL_MODE": "disable", "DB_HOST": host}, None).db_ssl_mode == "disable"
    if not host.startswith("/"):
        assert load_settings({"SMTP_ENCRYPTION": "none", "SMTP_HOST": host}, None)


def test_the_longest_batch_stays_below_kafkas_poll_interval() -> None:
    assert "EMAIL_JOB_TIMEOUT_SECONDS" in problems_of({"KAFKA_CLIENT_MAX_POLL_INTERVAL_MS": "300000"})
    assert load_settings({"KAFKA_CLIENT_MAX_POLL_INTERVAL_MS": "300001"}, None).kafka_max_poll_interval_ms == 300_001
    assert load_settings({"EMAIL_JOB_TIMEOUT_SECONDS": "1000"}, None).kafka_max_poll_interval_ms == 2_000_000


def test_limits_that_contradict_each_other_are_refused() -> None:
    assert "ESP_TIMEOUT_SECONDS" in problems_of({"ESP_TIMEOUT_SECONDS": "60", "EMAIL_JOB_TIMEOUT_SECONDS": "60"})
    assert "ESP_CONNECT_TIMEOUT_SECONDS" in problems_of({"ESP_CONNECT_TIMEOUT_SECONDS": "21"})
    assert "EXPRESS_WORKERS" in problems_of({"EXPRESS_WORKERS": "4", "WORKER_CONCURRENCY": "4"})
    assert "UNSUBSCRIBE_KEY" in problems_of({"UNSUBSCRIBE_URL": "https://example.com/{token}"})
    assert load_settings({"EXPRESS_WORKERS": "1", "WORKER_CONCURRENCY": "1"}, None)


def test_primary_routing_needs_esps_that_are_on() -> None:
    assert "EMAIL_PROVIDER_PRIMARY" in problems_of({"EMAIL_ROUTING": "primary"})
    both = {"EMAIL_ROUTING": "primary", "EMAIL_PROVIDER_PRIMARY": "postmark", "EMAIL_PROVIDER_FALLBACK": "sendgrid"}
    assert set(problems_of(both | {"POSTMARK_SERVER_TOKEN": "t"})) == {"EMAIL_PROVIDER_FALLBACK"}


def test_the_boot_log_says_what_is_off_ignored_or_unguarded() -> None:
    told = "\n".join(load_settings({"EMAIL_PROVIDER_PRIMARY": "sendgrid", "POSTMARK_SERVER_TOKEN": "t"}, None).notices())
    assert "EMAIL_PROVIDER_PRIMARY ignored: EMAIL_ROUTING is weighted" in told
    assert "sendgrid is off: SENDGRID_API_KEY not set" in told
    assert "callbacks of postmark are accepted unchecked: POSTMARK_WEBHOOK_USERNAME, POSTMARK_WEBHOOK_PASSWORD not set" in told
    assert "EMAIL_FROM_ADDRESS is not set" in told
    assert "UNSUBSCRIBE_URL is not set" in told


def test_a_guarded_and_complete_setup_says_nothing_of_that() -> None:
    environ = {
        "EMAIL_FROM_ADDRESS": "no-reply@example.com",
        "UNSUBSCRIBE_URL": "https://example.com/u/{token}",
        "UNSUBSCRIBE_KEY": "k",
        "ENCRYPTION_KEYS": "A" * 43 + "=",
    }
    assert [notice for notice in load_settings(environ, None).notices() if "ESP" not in notice and "is off" not in notice] == []


def test_the_state_folder_follows_systemd_else_user_and_worker_name(tmp_path: Path) -> None:
    assert load_settings({"STATE_DIRECTORY": "/var/lib/email-worker:/b"}, None).state_dir == Path("/var/lib/email-worker")
    assert load_settings({"STATE_DIR": "/srv/x", "STATE_DIRECTORY": "/y"}, None).state_dir == Path("/srv/x")
    first = load_settings({"TMPDIR": str(tmp_path), "WORKER_NAME": "a"}, None).state_dir
    assert first.parent == tmp_path and first != load_settings({"TMPDIR": str(tmp_path), "WORKER_NAME": "b"}, None).state_dir
    assert not first.exists(), "reading settings makes no folder"


def test_the_allowlist_holds_addresses_and_domains_in_one_spelling() -> None:
    settings = load_settings({"EMAIL_RECIPIENT_ALLOWLIST": "Ann@Example.com, example.org,*@x.io"}, None)
    assert settings.email_recipient_allowlist == ("ann@example.com", "@example.org", "@x.io")


def test_the_exporter_listens_on_every_interface_except_on_a_developers_machine() -> None:
    assert load_settings({}, None).metrics_host == "0.0.0.0"
    assert load_settings({"ENVIRONMENT": "development"}, None).metrics_host == "127.0.0.1"


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_settings({}, None).worker_name = "other"  # type: ignore[misc]


def test_no_secret_shows_itself() -> None:
    secret = Secret("canary")
    assert f"{secret} {secret!r} {secret:>10} {[secret]} {Secret('')}".count("canary") == 0
    assert (secret.reveal(), secret == Secret("canary"), secret == Secret("other"), bool(Secret())) == ("canary", True, False, False)


# long enough to be told from anything else, and valid where a form is due
CANARY = "canary-7f3a9c"
CANARY_SECRETS = {
    "DATABASE_URL": f"postgres://user:{CANARY}@db.example.com/x",
    "REDIS_URL": f"redis://:{CANARY}@cache.example.com/0",
    "DB_PASSWORD": CANARY,
    "SENDGRID_API_KEY": CANARY,
    "SENDGRID_WEBHOOK_PUBLIC_KEY": CANARY,
    "POSTMARK_SERVER_TOKEN": CANARY,
    "POSTMARK_WEBHOOK_PASSWORD": CANARY,
    "AWS_SES_REGION": "eu-west-1",
    "AWS_SES_SECRET_KEY": CANARY,
    "AWS_SES_ACCESS_KEY": CANARY,
    "SMTP_PASSWORD": CANARY,
    "UNSUBSCRIBE_KEY": CANARY,
    "KAFKA_CLIENT_SASL_PASSWORD": CANARY,
    "EMAIL_FROM_ADDRESS": f"{CANARY}@example.com",
}


def test_no_secret_and_no_address_is_in_the_settings_repr_or_notices() -> None:
    settings = load_settings(CANARY_SECRETS, None)
    parts = (settings, settings.notices(), settings.accounts, settings.database_url, settings.redis_url, settings.kafka_client)
    shown = " ".join(f"{part} {part!r}" for part in parts)
    assert CANARY not in shown
    assert settings.db_password.reveal() == CANARY
    assert set(settings.secrets()) == {CANARY}


def test_no_value_is_in_the_text_of_problems_even_under_a_wrong_name() -> None:
    everywhere = {setting.name: f"{CANARY}\x01 {CANARY}" for setting in all_settings()} | {
        "DATABASE_URL": f"postgres://u:{CANARY}@h:port/x",
        "REDIS_URL": f"redis://u:{CANARY}@h:port/x",
        "KAFKA_CLIENT_MAX_POLL_INTERVAL_MS": CANARY,
    }
    with pytest.raises(BadSettings) as caught:
        load_settings(everywhere, None)
    assert len(caught.value.problems) > 40
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.problems}"
    assert caught.value.__cause__ is None


def test_the_projects_own_catalogue_is_whole() -> None:
    stanzas, problems = read_catalog(CATALOG)
    assert problems == []
    assert {"sendgrid", "postmark"} <= {stanza.provider for stanza in stanzas}
