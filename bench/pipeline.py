"""What does an email cost, end to end? Kafka → worker → fake ESP → Postgres: `python -m bench.pipeline --emails 20000 --workers 2`.

Prints emails per second, the workers' CPU by stage beside the floor (what cannot be left out, measured in the same run), the CPU
of everything else on the way, memory, and how soon the supervisor was ready. All jobs are in Kafka before the clock starts.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from bench import floor, processes, sample, table
from bench.floor import Floor
from bench.measured import hold_file
from db import templates
from sandbox.children import PROJECT, wait_until
from sandbox.kafka_jars import missing_programs
from sandbox.product import Product
from sandbox.world import JOB_TOPICS, World

STAGES = ("poll", "decode", "admit", "render", "route", "open", "exchange", "record", "commit", "tell")
WARM_UP_BATCHES = 3
ASSIGN_LIMIT_S, RUN_LIMIT_S = 60.0, 300.0
LANES = ("email-jobs", "email-jobs-high", "email-jobs-bulk")
PARTITIONS = [(topic, partition) for topic in LANES for partition in range(JOB_TOPICS[topic])]


class Costs(NamedTuple):
    """CPU seconds so far of what is not a delivery worker, by its name in the table."""

    postgres: float
    kafka: float
    fakes: float
    others: float


class Run(NamedTuple):
    """What one run measured; memory in MiB by process name."""

    emails: int
    elapsed_s: float
    ready_s: float
    fresh: dict[str, float]
    reports: list[dict[str, Any]]
    costs: Costs
    memory: dict[str, float]
    floor: Floor


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="email-worker-bench-"))
    try:
        _print(_measure(folder, arguments), arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description="What an email costs, end to end.")
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=500, help="WORKER_BATCH_SIZE")
    parser.add_argument("--kafka", choices=("apache", "mock"), default="mock" if missing_programs() else "apache")
    parser.add_argument("--esps", default="sendgrid,postmark", help="the fake ESPs to send through")
    parser.add_argument("--no-fsync", action="store_true", help="a Postgres that does not wait for its disk")
    return parser


# -- the run -----------------------------------------------------------------------------------------------------------


def _measure(folder: Path, arguments: argparse.Namespace) -> Run:
    before = floor.measure()
    with ExitStack() as stack:
        world = stack.enter_context(World(folder, fsync=not arguments.no_fsync, kafka=arguments.kafka))
        world.esp_addresses = {name: world.esp_addresses[name] for name in arguments.esps.split(",")}
        product = _prepared(world, arguments)
        ready_s = _start(product)
        stack.callback(product.stop)
        fresh = _memory(product)
        await_assignment(product, arguments.workers)
        _warm_up(product, arguments)
        hold(product, arguments.workers)
        produce(world, sample.jobs(arguments.emails, "run"))
        costs, elapsed_s, reports = _let_go(product, arguments)
        memory = _memory(product)
    return Run(arguments.emails, elapsed_s, ready_s, fresh, reports, costs, memory, floor.lower(before, floor.measure()))


def _prepared(world: World, arguments: argparse.Namespace) -> Product:
    settings = {"EXPRESS_WORKERS": "0", "WORKER_BATCH_SIZE": str(arguments.batch), "PYTHONPATH": str(PROJECT)}
    product = Product(world, arguments.workers, settings, program=("-m", "bench.measured"))
    product.prepare()
    database = product.database()
    database.run(lambda cursor: templates.insert_missing(cursor, [sample.template()]))
    database.close()
    return product


def _start(product: Product) -> float:
    started = time.monotonic()
    product.start()
    return time.monotonic() - started


def await_assignment(product: Product, workers: int) -> None:
    """Until the group has shared all partitions out; else the run would measure its rebalances."""
    wait_until(lambda: _is_shared_out(_assignments(product), workers), ASSIGN_LIMIT_S, "the partitions to be shared out")


def _assignments(product: Product) -> dict[int, int]:
    """How many partitions each slot has, by the supervisor's log."""
    counts: dict[int, int] = {}
    for line in product.supervisor.log.read_text().splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        sign = {"partitions assigned": 1, "partitions gone": -1}.get(entry.get("message", ""), 0)
        if sign and entry["role"] == "delivery":
            counts[entry["slot"]] = counts.get(entry["slot"], 0) + sign * len(entry["partitions"])
    return counts


def _is_shared_out(counts: dict[int, int], workers: int) -> bool:
    held = [count for count in counts.values() if count]
    return len(held) == workers and sum(held) == len(PARTITIONS) and max(held) - min(held) <= 1


def _warm_up(product: Product, arguments: argparse.Namespace) -> None:
    """Connections, compiled templates, the broker's compiler: nobody's first batch is measured."""
    count = WARM_UP_BATCHES * arguments.workers * arguments.batch
    produce(product.world, sample.jobs(count, "warm"))
    wait_until(lambda: product.counts().get("sent", 0) >= count, RUN_LIMIT_S, "the warm-up to be sent")


def hold(product: Product, workers: int, says: str = "") -> None:
    """Have the workers take nothing until they are released; see bench/measured.py for what may be said to them."""
    for slot in range(workers):
        draft = product.state_dir / "hold.new"
        draft.write_text(says)
        draft.rename(hold_file(product.state_dir, slot))
    held = [product.state_dir / f"held-{slot}" for slot in range(workers)]
    wait_until(lambda: all(path.exists() for path in held), 10.0, "the workers to hold")
    for path in product.state_dir.glob("measured-*.json"):
        path.unlink()


