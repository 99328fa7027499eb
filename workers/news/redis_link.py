"""A line to Redis for what nothing depends on: statuses that producers may ask for, copies of dead letters, cached templates.

Errands wait in a queue of bounded size and are run by a thread, so that neither a Redis that is away, nor one that hangs, nor a
name that cannot be resolved ever slows the loop of a worker. After a failure the line rests; what does not fit into the queue is
forgotten, oldest first. Nothing whose loss would matter may go this way.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import redis
from redis.exceptions import RedisError

import telemetry.log
from intake.redis_list import connect

log = telemetry.log.get("workers.news.redis_link")

Client = redis.Redis
Work = Callable[[Client], Any]

MOST_BYTES = 8 << 20
CONNECT_LIMIT_S, ANSWER_LIMIT_S = 1.0, 1.0
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0
CLOSE_LIMIT_S = 1.0


class _Errand(NamedTuple):
    work: Work
    size_bytes: int


class RedisLink:
    """Made after the fork, one per process. The thread starts with the first errand."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic):
        self._client = connect(url, CONNECT_LIMIT_S, ANSWER_LIMIT_S)
        self._clock = clock
        self._changed = threading.Condition()
        self._errands: deque[_Errand] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._rest_s = FIRST_REST_S
        self._rests_until_s = float("-inf")

    @property
    def is_resting(self) -> bool:
        """Did the last errand fail so lately that the next one has to wait?"""
        return self._clock() < self._rests_until_s

    def send(self, work: Work, size_bytes: int) -> None:
        """Have the work done some time soon, perhaps twice, perhaps never; returns at once. `size_bytes` is what it holds, roughly."""
        with self._changed:
            if self._is_closing or size_bytes > MOST_BYTES:
                return
            self._errands.append(_Errand(work, size_bytes))
            self._waiting_bytes += size_bytes
            while self._waiting_bytes > MOST_BYTES:
                self._waiting_bytes -= self._errands.popleft().size_bytes
            self._wake()

    def ask(self, work: Work, limit_s: float) -> Any:
        """What the work returns, before everything else that waits; None where it is not there within the limit."""
        if self.is_resting:
            return None
        answers: SimpleQueue[Any] = SimpleQueue()
        with self._changed:
            self._errands.appendleft(_Errand(lambda client: answers.put(work(client)), 0))
            self._wake()
        try:
            return answers.get(timeout=limit_s)
        except Empty:
            return None

    def close(self) -> None:
        """Give what waits a moment, then forget it."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_LIMIT_S)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="redis-link", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (errand := self._next()) is not None:
            try:
                errand.work(self._client)
            except RedisError as error:
                self._rest(errand, error)
            except Exception:  # a bug of ours, met by one errand: it must not end all others
                log.exception("an errand to Redis failed")
            else:
                self._note_success()
        self._client.close()

    def _next(self) -> _Errand | None:
        """The oldest errand, once the line does not rest any more; None at the end."""
        with self._changed:
            while not self._errands or self.is_resting:
                if self._is_closing:
                    return None
                self._changed.wait(max(0.0, self._rests_until_s - self._clock()) if self._errands else None)
            errand = self._errands.popleft()
            self._waiting_bytes -= errand.size_bytes
            return errand

    def _rest(self, errand: _Errand, error: RedisError) -> None:
        """An errand that Redis refuses is over; one that Redis did not answer is tried again."""
        if self._rest_s == FIRST_REST_S:
            log.warning("Redis does not take what it is told: statuses there may be old", kind=type(error).__name__)
        with self._changed:
            self._rests_until_s = self._clock() + self._rest_s
            self._rest_s = min(self._rest_s * 2, LONGEST_REST_S)
            if isinstance(error, redis.ConnectionError | redis.TimeoutError):
                self._errands.appendleft(errand)
                self._waiting_bytes += errand.size_bytes

    def _note_success(self) -> None:
        if self._rest_s != FIRST_REST_S:
            self._rest_s = FIRST_REST_S
            log.info("Redis takes what it is told again")
