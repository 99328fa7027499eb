import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis
from confluent_kafka.admin import AdminClient

from sandbox.children import PROJECT, NotReady, is_listening, wait_until
from sandbox.kafka_mock import KafkaMock
from sandbox.world import DATABASE, World, esp_settings, kafka_of, read_stanzas, topics
from tests.conftest import postgres_programs
from tests.sandbox.processes import descendants, is_alive

pytestmark = pytest.mark.world
LIVE = """
import signal, sys
from pathlib import Path
from sandbox.world import World
with World(Path(sys.argv[1])) as world:
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="email-worker-tests-") as folder, World(Path(folder) / "world") as made:
        yield made


def test_every_topic_is_there(world: World) -> None:
    found = AdminClient({"bootstrap.servers": world.bootstrap_servers}).list_topics(timeout=5).topics
    partitions = {name: len(topic.partitions) for name, topic in found.items()}
    assert partitions == topics()
    assert partitions["email-jobs"] == 8
    assert {"email-jobs-high", "email-jobs-bulk", "email-events", "email-dlq", "webhook-sendgrid"} <= partitions.keys()


def test_its_settings_lead_to_its_servers(world: World) -> None:
    settings = world.environment()
    connection = psycopg2.connect(
        host=settings["DB_HOST"],
        port=settings["DB_PORT"],
        dbname=settings["DB_NAME"],
        user=settings["DB_USER"],
        password=settings["DB_PASSWORD"],
        sslmode=settings["DB_SSL_MODE"],
    )
    with closing(connection):
        assert connection.info.dbname == DATABASE
    with redis.Redis.from_url(settings["REDIS_URL"]) as client:
        assert client.ping()
    for host_port in (settings["KAFKA_BOOTSTRAP_SERVERS"], *(url.rpartition("/")[2] for url in world.esp_addresses.values())):
        assert is_listening(int(host_port.rpartition(":")[2]))
    assert Path(settings["STATE_DIR"]).is_relative_to(world.folder)
    assert settings["KAFKA_CLIENT_SESSION_TIMEOUT_MS"] == "6000"


def test_each_fake_esp_has_an_address_a_credential_and_a_ledger(world: World) -> None:
    settings = world.environment()
    assert settings["SENDGRID_BASE_URL"] == world.esp_addresses["sendgrid"]
    assert settings["SENDGRID_API_KEY"] and settings["POSTMARK_SERVER_TOKEN"]
    assert all(world.ledger(esp).parent == world.folder / "ledger" for esp in world.esp_addresses)


def test_the_inbox_page_answers(world: World) -> None:
    with urllib.request.urlopen(world.inbox_address, timeout=5) as answer:
        assert answer.status == 200


def test_world_json_holds_every_address_for_its_owner_alone(world: World) -> None:
    path = world.folder / "world.json"
    assert path.stat().st_mode & 0o777 == 0o600
    described = json.loads(path.read_text())
    assert described["pid"] == os.getpid()
    assert described["environment"] == world.environment()
    assert described["inbox"] == world.inbox_address
    assert described["esps"] == world.esp_addresses


def test_what_is_private_is_closed_to_others(world: World) -> None:
    for name in ("state", "ledger", "mails", "esps"):
        assert (world.folder / name).stat().st_mode & 0o077 == 0


def test_a_second_world_in_the_same_folder_is_refused_and_the_first_lives_on(world: World) -> None:
    with pytest.raises(NotReady, match="another world lives in"):
        World(world.folder).__enter__()
    assert (world.folder / "world.json").exists()
    assert world.postgres.is_answering()


def test_leaving_stops_everything_and_takes_world_json_away(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        family = descendants(os.getpid())
        servers = [world.postgres.server, world.redis.server, world.esp_server]
    assert len(family) > 6
    assert not any(server.is_running() for server in servers)
    assert not (tmp_path / "world" / "world.json").exists()
    assert (tmp_path / "world" / "ledger").is_dir()


def test_a_world_that_cannot_start_stops_what_it_has_started(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    with pytest.raises(NotReady, match="esps ended with"):
        World(tmp_path / "world", esp_options={"no-such-esp": {}}).__enter__()
    assert descendants(os.getpid()) <= before


def test_nothing_is_left_two_seconds_after_kill_minus_nine(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path / "world")], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    family = descendants(process.pid)
    assert len(family) > 6
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_alive, family)), 2, "the end of the world")

    # what it left behind does not keep the next world from starting
    with World(tmp_path / "world") as successor:
        assert successor.postgres.has_database(DATABASE)


@pytest.mark.integration
def test_a_world_can_have_a_real_kafka(tmp_path: Path, server_folder: Path) -> None:
    with World(server_folder / "apache-world", kafka="apache", postgres_programs=postgres_programs()) as world:
        found = AdminClient({"bootstrap.servers": world.bootstrap_servers}).list_topics(timeout=5).topics
        assert topics().keys() <= found.keys()
        assert "KAFKA_CLIENT_SESSION_TIMEOUT_MS" not in world.environment()
        program = Path(f"/proc/{world.postgres.server.pid}/exe").resolve()
        assert program.is_relative_to("/usr/lib/postgresql") == (os.environ.get("TEST_POSTGRES") == "system")


def test_kafka_may_be_somebody_elses(tmp_path: Path) -> None:
    assert kafka_of("broker-1:9092,broker-2:9092", tmp_path) is None
    assert isinstance(kafka_of("mock", tmp_path), KafkaMock)


def test_only_the_esps_that_are_there_get_settings() -> None:
    settings = esp_settings({"postmark": "http://127.0.0.1:1"})
    assert settings.keys() == {"POSTMARK_BASE_URL", "POSTMARK_SERVER_TOKEN"}
    assert "sendgrid" in read_stanzas()