def release(product: Product, slots: Iterable[int]) -> None:
    """Let these workers begin."""
    for slot in slots:
        hold_file(product.state_dir, slot).unlink()


def produce(world: World, jobs: Iterator[tuple[bytes, bytes]]) -> None:
    """Spread evenly over all partitions of the lanes: the group deals out partitions, not topics."""
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 20, "log_level": 0})
    for number, (key, value) in enumerate(jobs):
        topic, partition = PARTITIONS[number % len(PARTITIONS)]
        producer.produce(topic, value, key, partition=partition)
        producer.poll(0)
    producer.flush(30)


def _let_go(product: Product, arguments: argparse.Namespace) -> tuple[Costs, float, list[dict[str, Any]]]:
    before = _costs(product)
    release(product, range(arguments.workers))
    reports = await_reports(product, arguments.emails)
    after = _costs(product)
    elapsed_s = max(report["ended_at_s"] for report in reports) - min(report["began_at_s"] for report in reports)
    return Costs(*[now - then for now, then in zip(after, before, strict=True)]), elapsed_s, reports


def await_reports(product: Product, emails: int) -> list[dict[str, Any]]:
    """What the workers have measured, once so many emails have a fate."""
    wait_until(lambda: sum(report["emails"] for report in _reports(product)) >= emails, RUN_LIMIT_S, "all emails to have a fate")
    return _reports(product)


def _reports(product: Product) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(product.state_dir.glob("measured-*.json"))]


def _costs(product: Product) -> Costs:
    kafka, world, state = product.world.kafka, product.world, product.state()
    assert kafka is not None
    others = [state["pid"], *[member["pid"] for member in state["members"] if member["role"] != "delivery"]]
    return Costs(
        processes.tree_cpu_s(world.postgres.server.pid),
        processes.cpu_s(kafka.server.pid),
        processes.cpu_s(world.esp_server.pid),
        sum(map(processes.cpu_s, others)),
    )


def _memory(product: Product) -> dict[str, float]:
    state = product.state()
    members = {member["name"]: processes.pss_mib(member["pid"]) for member in state["members"]}
    return {"supervisor": processes.pss_mib(state["pid"]), **members}


# -- the table ---------------------------------------------------------------------------------------------------------


def _print(run: Run, arguments: argparse.Namespace) -> None:
    emails = sum(report["emails"] for report in run.reports)
    cpu = {name: sum(report["cpu_s"].get(name, 0.0) for report in run.reports) / emails * 1e6 for name in _names(run)}
    wall = {name: sum(report["wall_s"].get(name, 0.0) for report in run.reports) / emails * 1e6 for name in _names(run)}
    cpu["exchange"] += cpu["senders"]
    rows: list[Sequence[str]] = [(stage, f"{cpu[stage]:.1f}", f"{wall[stage]:.1f}", _floor_of(stage, run.floor)) for stage in STAGES]
    rows += [
        ("loop between the stages", f"{cpu['python'] - sum(cpu[stage] for stage in STAGES):.1f}"),
        ("Kafka client's threads", f"{cpu['process'] - cpu['python']:.1f}"),
        ("a worker, whole", f"{cpu['process']:.1f}", "", f"{run.floor.total:.1f}", f"{cpu['process'] / run.floor.total:.2f} ×"),
        (),
        *[(name, f"{seconds / emails * 1e6:.1f}") for name, seconds in zip(_OTHERS, run.costs, strict=True)],
        (),
        ("emails/s", f"{emails / run.elapsed_s:,.0f}"),
        ("emails per batch", f"{emails / sum(report['batches'] for report in run.reports):,.0f}"),
        ("ready after, s", f"{run.ready_s:.2f}"),
        *_memory_rows(run),
    ]
    title = (
        f"{emails:,} emails, {arguments.workers} workers, batches of {arguments.batch}, through {arguments.esps}, "
        f"{arguments.kafka} Kafka, Postgres with fsync {'off' if arguments.no_fsync else 'on'}"
    )
    table.show(title, ("per email, µs", "CPU", "elapsed", "floor", "ratio"), rows, _NOTES)


_OTHERS = ("Postgres", "Kafka", "the fake ESPs", "supervisor, keeper and others")
_NOTES = (
    "CPU of a stage: its thread's, in exchange the senders' too; of a process: what the kernel counts. elapsed: with waiting.",
    "floor: decode, stock Jinja2 root functions and encoding of such emails, one thread, the best of many rounds before and after the run.",
    "MiB: proportional set size after the run (at first: before it), so that shared pages count once over all processes.",
)


def _names(run: Run) -> set[str]:
    return {name for report in run.reports for name in report["cpu_s"]} | set(STAGES)


def _floor_of(stage: str, measured: Floor) -> str:
    beside = {"decode": measured.decode, "render": measured.render, "route": measured.encode}
    return f"{beside[stage]:.1f}" if stage in beside else ""


def _memory_rows(run: Run) -> list[Sequence[str]]:
    memory = run.memory
    workers = [size for name, size in memory.items() if name.startswith("delivery-")]
    fresh = sum(size for name, size in run.fresh.items() if name.startswith("delivery-"))
    return [
        ("workers together, MiB, at first", f"{fresh:.1f}"),
        ("workers together, MiB", f"{sum(workers):.1f}"),
        ("  each", f"{min(workers):.1f}–{max(workers):.1f}"),
        ("supervisor", f"{memory['supervisor']:.1f}"),
        ("others", f"{sum(memory.values()) - sum(workers) - memory['supervisor']:.1f}"),
        ("all processes", f"{sum(memory.values()):.1f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
