"""A Kafka for development and quick tests: librdkafka's mock cluster in a process of its own.

    python -m sandbox.kafka_mock --topics email-jobs:8,email-events:4 [--port-file FILE] [--brokers 1]

prints one JSON line {"bootstrap_servers": "127.0.0.1:PORT"} and then reads commands from stdin, one JSON object a line, answering
each with {"done": true} or {"error": "..."}:
{"do": "set_down" | "set_up", "broker": 1}, {"do": "set_rtt", "broker": 1, "rtt_ms": 200},
{"do": "push_errors", "api": 0, "errors": [6, 6]}, {"do": "clear_errors", "api": 0}, {"do": "create_topic", "name": "x", "partitions": 4}.

It must never be taken for a real Kafka: see sandbox/librdkafka.py for what it cannot do.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.children import Child, NotReady, spawn_module
from sandbox.librdkafka import Api, MockCluster

FIRST_REBALANCE_DELAY_MS = 1_500
COMMANDS = frozenset({"set_down", "set_up", "set_rtt", "push_errors", "clear_errors", "create_topic"})


class KafkaMock:
    """The mock cluster as a child process, with its faults as methods. Brokers are numbered from 1.

    A restart of a broker is `set_down` and `set_up`: a stopped process has forgotten all.
    """

    def __init__(self, folder: Path, topics: Mapping[str, int] | None = None, *, brokers: int = 1):
        self.folder = folder
        self.topics = dict(topics or {})
        self.brokers = brokers
        self.bootstrap_servers = ""
        self._server: Child | None = None
        self._answers = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def server(self) -> Child:
        """The process; raises NotReady before `launch`. `server.freeze()` makes brokers that accept and never answer."""
        if self._server is None:
            raise NotReady("the Kafka mock was never started")
        return self._server

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the process and do not wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--topics", format_topics(self.topics), "--brokers", str(self.brokers)]
        self._server = spawn_module("kafka", "sandbox.kafka_mock", arguments, self.folder, talks=True)
        self._answers = 0

    def wait_until_ready(self) -> None:
        """Returns when clients can connect to `bootstrap_servers`; raises NotReady."""
        self.bootstrap_servers = self.server.wait_for_json()["bootstrap_servers"]

    def stop(self) -> None:
        """End the process; all its data is gone."""
        if self._server is not None:
            self._server.stop()

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make these topics (name: partitions); raises ValueError where one exists. The mock takes no such request of an AdminClient."""
        for name, partitions in topics.items():
            self._do("create_topic", name=name, partitions=partitions)

    def set_down(self, broker: int = 1) -> None:
        """Close its connections and refuse new ones; records and committed offsets stay."""
        self._do("set_down", broker=broker)

    def set_up(self, broker: int = 1) -> None:
        self._do("set_up", broker=broker)

    def set_rtt(self, rtt_ms: int, broker: int = 1) -> None:
        """Answer every request so much later."""
        self._do("set_rtt", broker=broker, rtt_ms=rtt_ms)

    def push_errors(self, api: Api, errors: Sequence[int]) -> None:
        """Answer the next requests of that kind with these errors (constants of confluent_kafka.KafkaError), one each."""
        self._do("push_errors", api=int(api), errors=list(errors))

    def clear_errors(self, api: Api) -> None:
        self._do("clear_errors", api=int(api))

    def _do(self, command: str, **arguments: Any) -> None:
        self.server.tell(json.dumps({"do": command, **arguments}))
        self._answers += 1
        answer = self.server.wait_for_json(self._answers)
        if "error" in answer:
            raise ValueError(answer["error"])


def format_topics(topics: Mapping[str, int]) -> str:
    """{"a": 4, "b": 2} as "a:4,b:2"."""
    return ",".join(f"{name}:{partitions}" for name, partitions in topics.items())


def parse_topics(text: str) -> dict[str, int]:
    """Turn "a:4,b:2" into {"a": 4, "b": 2}; raises ValueError."""
    pairs = [item.rsplit(":", 1) for item in text.split(",") if item]
    return {name: int(partitions) for name, partitions in pairs}


def obey(cluster: MockCluster, lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Carry out commands, one line each; yields one answer each, also to nonsense."""
    for line in lines:
        try:
            arguments = json.loads(line)
            command = arguments.pop("do")
            if command not in COMMANDS:
                raise ValueError(f"unknown command {command}")
            getattr(cluster, command)(**arguments)
            yield {"done": True}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            yield {"error": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.kafka_mock", description="A Kafka in memory, for development.")
    parser.add_argument("--topics", type=parse_topics, default={}, help="name:partitions, comma-separated")
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--port-file", type=Path, help="write the bootstrap servers there too")
    options = parser.parse_args()
    cluster = MockCluster(options.brokers)
    cluster.delay_first_rebalance(FIRST_REBALANCE_DELAY_MS)
    for name, partitions in options.topics.items():
        cluster.create_topic(name, partitions)
    if options.port_file:
        options.port_file.write_text(cluster.bootstrap_servers())
    print(json.dumps({"bootstrap_servers": cluster.bootstrap_servers()}), flush=True)
    for answer in obey(cluster, sys.stdin):
        print(json.dumps(answer), flush=True)
    while True:
        # nobody talks to us any more, but clients do
        signal.pause()


if __name__ == "__main__":
    main()
