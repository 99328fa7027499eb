"""A world: Postgres, Kafka, Redis and the fake ESPs over one folder, and the settings with which the product runs in it.

    with World(Path(".world")) as world:
        subprocess.run([sys.executable, "supervisor.py"], env=os.environ | world.environment())

All its addresses are in `<folder>/world.json` while it lives. It must never be used by two processes at once, and never by
anything that is meant to last: every one of its processes dies with the process that made it.
"""

import fcntl
import json
import os
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from sandbox.apache_kafka import ApacheKafka, create_topics
from sandbox.children import PROJECT, Child, NotReady, spawn_module
from sandbox.kafka_mock import KafkaMock
from sandbox.postgres import USER, Postgres
from sandbox.redis import Redis

DATABASE = "email_worker_db"
FROM_ADDRESS = "noreply@sandbox.test"
JOB_TOPICS = {"email-jobs": 8, "email-jobs-high": 4, "email-jobs-bulk": 4, "email-events": 4, "email-dlq": 1}
WEBHOOK_PARTITIONS = 2
# Credentials that have a form of their own; the others may be any text.
MADE_UP = {"SOCKETLABS_SERVER_ID": "12345", "AWS_SES_REGION": "eu-west-1"}
# The mock's later rebalances take the session timeout less one second, and below 6 s it refuses (librdkafka 2.16.0, 2026-11).
MOCK_SESSION_TIMEOUT_MS = 6_000


class World:
    """Servers over `folder`: entering starts them (about 1 s), leaving stops them. The folder stays, with data, logs and ledgers.

    `kafka` is "mock", "apache" or the bootstrap servers of a Kafka that is there already. `fsync` makes Postgres as careful as in
    production, `postgres_programs` is the folder of another PostgreSQL than the wheel's. `esp_options` go to the fake ESPs as they
    are. `feedback` makes them call back (None = never): options of sandbox/feedback.py, {} for all defaults. Entering raises
    NotReady with the words of the server that failed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: bool = False,
        kafka: str = "mock",
        esp_options: Mapping[str, Any] | None = None,
        feedback: Mapping[str, Any] | None = None,
        postgres_programs: Path | None = None,
    ):
        self.folder = folder.resolve()
        self.esp_options = dict(esp_options or {})
        self.feedback = feedback
        self.esp_addresses: dict[str, str] = {}
        self.inbox_address = ""
        self.postgres = Postgres(self.folder / "postgres", binaries=postgres_programs, fsync=fsync)
        self.redis = Redis(self.folder / "redis")
        self.kafka = kafka_of(kafka, self.folder / "kafka")
        self._bootstrap_servers = kafka
        self._esp_server: Child | None = None
        self._feedback_settings: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._prepare_folder(started)
            self._launch(started)
            self._wait_until_ready()
            self._start_feedback(started)
            self._write_description(started)
            self._stack = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def bootstrap_servers(self) -> str:
        return self._bootstrap_servers if self.kafka is None else self.kafka.bootstrap_servers

    @property
    def esp_server(self) -> Child:
        """The process of the fake ESPs; raises NotReady before the world is entered."""
        if self._esp_server is None:
            raise NotReady("the fake ESPs were never started")
        return self._esp_server

    def ledger(self, esp: str) -> Path:
        """What that fake ESP accepted, one JSON object a line: the truth of this world."""
        return self.folder / "ledger" / f"{esp}.jsonl"

    def environment(self) -> dict[str, str]:
        """The settings with which the product runs in this world; to be laid over os.environ."""
        settings = {
            "ENVIRONMENT": "development",
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.postgres.port),
            "DB_NAME": DATABASE,
            "DB_USER": USER,
            "DB_PASSWORD": self.postgres.password,
            "DB_SSL_MODE": "disable",
            "REDIS_URL": self.redis.url,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "EMAIL_FROM_ADDRESS": FROM_ADDRESS,
            "STATE_DIR": str(self.folder / "state"),
            "METRICS_PORT": "0",
        }
        if isinstance(self.kafka, KafkaMock):
            settings["KAFKA_CLIENT_SESSION_TIMEOUT_MS"] = str(MOCK_SESSION_TIMEOUT_MS)
        return settings | esp_settings(self.esp_addresses) | self._feedback_settings

    def _prepare_folder(self, started: ExitStack) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # the user who runs Postgres for root has to pass through; what is private has modes of its own
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        started.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotReady(f"another world lives in {self.folder}") from None
        for name in ("state", "ledger", "mails", "esps"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def _launch(self, started: ExitStack) -> None:
        """Start all that can start side by side; what is on the stack is stopped in reverse order."""
        started.callback(self.postgres.close)
        started.callback(self.redis.stop)
        self.redis.launch()
        if self.kafka is not None:
            started.callback(self.kafka.stop)
            self.kafka.launch()
        options = ["--folder", str(self.folder), "--options", json.dumps(self.esp_options)]
        self._esp_server = spawn_module("esps", "sandbox.esp_server", options, self.folder / "esps")
        started.callback(self._esp_server.stop)

    def _wait_until_ready(self) -> None:
        self.postgres.start()
        if not self.postgres.has_database(DATABASE):
            self.postgres.create_database(DATABASE)
        self.redis.wait_until_ready()
        if self.kafka is not None:
            self.kafka.wait_until_ready()
            self.kafka.create_topics(topics())
        else:
            create_topics(self.bootstrap_servers, topics())
        addresses = self.esp_server.wait_for_json(limit_s=20.0)
        self.inbox_address = addresses.pop("inbox", "")
        self.esp_addresses = addresses

    def _start_feedback(self, started: ExitStack) -> None:
        """The webhooks of the fakes; the keys that they are signed with become settings of this world."""
        if self.feedback is None:
            return
        options = ["--folder", str(self.folder), "--bootstrap-servers", self.bootstrap_servers, "--options", json.dumps(self.feedback)]
        child = spawn_module("feedback", "sandbox.feedback", options, self.folder / "esps")
        started.callback(child.stop)
        self._feedback_settings = child.wait_for_json(limit_s=20.0)["settings"]

    def _write_description(self, started: ExitStack) -> None:
        path = self.folder / "world.json"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.description(), indent=2) + "\n")
        started.callback(path.unlink, missing_ok=True)

    def description(self) -> dict[str, Any]:
        """What world.json says: process, addresses, ledgers and the settings."""
        return {
            "pid": os.getpid(),
            "database_url": self.postgres.dsn(DATABASE),
            "kafka_bootstrap_servers": self.bootstrap_servers,
            "redis_url": self.redis.url,
            "esps": self.esp_addresses,
            "inbox": self.inbox_address,
            "ledgers": {esp: str(self.ledger(esp)) for esp in self.esp_addresses},
            "environment": self.environment(),
        }


def kafka_of(kind: str, folder: Path) -> KafkaMock | ApacheKafka | None:
    """The Kafka to start: "mock", "apache", or none where `kind` is somebody else's address."""
    if kind == "mock":
        return KafkaMock(folder)
    if kind == "apache":
        return ApacheKafka(folder)
    return None


