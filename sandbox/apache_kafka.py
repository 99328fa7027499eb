"""A real Apache Kafka 4.1, one KRaft node on 127.0.0.1, for tests of takeover, rebalance and volume.

It must never be configured softer than production where a test looks: topics are not made by accident, and groups behave as
in production but for the first rebalance, which does not wait.
"""

import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from sandbox.children import Child, NotReady, free_port, is_listening, spawn, wait_until
from sandbox.kafka_jars import fetch_jars

READY_LIMIT_S = 60.0
# quick to start rather than quick to run; no /tmp/hsperfdata_*, which lies outside our folder
JAVA_OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-XX:-UsePerfData"]
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    # a broker that was killed may only register again when its old session is over: 9 s by default
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "250",
    "log.segment.bytes": "67108864",
}


class ApacheKafka:
    """A broker over `folder`; its data survives `kill` and `restart`, on the same port. `settings` are any of server.properties."""

    def __init__(self, folder: Path, *, jars: Path | None = None, settings: Mapping[str, str] | None = None):
        self.folder = folder.resolve()
        self.port = free_port()
        self._controller_port = free_port()
        self._jars = jars
        self._settings = SETTINGS | dict(settings or {})
        self._server: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def server(self) -> Child:
        """The process; raises NotReady before `launch`."""
        if self._server is None:
            raise NotReady("Apache Kafka was never started")
        return self._server

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Fetch the jars and format the folder where that is due, start the broker and do not wait for it."""
        self._prepare()
        self._server = spawn("kafka", self._java("kafka.Kafka", str(self._properties)), self.folder)

    def wait_until_ready(self) -> None:
        """Returns when the broker takes requests; raises NotReady with its last log lines."""
        self.server.wait_until(self.is_answering, READY_LIMIT_S, "answer")

    def stop(self) -> None:
        """Controlled shutdown."""
        if self._server is not None:
            self._server.stop(signal.SIGTERM, limit_s=20.0)

    def kill(self) -> None:
        """As a crash of the broker's process would end it; what it has acknowledged is there after `start`."""
        self.server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def is_answering(self) -> bool:
        """Does it tell a client about itself?"""
        return is_listening(self.port) and is_answering(self.bootstrap_servers)

    def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Make these topics (name: partitions); those that exist stay as they are. Returns when each has a leader."""
        create_topics(self.bootstrap_servers, topics, config)

    def delete_topics(self, *names: str) -> None:
        for future in AdminClient(client_settings(self.bootstrap_servers)).delete_topics(list(names)).values():
            future.result(timeout=10)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _prepare(self) -> None:
        self._jars = fetch_jars(self._jars)
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self._all_settings().items()))
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a")
        command = self._java("kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", str(self._properties))
        formatting = spawn("kafka-format", command, self.folder)
        try:
            status = formatting.process.wait(READY_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = formatting.kill()
        if status != 0:
            raise NotReady(f"formatting Kafka's folder ended with {status}\n{formatting.output.read_text()}{formatting.tail()}")

    def _all_settings(self) -> dict[str, str]:
        listener, controller = f"PLAINTEXT://127.0.0.1:{self.port}", f"127.0.0.1:{self._controller_port}"
        return {
            **self._settings,
            "listeners": f"{listener},CONTROLLER://{controller}",
            "advertised.listeners": listener,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.folder / "data"),
        }

    def _java(self, program: str, *arguments: str) -> list[str]:
        # Kafka unpacks its native libraries into java.io.tmpdir
        options = [*JAVA_OPTIONS, f"-Djava.io.tmpdir={self.folder / 'tmp'}"]
        return ["java", *options, "-cp", f"{self._jars}/*", program, *arguments]


def client_settings(bootstrap_servers: str) -> dict[str, str | int | float | bool]:
    """For a short-lived admin client: quiet, and quick to try again."""
    return {"bootstrap.servers": bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200, "socket.timeout.ms": 10_000}


def create_topics(bootstrap_servers: str, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
    """Make the topics that are missing, with one replica, in any Kafka; returns when each partition has a leader; raises NotReady."""
    admin = AdminClient(client_settings(bootstrap_servers))
    missing = [name for name in topics if name not in admin.list_topics(timeout=10).topics]
    wanted = [NewTopic(name, topics[name], 1, config=dict(config or {})) for name in missing]
    for future in admin.create_topics(wanted).values() if wanted else ():
        future.result(timeout=10)
    wait_until(lambda: all(_has_leaders(admin, name) for name in topics), 10.0, "the leaders of the new topics")


def is_answering(bootstrap_servers: str) -> bool:
    """Does any of these brokers answer a client within a second?"""
    try:
        AdminClient(client_settings(bootstrap_servers)).list_topics(timeout=1)
    except KafkaException:
        return False
    return True


def _has_leaders(admin: AdminClient, topic: str) -> bool:
    metadata = admin.list_topics(topic, timeout=10).topics[topic]
    return metadata.error is None and all(partition.leader >= 0 for partition in metadata.partitions.values())
