"""How many events a second can one webhook worker apply? `python -m bench.webhooks --emails 20000`.

Signed callbacks, as the fake ESPs word them, go through Kafka into the product's own loop beside one Postgres: all of them for the
first time, then all of them again. Prints events per second, and what they cost. Sends are on record before the clock starts. The
stages are measured on other mails, in a second run, since a stopwatch costs too much to be taken along. With `--by-esp` a third run
takes each ESP's callbacks alone, with the stopwatch.
"""

import argparse
import gc
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

from confluent_kafka import Producer

from bench import processes, reported, table
from config.settings import Settings, load_settings
from db import migrate
from db.connection import Database
from sandbox import fakes
from sandbox.fakes import callbacks
from sandbox.fakes.callbacks import Post
from sandbox.kafka_jars import missing_programs
from sandbox.world import World, topics
from workers.connections import open_database
from workers.feedback import callbacks as reading
from workers.webhook import Webhook
from workers.webhook_wiring import wire

RUN_LIMIT_S = 600.0
STAGES = ("poll", "unwrap", "verify", "parse", "arrive", "record", "publish", "commit")


class Phase(NamedTuple):
    """One pass over all callbacks; CPU seconds by stage."""

    events: int
    elapsed_s: float
    cpu_s: dict[str, float]
    worker_s: float
    postgres_s: float
    kafka_s: float


class Stopwatch:
    """CPU seconds by stage, of whichever thread runs it; a stage within another is taken off the outer one."""

    def __init__(self) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self._stacks: defaultdict[int, list[float]] = defaultdict(list)

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            stack = self._stacks[threading.get_ident()]
            stack.append(0.0)
            started = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                taken = time.thread_time() - started
                self.cpu_s[stage] += taken - stack.pop()
                if stack:
                    stack[-1] += taken

        return run


class Idle:
    """What a role is given, where nobody watches it."""

    def __init__(self, settings: Settings):
        self.settings, self.name, self.role, self.slot, self.incarnation_hint = settings, "webhook-0", "webhook", 0, 1

    def beat(self, stage: str, limit_s: float) -> None:
        pass

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.1))

    def note_batch(self, count: int) -> None:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="email-worker-bench-"))
    try:
        with ExitStack() as stack:
            bench = _measure(stack, folder, arguments)
        _print(bench, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description="Events a second of one webhook worker.")
    parser.add_argument("--emails", type=int, default=20_000, help="mails that the events are about")
    parser.add_argument("--per-post", type=int, default=100, help="events in one callback, of an ESP that sends several at once")
    parser.add_argument("--esps", default="sendgrid,postmark", help=f"some of {','.join(fakes.names())}; who never calls back is left out")
    parser.add_argument("--by-esp", action="store_true", help="a second table: each ESP alone")
    parser.add_argument("--kafka", choices=("apache", "mock"), default="mock" if missing_programs() else "apache")
    parser.add_argument("--no-fsync", action="store_true", help="a Postgres that does not wait for its disk")
    return parser


# -- the run -----------------------------------------------------------------------------------------------------------


class Bench(NamedTuple):
    """What was measured: without and with a stopwatch, each for the first time and repeated; the share of HOT updates; and, where
    asked for, each ESP alone: how many callbacks, and the same two passes."""

    plain: list[Phase]
    watched: list[Phase]
    hot: float
    by_esp: dict[str, tuple[int, list[Phase]]]


