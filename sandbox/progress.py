"""The live line of a run: how many went out, how fast, through whom, and what waits. Counts the fakes' ledgers as they grow."""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sandbox.product import WAITING, Product

EVERY_S = 0.25
_COUNTS = """
    SELECT (SELECT count(*) FROM email_jobs WHERE status = ANY(%(waiting)s)),
           (SELECT count(*) FROM email_jobs WHERE status = 'retrying'),
           (SELECT count(*) FROM dead_letters),
           (SELECT count(*) FROM email_attempts WHERE state = 'not_taken')
"""


class Progress:
    """Draws one line on a terminal, or a line every few seconds into a pipe."""

    def __init__(self, product: Product, emails: int, clock: Callable[[], float] = time.monotonic):
        self._product = product
        self._emails = emails
        self._clock = clock
        self._started_s = clock()
        self._shown_at_s = 0.0
        self._last: list[tuple[float, int]] = []
        self._counters = {path.stem: LineCounter(path) for path in sorted((product.world.folder / "ledger").glob("*.jsonl"))}
        self._waiting = self._refused = self._dead = 0

    def show(self) -> None:
        """Draw the line, if it is time."""
        every_s = EVERY_S if sys.stdout.isatty() else 2.0
        if self._clock() - self._shown_at_s >= every_s:
            self._shown_at_s = self._clock()
            self._look()
            self._draw()

    def watch_until_done(self, limit_s: float) -> bool:
        """Draw until everything has a fate; False where the limit passed first."""
        deadline_s = self._clock() + limit_s
        while self._clock() < deadline_s:
            self._look()
            self._draw() if sys.stdout.isatty() else self.show()
            if self._sent() >= self._emails and self._waiting == 0 and self._is_read():
                break
            time.sleep(EVERY_S)
        self._draw()
        print()
        return self._sent() >= self._emails

    def _is_read(self) -> bool:
        """Has the number of dead letters stopped growing since a second?"""
        self._last.append((self._clock(), self._dead))
        self._last = self._last[-5:]
        return len(self._last) == 5 and self._last[0][1] == self._dead

    def _sent(self) -> int:
        return sum(counter.count for counter in self._counters.values())

    def _look(self) -> None:
        for counter in self._counters.values():
            counter.advance()
        with closing(self._product.database()) as database:
            self._waiting, _, self._dead, self._refused = database.read(_COUNTS, {"waiting": list(WAITING)})[0]

    def _draw(self) -> None:
        sent, elapsed_s = self._sent(), max(self._clock() - self._started_s, 0.001)
        shares = "  ".join(f"{esp} {counter.count / max(sent, 1):4.0%}" for esp, counter in self._counters.items())
        bar = "█" * round(20 * min(sent / self._emails, 1)) if self._emails else ""
        line = (
            f"  {bar:<20} {sent:>6,} sent  {sent / elapsed_s:>6,.0f}/s  {shares}  "
            f"{self._refused} refused for now, {self._waiting} waiting, {self._dead} dead letters"
        )
        end, start = ("", "\r\033[K") if sys.stdout.isatty() else ("\n", "")
        print(f"{start}{line}", end=end, flush=True)


class LineCounter:
    """Counts the complete lines of a file that grows."""

    def __init__(self, path: Path):
        self._path = path
        self._position = 0
        self.count = 0

    def advance(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._position)
            while chunk := file.read(1 << 20):
                self._position += len(chunk)
                self.count += chunk.count(b"\n")
