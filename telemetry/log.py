"""Log lines: a constant message plus fields, one JSON object a line on stderr, or coloured text for a person at a terminal.

    log = telemetry.log.get("intake.kafka")
    log.info("partition assigned", topic=topic, partition=partition)

It stands on the standard library's logging, so that foreign libraries' warnings come out in the same form. It must never
raise into its caller, and what looks like an email address or a secret does not pass (telemetry/redaction.py).
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from telemetry.redaction import Redactor

LEVELS = ("debug", "info", "warning", "error")
_MAX_TRACEBACK = 12_000
_FIELDS = "email_worker_fields"
_RESERVED = frozenset({"at", "level", "logger", "message", "exception"})
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None


class Log:
    """A named source of log lines. Fields are ids, counts and times; never an address, never a secret."""

    def __init__(self, logger: logging.Logger):
        self._logger = logger

    def debug(self, message: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        self._write(logging.ERROR, message, fields)

    def exception(self, message: str, /, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, message, fields, is_exception=True)

    def _write(self, level: int, message: str, fields: dict[str, object], is_exception: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, exc_info=is_exception, extra={_FIELDS: fields}, stacklevel=3)


def get(name: str) -> Log:
    """The log of that name; by custom the module's dotted name."""
    return Log(logging.getLogger(name))


def configure(level: str, human: bool, **bound: object) -> None:
    """Write lines of `level` ("debug" to "error") and above to stderr, each with the bound fields.

    May be called again, as after a fork with the new process's name: it replaces what the call before installed.
    """
    root = logging.getLogger()
    redactor = _redactor()
    for handler in _ours(root):
        root.removeHandler(handler)
    root.addHandler(_Handler(sys.stderr, redactor, human, bound))
    root.setLevel(level.upper())


def hide(secrets: Iterable[str]) -> None:
    """Never write these texts, wherever they turn up. Call it after `configure`; later calls of that remember them."""
    _redactor().hide(secrets)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, told apart from other people's handlers by its class; carries the redactor over a new `configure`."""

    def __init__(self, stream: TextIO, redactor: Redactor, human: bool, bound: Mapping[str, object]):
        super().__init__(stream)
        self.redactor = redactor
        has_colours = human and stream.isatty() and not os.environ.get("NO_COLOR")
        self.setFormatter(_HumanFormatter(redactor, bound, has_colours) if human else _JsonFormatter(redactor, bound))
        self.addFilter(_is_worth_a_line)

    def handleError(self, record: logging.LogRecord) -> None:
        """Stay silent: a stderr that nobody reads any more must not end a worker, nor fill another stream."""


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    # foreign libraries write URLs, headers and bodies at the lower levels
    return hasattr(record, _FIELDS) or record.levelno >= logging.WARNING


def _ours(root: logging.Logger) -> list[_Handler]:
    return [handler for handler in root.handlers if isinstance(handler, _Handler)]


def _redactor() -> Redactor:
    installed = _ours(logging.getLogger())
    return installed[0].redactor if installed else Redactor()


class _Formatter(logging.Formatter):
    """What both forms share: the fields, clean."""

    def __init__(self, redactor: Redactor, bound: Mapping[str, object]):
        super().__init__()
        self._redactor = redactor
        self._bound = dict(bound)

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        own: Mapping[str, object] = getattr(record, _FIELDS, {})
        return {_safe_name(name): self._redactor.clean_field(name, value) for name, value in {**self._bound, **own}.items()}

    def _message(self, record: logging.LogRecord) -> str:
        # a message of ours is constant: no %-formatting
        return self._redactor.clean(str(record.msg) if hasattr(record, _FIELDS) else record.getMessage())

    def _traceback(self, record: logging.LogRecord) -> str:
        text = _traceback_text(record.exc_info)
        # the end of a traceback says what happened
        return self._redactor.clean(text[-_MAX_TRACEBACK:], limit=_MAX_TRACEBACK)


class _JsonFormatter(_Formatter):
    """One JSON object a line, in ASCII, so that no terminal, collector or lone surrogate can spoil it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            **self._fields(record),
        }
        if record.exc_info:
            line["exception"] = self._traceback(record)
        return json.dumps(line, default=str, separators=(", ", ": "))


class _HumanFormatter(_Formatter):
    """Time, level, logger, message, then key=value; a traceback follows on lines of its own."""

    _COLOURS = {"DEBUG": "\033[2m", "INFO": "\033[36m", "WARNING": "\033[33m", "ERROR": "\033[31;1m", "CRITICAL": "\033[31;1m"}

    def __init__(self, redactor: Redactor, bound: Mapping[str, object], has_colours: bool):
        super().__init__(redactor, bound)
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        at = self._paint("\033[2m", f"{_moment(record).astimezone():%H:%M:%S}.{int(record.msecs):03d}")
        level = self._paint(self._COLOURS.get(record.levelname, ""), f"{record.levelname:<7}")
        name = self._paint("\033[2m", f"{record.name:<18}")
        pairs = [f"{self._paint(chr(27) + '[2m', key + '=')}{_readable(value)}" for key, value in self._fields(record).items()]
        line = "  ".join([at, level, name, _on_one_line(self._message(record)), *([" ".join(pairs)] if pairs else [])])
        return f"{line}\n{_without_controls(self._traceback(record))}" if record.exc_info else line

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}\033[0m" if self._has_colours and colour else text


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _safe_name(name: str) -> str:
    return f"{name}_" if name in _RESERVED else name


def _readable(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    is_plain = value.isprintable() and value and not any(character in value for character in ' ="\\')
    return value if is_plain else _quoted(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", "\\u007f")


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else _quoted(text)[1:-1]


def _without_controls(text: str) -> str:
    # somebody else's text must not move the cursor of an operator's terminal
    return "".join([c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text])


def _traceback_text(exc_info: _ExcInfo) -> str:
    if not exc_info or exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*exc_info)).rstrip()
