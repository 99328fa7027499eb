"""One connection to Postgres, and the only place that knows psycopg2.

A transaction is a function: it is run again where Postgres asks for that (deadlock, serialization), and a lost connection
becomes StoreUnavailable, after which the next call connects anew. Nothing here ever waits without a limit.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import psycopg2
import psycopg2.extensions

from mail.errors import StoreUnavailable

Cursor = psycopg2.extensions.cursor
UnfitValue = psycopg2.DataError  # a value that Postgres cannot hold, though it passed every check of ours
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode

_RETRY_CODES = {"40P01", "40001"}  # deadlock_detected, serialization_failure
# read_only_sql_transaction: the server that answers is a replica, since the primary is being replaced
_AWAY_CODES = {"25006"} | _RETRY_CODES
_MAX_TRIES = 6
# tcp_user_timeout and keepalives find a dead peer; statement_timeout a slow query. A frozen but living backend obeys neither:
# for that the supervisor watches the heartbeat.
_SAFETY = {
    "connect_timeout": "5",
    "tcp_user_timeout": "15000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "options": "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
}


class Database:
    """A lazily opened connection. `parameters` are libpq's (host, port, dbname, user, password, sslmode ...)."""

    def __init__(self, parameters: Mapping[str, str], application_name: str = "email-worker", sleep: Callable[[float], None] = time.sleep):
        self._parameters = {**_SAFETY, "application_name": application_name, **parameters}
        self._sleep = sleep
        self._connection: psycopg2.extensions.connection | None = None

    def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` in one transaction and commit it; returns what it returns.

        `work` may be run several times, so it must have no effects but those of its cursor.
        Raises StoreUnavailable where the connection was lost: then the transaction may or may not have been committed.
        """
        for tries in range(1, _MAX_TRIES + 1):
            try:
                return self._run_once(work)
            except psycopg2.Error as error:
                self._give_up_or_back_off(error, tries)
        raise StoreUnavailable("the transaction was chosen as a deadlock victim too often")

    def read(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement in a transaction of its own."""
        return self.run(lambda cursor: fetch(cursor, statement, parameters or {}))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run_once(self, work: Callable[[Cursor], T]) -> T:
        connection = self._connected()
        try:
            with connection.cursor() as cursor:
                result = work(cursor)
            connection.commit()
            return result
        except BaseException:
            if not connection.closed:
                _roll_back(connection)
            raise

    def _connected(self) -> psycopg2.extensions.connection:
        if self._connection is None or self._connection.closed:
            parameters: dict[str, Any] = dict(self._parameters)
            self._connection = psycopg2.connect(**parameters)
        return self._connection

    def _give_up_or_back_off(self, error: psycopg2.Error, tries: int) -> None:
        if error.pgcode in _RETRY_CODES and tries < _MAX_TRIES:
            self._sleep(random.uniform(0.001, 0.01) * 2**tries)
            return
        if _is_lost(error) or error.pgcode in _AWAY_CODES:
            self.close()
            # the driver's message may hold the host and user of the connection string, so only its code goes on
            raise StoreUnavailable(f"Postgres does not answer ({type(error).__name__} {error.pgcode or ''})".rstrip()) from error
        raise error


def _is_lost(error: psycopg2.Error) -> bool:
    """Is the connection gone? Mostly psycopg2 says so by its classes; the bare DatabaseError, without any code, is what it makes of a
    write that failed while the server's last words were still unread (2.9.13 on libpq 17, seen 2026-11)."""
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) is psycopg2.DatabaseError


def fetch(cursor: Cursor, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Execute one statement that returns rows, and all its rows."""
    cursor.execute(statement, parameters)
    return cursor.fetchall()


def _roll_back(connection: psycopg2.extensions.connection) -> None:
    try:
        connection.rollback()
    except psycopg2.Error:
        connection.close()


def uuid_array(ids: Iterable[str | None]) -> str:
    """An array of ids as one literal: several times cheaper than the driver's list adapter."""
    return "{" + ",".join([i or "NULL" for i in ids]) + "}"


def number_array(numbers: Iterable[float | None]) -> str:
    """An array of numbers as one literal; None is NULL."""
    return "{" + ",".join(["NULL" if n is None else str(n) for n in numbers]) + "}"


def time_array(moments: Iterable[datetime | None]) -> str:
    """An array of moments (with their offsets) as one literal; None is NULL. JSON spells both as Postgres reads them, and costs a
    twentieth of isoformat."""
    return "{" + _encode(list(moments))[1:-1].decode() + "}"


def flag_array(flags: Iterable[bool]) -> str:
    """An array of booleans as one literal."""
    return "{" + ",".join(["t" if flag else "f" for flag in flags]) + "}"


def text_array(texts: Iterable[str | None]) -> str:
    """An array of texts as one literal; None is NULL. Raises ValueError on NUL, which Postgres cannot hold."""
    texts = list(texts)
    literal = _unescaped(texts) or "{" + ",".join(["NULL" if text is None else _quoted(text) for text in texts]) + "}"
    if "\0" in literal:
        raise ValueError("a text holds NUL, which Postgres cannot store")
    return literal


def _unescaped(texts: Sequence[str | None]) -> str:
    """The literal where none of them needs escaping, which is twice as fast; else ""."""
    present = [text for text in texts if text is not None]
    joined = '","'.join(present)
    is_plain = "\\" not in joined and joined.count('"') == 2 * len(present) - 2
    return '{"' + joined + '"}' if is_plain and len(present) == len(texts) else ""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def bytes_array(values: Sequence[bytes | None]) -> str:
    """An array of byte strings as one literal."""
    return "{" + ",".join(["NULL" if v is None else '"\\\\x' + v.hex() + '"' for v in values]) + "}"
