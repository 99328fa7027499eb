"""`make demo`: a whole world on this machine, thousands of emails through it, and a verdict that only believes the fakes.

Everything it starts dies with it. The folder of the world (.world) is made anew each time and left for a look afterwards.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from sandbox import fakes, traffic
from sandbox.children import PROJECT
from sandbox.product import Product
from sandbox.progress import Progress
from sandbox.world import World

FAKES = {"seed": 1} | {name: {"latency_ms": 80, "throttle": 0.02} for name in fakes.names()}
FEEDBACK = {"speed": 3_600.0}  # an hour passes in a second, so that a newcomer sees mails delivered, opened and complained about
# Retries come back within seconds, so that a newcomer sees them end.
SETTINGS = {"EMAIL_RETRY_DELAY_SECONDS": "1", "LOG_LEVEL": "info"}
DRAIN_LIMIT_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0 only where nothing was lost, nothing doubled, and the database agrees."""
    arguments = _parser().parse_args(argv)
    folder: Path = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _say("starting a world: Postgres, Kafka, Redis and the fake ESPs")
    with World(folder, esp_options=FAKES, feedback=FEEDBACK) as world, _running(world, arguments.workers) as product:
        _say(f"supervisor.py runs with {arguments.workers} workers; the inbox is at {world.inbox_address}")
        _say(f"producing {arguments.emails:,} emails over about {arguments.seconds:g} seconds\n")
        progress = Progress(product, arguments.emails)
        _produce(world, arguments, progress)
        progress.watch_until_done(DRAIN_LIMIT_S)
        code = product.stop()
        (folder / "database.json").write_text(json.dumps(product.summary()))
        if code != 0:
            _say(f"the supervisor ended with {code}; its log is {product.supervisor.log}")
    return max(code != 0, _judge(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description="Send emails through a whole world on this machine.")
    parser.add_argument("--emails", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="over how long they are produced")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".world")
    return parser


@contextmanager
def _running(world: World, workers: int) -> Iterator[Product]:
    product = Product(world, workers, SETTINGS)
    product.prepare()
    product.start()
    yield product


def _produce(world: World, arguments: argparse.Namespace, progress: Progress) -> None:
    """Hand the traffic to Kafka at an even pace."""
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 5})
    started, asked = time.monotonic(), 0
    pieces = traffic.make(arguments.emails, arguments.seed)
    for piece in traffic.write_list(world.folder / "wanted.jsonl", pieces):
        producer.produce(piece.topic, piece.value, piece.key)
        asked += sum(not wanted.reason for wanted in piece.wanted) if not piece.is_repeat else 0
        producer.poll(0)
        while time.monotonic() - started < asked / arguments.emails * arguments.seconds:
            progress.show()
            time.sleep(0.02)
    producer.flush(10)


def _judge(folder: Path) -> int:
    """A process of its own, so that nothing but files can reach it."""
    sys.stdout.flush()
    code = subprocess.run([sys.executable, "-m", "sandbox.verdict", str(folder)], cwd=PROJECT, check=False).returncode
    _say("nothing lost, nothing doubled" if code == 0 else "THIS RUN IS NOT GOOD: look at the lines above")
    return code


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