def _measure(stack: ExitStack, folder: Path, arguments: argparse.Namespace) -> Bench:
    world = stack.enter_context(World(folder, fsync=not arguments.no_fsync, kafka=arguments.kafka))
    builders = {esp: builder for esp in arguments.esps.split(",") if (builder := callbacks.load(esp))}
    credentials = {name: value for builder in builders.values() for name, value in builder.settings().items()}
    settings = load_settings({**world.environment(), **credentials}, None)
    database = open_database(settings, "bench")
    migrate.migrate(database)
    plain, watched = (list(reported.make(database, builders, arguments.emails, arguments.per_post, mark)) for mark in ("a", "b"))
    database.run(lambda cursor: cursor.execute("ANALYZE"))
    context: Any = Idle(settings)
    webhook = stack.enter_context(wire(context))
    gc.freeze()  # as the supervisor does before it forks
    phases = [_pass(world, webhook, Stopwatch(), plain) for _ in range(2)]
    watch = Stopwatch()
    _attach(watch, webhook)
    phases += [_pass(world, webhook, watch, watched) for _ in range(2)]
    by_esp: dict[str, tuple[int, list[Phase]]] = {}
    for esp in builders if arguments.by_esp else ():
        own = list(reported.make(database, {esp: builders[esp]}, arguments.emails // len(builders), arguments.per_post, "c"))
        by_esp[esp] = len(own), [_pass(world, webhook, watch, own) for _ in range(2)]
    _check(database)
    return Bench(phases[:2], phases[2:], float(database.read(_HOT)[0][0]), by_esp)


def _attach(watch: Stopwatch, webhook: Webhook) -> None:
    """Call the loop's verbs through the stopwatch."""
    tools: Any = webhook._tools
    sorter, source = tools.sorter, tools.source
    module, instance = cast(Any, reading), cast(Any, webhook)
    module.read_envelope = watch.timed("unwrap", module.read_envelope)
    plain_listener = sorter._listener_of
    known: dict[str, Any] = {}

    def listener_of(account: Any) -> Any:
        if account.provider not in known:
            listener = known[account.provider] = plain_listener(account)
            listener.verify = watch.timed("verify", listener.verify)
            listener.parse_events = watch.timed("parse", listener.parse_events)
        return known[account.provider]

    sorter._listener_of = listener_of
    sorter.sort = watch.timed("arrive", sorter.sort)
    source.poll = watch.timed("poll", source.poll)
    source.commit = watch.timed("commit", source.commit)
    tools.books.record = watch.timed("record", tools.books.record)
    tools.desk.publish = watch.timed("publish", tools.desk.publish)
    tools.desk.serve = watch.timed("publish", tools.desk.serve)
    instance.tell = watch.timed("publish", instance.tell)


def _pass(world: World, webhook: Webhook, watch: Stopwatch, posts: Sequence[tuple[str, Post]]) -> Phase:
    """All callbacks once: put into Kafka, then the clock starts."""
    _await_partitions(world, webhook)
    handled = 0
    plain_commit = webhook._tools.source.commit

    def commit(records: Sequence[Any]) -> None:
        nonlocal handled
        handled += len(records)
        plain_commit(records)

    source: Any = webhook._tools.source
    source.commit = commit
    _produce(world, posts)
    watch.cpu_s.clear()
    before, started, process_s = _costs(world), time.monotonic(), time.process_time()
    while handled < len(posts):
        webhook.turn()
        assert time.monotonic() - started < RUN_LIMIT_S, "it takes too long"
    elapsed_s, worker_s = time.monotonic() - started, time.process_time() - process_s
    after = _costs(world)
    source.commit = plain_commit
    events = sum(_events_in(post) for _, post in posts)
    return Phase(events, elapsed_s, dict(watch.cpu_s), worker_s, after[0] - before[0], after[1] - before[1])


def _await_partitions(world: World, webhook: Webhook) -> None:
    """Until this worker has every partition of its topics."""
    source, partitions = cast(Any, webhook._tools.source), topics()
    wanted = sum([partitions[topic] for topic, _ in source._subscription.topics])
    until_s = time.monotonic() + 60
    while len(source._owned) < wanted:
        webhook.turn()
        assert time.monotonic() < until_s, "the partitions do not come"


def _produce(world: World, posts: Sequence[tuple[str, Post]]) -> None:
    producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 20, "log_level": 0})
    partitions = topics()
    for number, (esp, post) in enumerate(posts):
        value = json.dumps({"headers": {name: list(values) for name, values in post.headers.items()}, "body": post.body.decode()})
        producer.produce(f"webhook-{esp}", value, partition=number % partitions[f"webhook-{esp}"])
        producer.poll(0)
    producer.flush(60)


