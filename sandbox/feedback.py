"""What the fakes' mails lead to: webhooks, as each ESP would send them, in the webhook topics.

    python -m sandbox.feedback --folder F --bootstrap-servers HOST:PORT [--options JSON]

Follows the ledgers in F/ledger, draws each mail's fate (sandbox/fates.py), and hands what is due to Kafka in the ingress's
envelope, signed. Its first line of output is {"settings": {...}}: with these the product believes the callbacks. It must never
report a mail that no fake accepted. What was due before it started is not reported: its predecessor did that.
"""

import argparse
import heapq
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
from confluent_kafka import Producer

from sandbox import fakes
from sandbox.fakes import callbacks
from sandbox.fakes.callbacks import CallbackBuilder, Happening, Post
from sandbox.fakes.ledger import Line
from sandbox.fates import Chance, Fates
from sandbox.ledger_tail import LedgerTail

TICK_S = 0.1
MAX_WAITING = 500_000
Publish = Callable[[str, bytes], None]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`speed` 3600 makes an hour pass in a second; `repeats` are sent a second time; `events_per_s` bounds what is sent, since the
    mock Kafka forgets what nobody reads in time; `shuffle_s` (before `speed`) is how far events overtake each other.
    `rates`: see Fates. `silent` ESPs send nothing. `tenant` is put into the envelopes where it is set.
    """

    seed: int = 1
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    repeats: Chance = 0.01
    events_per_s: Annotated[float, msgspec.Meta(gt=0)] = 1_000.0
    shuffle_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    rates: dict[str, dict[str, float]] = {}
    silent: tuple[str, ...] = ()
    tenant: int | None = None


class Feedback:
    """Turns ledger lines into callbacks when their time comes.

    `tails` and `builders` by ESP; an ESP without a builder stays silent. `publish` takes a topic and a record's value.
    """

    def __init__(
        self,
        tails: Mapping[str, LedgerTail],
        builders: Mapping[str, CallbackBuilder],
        options: Options,
        publish: Publish,
        clock: Callable[[], float] = time.time,
    ):
        self._tails = {esp: tail for esp, tail in tails.items() if esp in builders and esp not in options.silent}
        self._builders = builders
        self._options = options
        self._fates = Fates(options.seed, options.speed, options.rates)
        self._publish = publish
        self._clock = clock
        self._started_at = self._spoke_at = clock()
        self._allowance = 0.0
        self._dice = random.Random(options.seed)
        self._waiting: list[tuple[float, int, Happening]] = []
        self._count = 0

    def step(self) -> int:
        """Read what is new, send what is due; how many events were sent."""
        now = self._clock()
        for tail in self._tails.values():
            while len(self._waiting) < MAX_WAITING and (lines := tail.read()):
                for line in lines:
                    self._foresee(line)
        due = self._take_due(now)
        by_esp: dict[str, list[Happening]] = defaultdict(list)
        for happening in due:
            by_esp[happening.line["provider"]].append(happening)
        for esp, happenings in by_esp.items():
            for post in self._builders[esp].posts(happenings, now):
                self._publish(f"webhook-{esp}", self._envelope(post))
        return len(due)

    @property
    def waiting(self) -> int:
        """How many events have not come due, or not been sent yet."""
        return len(self._waiting)

    def _foresee(self, line: Line) -> None:
        for happening in self._fates.of(line):
            due_at = happening.at + self._dice.random() * self._options.shuffle_s / self._options.speed
            if happening.at < self._started_at:
                continue
            self._await(due_at, happening)
            if self._dice.random() < self._options.repeats:
                self._await(due_at + self._dice.expovariate(1 / 60.0) / self._options.speed, happening)

    def _await(self, due_at: float, happening: Happening) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (due_at, self._count, happening))

    def _take_due(self, now: float) -> list[Happening]:
        """What is due, as far as the pace allows; a pause saves up at most a second's worth."""
        pace = self._options.events_per_s
        self._allowance = min(self._allowance + (now - self._spoke_at) * pace, max(pace, 1.0))
        self._spoke_at = now
        due: list[Happening] = []
        while self._waiting and self._waiting[0][0] <= now and self._allowance >= 1:
            due.append(heapq.heappop(self._waiting)[2])
            self._allowance -= 1
        return due

    def _envelope(self, post: Post) -> bytes:
        envelope: dict[str, Any] = {"headers": {name: list(values) for name, values in post.headers.items()}, "body": post.body.decode()}
        return orjson.dumps(envelope if self._options.tenant is None else envelope | {"tenant": self._options.tenant})


def load_builders(esps: Sequence[str], folder: Path | None = None) -> dict[str, CallbackBuilder]:
    """The builders of those ESPs that have one, each with fresh keys; `folder` as in callbacks.load."""
    found = {esp: callbacks.load(esp, folder) for esp in esps}
    return {esp: builder for esp, builder in found.items() if builder is not None}


def settings_of(builders: Mapping[str, CallbackBuilder]) -> dict[str, str]:
    """The settings with which the product believes all of them."""
    settings: dict[str, str] = {}
    for builder in builders.values():
        settings |= builder.settings()
    return settings


class _Topics:
    """Hands records to Kafka, waiting where its queue is full."""

    def __init__(self, bootstrap_servers: str):
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20})

    def publish(self, topic: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value)
                return
            except BufferError:
                self._producer.poll(0.1)

    def poll(self) -> None:
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(5)


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a clean stop, 2 where the options make no sense."""
    parser = argparse.ArgumentParser(prog="sandbox.feedback", description="Webhooks for what the fake ESPs accepted.")
    parser.add_argument("--folder", type=Path, required=True, help="the world's folder")
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--options", default="{}", help='JSON, e.g. {"seed": 1, "speed": 600, "rates": {"sendgrid/gmail": {"block": 0.9}}}')
    arguments = parser.parse_args(argv)
    folder: Path = arguments.folder / "callbacks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    builders = load_builders(fakes.names(), folder)
    topics = _Topics(arguments.bootstrap_servers)
    try:
        options = msgspec.json.decode(arguments.options, type=Options)
        tails = {esp: LedgerTail(arguments.folder / "ledger" / f"{esp}.jsonl") for esp in builders}
        feedback = Feedback(tails, builders, options, topics.publish)
    except msgspec.DecodeError as error:
        sys.stderr.write(f"bad --options: {error}\n")
        return 2
    _run(feedback, topics, {"settings": settings_of(builders)})
    return 0


def _run(feedback: Feedback, topics: _Topics, greeting: dict[str, Any]) -> None:
    """Until SIGTERM or SIGINT."""
    is_over = False

    def stop(*_: object) -> None:
        nonlocal is_over
        is_over = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    sys.stdout.write(orjson.dumps(greeting).decode() + "\n")
    sys.stdout.flush()
    while not is_over:
        feedback.step()
        topics.poll()
        time.sleep(TICK_S)
    topics.close()


if __name__ == "__main__":
    sys.exit(main())
