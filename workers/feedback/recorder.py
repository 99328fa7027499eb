"""The recorder: runs transactions in threads of its own, each over a connection of its own, so that the next batch is read while
Postgres works on the ones before.

It never starts more transactions than it has connections. What runs side by side must not care which comes first.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from db.connection import Cursor
from workers.steps.patience import Patience

T = TypeVar("T")


class Recorder:
    """`patiences` are the connections, each used by one thread at a time; work is told its connection's number. `tick` is called
    about once a second while somebody waits: a place to beat and to keep partitions."""

    def __init__(self, patiences: Sequence[Patience], tick: Callable[[], None], tick_s: float = 1.0):
        self.width = len(patiences)
        self._tick = tick
        self._tick_s = tick_s
        self._free: SimpleQueue[tuple[int, Patience]] = SimpleQueue()
        for numbered in enumerate(patiences):
            self._free.put(numbered)
        self._threads = ThreadPoolExecutor(self.width, thread_name_prefix="recorder")

    def begin(self, stage: str, work: Callable[[Cursor, int], T]) -> "Future[T]":
        """Start a transaction; it is tried until the store takes it. What it raises is raised by `finish`."""
        return self._threads.submit(self._run, stage, work)

    def finish(self, begun: "Future[T]") -> T:
        """Wait for its end, however long that takes, and what came of it."""
        while True:
            try:
                return begun.result(timeout=self._tick_s)
            except TimeoutError:
                if begun.done():  # it was the work that raised it
                    raise
                self._tick()

    def insist(self, stage: str, work: Callable[[Cursor, int], T]) -> T:
        """Run a transaction and wait for it."""
        return self.finish(self.begin(stage, work))

    def close(self) -> None:
        self._threads.shutdown()

    def _run(self, stage: str, work: Callable[[Cursor, int], T]) -> T:
        number, patience = self._free.get()
        try:
            return patience.insist(stage, lambda cursor, _: work(cursor, number))
        finally:
            self._free.put((number, patience))
