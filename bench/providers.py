"""How many emails a second go out through each ESP, when it takes its time? `python -m bench.providers --latency-ms 150 --workers 8`.

The product's own supervisor and workers, one ESP at a time, a world of its own for each; all jobs are in Kafka before the first
worker begins. Mails are counted by the fake's own ledger, while all workers are at work. Beside each number stands what the latency
alone would allow: requests at once, divided by latency, times mails a request.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import processes, sample, table
from bench.measured import FETCHING
from bench.pipeline import await_assignment, await_reports, hold, produce, release
from db import templates
from mail.template import Template
from sandbox.children import PROJECT, wait_until
from sandbox.fakes.ledger import Line, read_ledger
from sandbox.kafka_jars import missing_programs
from sandbox.product import Product
from sandbox.world import World

RUN_LIMIT_S = 300.0
DEFAULT_CONNECTIONS, MORE_CONNECTIONS = 8, 12
WARM_UP = 20  # mails a worker: connections, compiled templates


class Way(NamedTuple):
    """One row of the table. `goal` in emails a second.

    `connections` is ESP_CONNECTIONS: with the default, 64 requests at once and 150 ms allow 427 single mails a second at most.
    """

    name: str
    esp: str
    goal: int = 0
    is_single: bool = False
    connections: int = DEFAULT_CONNECTIONS
    template: Callable[[], Template] = sample.template

    def batch_s(self, arguments: argparse.Namespace) -> float:
        """How long a batch waits for its ESP, where that is most of its time."""
        return arguments.batch / self.connections * arguments.latency_ms / 1000 if self.is_single else 0.0


class Run(NamedTuple):
    """What one row measured: the emails of the whole run, their rate, CPU seconds of the workers together and of the fake."""

    emails: int
    requests: int
    emails_per_s: float
    workers_s: float
    fake_s: float


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    ways = [way for way in WAYS if not arguments.only or way.name in arguments.only.split(";")]
    _print([(way, _measure(way, arguments)) for way in ways], arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.providers", description="Emails a second through each ESP.")
    parser.add_argument("--emails", type=int, default=24_000, help="through an ESP that takes batches; two thirds of it where it does not")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=500, help="WORKER_BATCH_SIZE")
    parser.add_argument("--latency-ms", type=float, default=150.0, help="of the fakes' replies")
    parser.add_argument("--only", default="", help=f"some of: {'; '.join(way.name for way in WAYS)}")
    parser.add_argument("--kafka", choices=("apache", "mock"), default="mock" if missing_programs() else "apache")
    return parser


def _with_braces() -> Template:
    """The same mail with a text that a template of SES would read as its own: so each travels alone."""
    whole = sample.template()
    return msgspec.structs.replace(whole, text=whole.text + "Your code: {{ '{{' }}" + "{{ bookingId }}\n")


WAYS = (
    Way("sendgrid", "sendgrid", goal=2_000),
    Way("postmark", "postmark", goal=2_000),
    Way("sparkpost", "sparkpost"),
    Way("socketlabs", "socketlabs"),
    Way("ses", "ses"),
    Way("ses one by one", "ses", 400, True, template=_with_braces),
    Way("ses one by one, wider", "ses", 400, True, MORE_CONNECTIONS, _with_braces),
    Way("smtp", "smtp", 400, True),
    Way("smtp, wider", "smtp", 400, True, MORE_CONNECTIONS),
)


# -- the run -----------------------------------------------------------------------------------------------------------


def _measure(way: Way, arguments: argparse.Namespace) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="email-worker-bench-"))
    emails = round(arguments.emails * (2 / 3 if way.is_single else 1))
    try:
        options = {way.esp: {"latency_ms": arguments.latency_ms}}
        with World(folder, fsync=True, kafka=arguments.kafka, esp_options=options) as world:
            world.esp_addresses = {way.esp: world.esp_addresses[way.esp]}
            product = _prepared(world, way, arguments)
            product.start()
            try:
                return _send(product, way, emails, arguments)
            finally:
                product.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepared(world: World, way: Way, arguments: argparse.Namespace) -> Product:
    settings = {
        "EXPRESS_WORKERS": "0",
        "WORKER_BATCH_SIZE": str(arguments.batch),
        "ESP_CONNECTIONS": str(way.connections),
        "PYTHONPATH": str(PROJECT),
    }
    product = Product(world, arguments.workers, settings, program=("-m", "bench.measured"))
    product.prepare()
    database = product.database()
    database.run(lambda cursor: templates.insert_missing(cursor, [way.template()]))
    database.close()
    return product


def _send(product: Product, way: Way, emails: int, arguments: argparse.Namespace) -> Run:
    ledger, workers = product.world.ledger(way.esp), arguments.workers
    await_assignment(product, workers)
    produce(product.world, sample.jobs(WARM_UP * workers, "warm"))
    wait_until(lambda: product.counts().get("sent", 0) >= WARM_UP * workers, RUN_LIMIT_S, "the warm-up to be sent")
    hold(product, workers, FETCHING)  # a partition that was paused would be fetched up to a second late, by the client's own clock
    produce(product.world, sample.jobs(emails, "run"))
    warm = len(list(read_ledger(ledger)))
    before = _cpu_s(product)
    for slot in range(workers):
        time.sleep(way.batch_s(arguments) / workers)
        release(product, [slot])
    all_began_s, clocks_apart_s = time.time(), time.time() - time.monotonic()
    reports = await_reports(product, emails)
    workers_s, fake_s = (now - then for now, then in zip(_cpu_s(product), before, strict=True))
    run = list(read_ledger(ledger))[warm:]
    if len(run) != emails or len({line["recipient"] for line in run}) != emails:
        raise RuntimeError(f"{way.esp} took {len(run)} mails of {emails}, so this measured nothing")
    first_ended_s = min(report["ended_at_s"] for report in reports) + clocks_apart_s
    counted = sum(all_began_s <= line["at"] < first_ended_s for line in run)
    return Run(len(run), _requests(run), counted / (first_ended_s - all_began_s), workers_s, fake_s)


def _requests(run: Sequence[Line]) -> int:
    return len({line["request"] for line in run})


def _cpu_s(product: Product) -> tuple[float, float]:
    workers = [member["pid"] for member in product.state()["members"] if member["role"] == "delivery"]
    return sum(map(processes.cpu_s, workers)), processes.cpu_s(product.world.esp_server.pid)


# -- the table ---------------------------------------------------------------------------------------------------------


def _print(runs: Sequence[tuple[Way, Run]], arguments: argparse.Namespace) -> None:
    title = (
        f"{arguments.workers} workers, batches of {arguments.batch}, {arguments.latency_ms:g} ms latency in the fakes, "
        f"{arguments.kafka} Kafka, Postgres with fsync on"
    )
    head = ("ESP", "connections", "emails", "a request", "emails/s", "goal", "latency allows", "of it", "worker µs", "fake µs")
    table.show(title, head, [_row(way, run, arguments) for way, run in runs], _NOTES)


_NOTES = (
    "connections: of each worker, ESP_CONNECTIONS; 8 is its default.",
    "emails/s: from when the last worker has begun to when the first has nothing left; by the fake's ledger, in which each stands once.",
    "Where mails go singly, workers begin one after the other within the time of a batch, so that their batches do not march in step.",
    "latency allows: workers × connections ÷ latency × mails a request; in batches the CPU is the limit long before.",
    "worker µs, fake µs: CPU of the workers and of the fake for an email, on the same cores.",
)


def _row(way: Way, run: Run, arguments: argparse.Namespace) -> Sequence[str]:
    rate, a_request = run.emails_per_s, run.emails / run.requests
    most = arguments.workers * way.connections / arguments.latency_ms * 1000 * a_request if arguments.latency_ms else 0.0
    goal = f"{way.goal:,} {'met' if rate >= way.goal else 'MISSED'}" if way.goal else ""
    cpu = (f"{run.workers_s / run.emails * 1e6:.0f}", f"{run.fake_s / run.emails * 1e6:.0f}")
    share = (f"{most:,.0f}", f"{rate / most:.0%}") if most else ("", "")
    return way.name, str(way.connections), f"{run.emails:,}", f"{a_request:,.0f}", f"{rate:,.0f}", goal, *share, *cpu


if __name__ == "__main__":
    sys.exit(main())