def topics() -> dict[str, int]:
    """Every topic of the product with its partitions here; a webhook topic for each ESP of config/esps.toml that calls back."""
    return JOB_TOPICS | {f"webhook-{esp}": WEBHOOK_PARTITIONS for esp, stanza in read_stanzas().items() if stanza.get("callbacks", True)}


def read_stanzas() -> dict[str, dict[str, Any]]:
    """config/esps.toml: for each ESP, which settings hold its address and credentials."""
    return tomllib.loads((PROJECT / "config" / "esps.toml").read_text())


def esp_settings(addresses: Mapping[str, str]) -> dict[str, str]:
    """The settings that send these ESPs' requests to these addresses, with made-up credentials."""
    settings: dict[str, str] = {}
    for esp, stanza in read_stanzas().items():
        if esp in addresses:
            required = [credential["setting"] for credential in stanza["credentials"].values() if credential["required"]]
            settings |= {setting: MADE_UP.get(setting, f"sandbox-{esp}-credential") for setting in required}
            settings |= address_settings(stanza, addresses[esp])
    return settings


def address_settings(stanza: Mapping[str, Any], address: str) -> dict[str, str]:
    """The settings that say where an ESP is: its base URL, or host and port where it has none, then without TLS."""
    if stanza["base_url_setting"]:
        return {stanza["base_url_setting"]: address}
    place = urlsplit(address)
    parts = {"host": place.hostname or "", "port": str(place.port), "encryption": "none"}
    return {stanza["credentials"][key]["setting"]: value for key, value in parts.items() if key in stanza["credentials"]}