def _costs(world: World) -> tuple[float, float]:
    kafka = world.kafka
    assert kafka is not None
    return processes.tree_cpu_s(world.postgres.server.pid), processes.cpu_s(kafka.server.pid)


def _events_in(post: Post) -> int:
    body = json.loads(post.body)
    return len(body) if isinstance(body, list) else 1


def _check(database: Database) -> None:
    """Everything was applied, and nothing twice."""
    (unmatched, refused), *_ = database.read("SELECT (SELECT count(*) FROM unmatched_events), (SELECT count(*) FROM dead_letters)")
    delivered = database.read("SELECT count(*) FROM email_attempts WHERE delivered_at IS NOT NULL")[0][0]
    counted = database.read("SELECT sum(delivered) FROM esp_cohort_stats")[0][0]
    assert (unmatched, refused) == (0, 0), "callbacks were not believed or not matched"
    assert delivered == counted, "a delivery was counted twice"


# -- the table ---------------------------------------------------------------------------------------------------------


def _print(bench: Bench, arguments: argparse.Namespace) -> None:
    rows: list[Sequence[str]] = [
        ("events/s", *[f"{phase.events / phase.elapsed_s:,.0f}" for phase in bench.plain]),
        ("events", *[f"{phase.events:,}" for phase in bench.plain]),
        _row("the worker, CPU µs per event", bench.plain, lambda phase: phase.worker_s),
        _row("Postgres", bench.plain, lambda phase: phase.postgres_s),
        _row("Kafka", bench.plain, lambda phase: phase.kafka_s),
        (),
        *[_row(f"  {stage}", bench.watched, lambda phase, s=stage: phase.cpu_s.get(s, 0.0)) for stage in STAGES],  # type: ignore[misc]
        _row("  Kafka client's threads, loop, stopwatch", bench.watched, lambda phase: phase.worker_s - sum(phase.cpu_s.values())),
        (),
        ("HOT updates", f"{bench.hot:.0%}"),
    ]
    title = (
        f"Events about {arguments.emails:,} mails of {arguments.esps}, one webhook worker, {arguments.kafka} Kafka, "
        f"Postgres with fsync {'off' if arguments.no_fsync else 'on'}"
    )
    table.show(title, ("", "first time", "repeated"), rows, _NOTES)
    if bench.by_esp:
        rows = [_esp_row(*esp) for esp in bench.by_esp.items()]
        table.show("Each ESP alone: events/s, and CPU µs of the worker per event (the last four: first time)", _ESP_HEAD, rows)


def _esp_row(esp: str, measured: tuple[int, list[Phase]]) -> Sequence[str]:
    count, (first, again) = measured
    rates = [f"{phase.events / phase.elapsed_s:,.0f}" for phase in (first, again)]
    costs = [first.worker_s, again.worker_s, *[first.cpu_s.get(stage, 0.0) for stage in ("unwrap", "verify", "parse", "record")]]
    return (esp, f"{first.events / count:.1f}", *rates, *[f"{seconds / first.events * 1e6:,.1f}" for seconds in costs])


def _row(name: str, phases: Sequence[Phase], seconds: Callable[[Phase], float]) -> Sequence[str]:
    return (name, *[f"{seconds(phase) / phase.events * 1e6:,.1f}" for phase in phases])


_ESP_HEAD = ("", "events a callback", "first/s", "repeated/s", "first", "repeated", "unwrap", "verify", "parse", "record")
_NOTES = (
    "Stages: CPU of the worker by stopwatch, of other mails. record holds join, tracking, locks, rules, updates and their arrays.",
    "Postgres and Kafka: all their processes, producing included. SendGrid sends many events in a callback, Postmark one.",
    "verify: SendGrid's is an ECDSA P-256 check a callback, 60 µs of OpenSSL; where it sends few events in each, it costs most.",
)
_HOT = "SELECT sum(n_tup_hot_upd)::float8 / greatest(sum(n_tup_upd), 1) FROM pg_stat_user_tables WHERE relname ~ '^email_(jobs|attempts)_'"


if __name__ == "__main__":
    sys.exit(main())
