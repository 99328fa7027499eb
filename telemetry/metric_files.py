"""Where metric values live: in memory, or, once the supervisor has named a folder, in mapped files named by worker slot.

prometheus_client names such files by pid, so that every respawn leaves more of them behind (400 worker lives: 1,200 files,
76 MiB, a scrape of 78 ms; measured 2026). A slot's successor opens its predecessor's files instead: counters go on, and
the number of files is bounded. prometheus_client also chooses between memory and files when it is imported; `SlotValue`
makes that choice when the supervisor calls `use_directory`, so that metrics may be declared and imported before it.

Slot names must be unique among living processes and hold no "_". A file that cannot be read must never stop a worker or a
scrape: a worker killed between making and sizing a file leaves one of no length (client_python issue 1199, 2026).
"""

import json
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, cast

import prometheus_client.values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from telemetry import log as logs

log = logs.get("telemetry.metric_files")

_FIRST_BYTES = 1 << 16  # the length at which MmapedDict starts
_HEADER = struct.Struct("i")
_NUMBERS = struct.Struct("dd")
_MAX_FILE_BYTES = 64 << 20
_LIVE = ("liveall", "livemin", "livemax", "livesum", "livemostrecent")


class BrokenFile(ValueError):
    """A metric file does not hold what its header says."""


class NumberFile(Protocol):
    """What is used of prometheus_client's MmapedDict, which has no annotations (0.26)."""

    def read_value(self, key: str) -> tuple[float, float]: ...

    def write_value(self, key: str, value: float, timestamp: float) -> None: ...

    def close(self) -> None: ...


class MetricFiles:
    """The open files of this process, one per kind of metric, and the values that live in them.

    Every process has one; a fork copies it, and `name_process` makes the copy write to the new process's own files.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._slot_name = ""
        self._files: dict[str, NumberFile | None] = {}
        self._values: list[SlotValue] = []
        self.lock = Lock()

    def adopt(self, value: "SlotValue") -> None:
        """Keep a new value where the others are."""
        with self.lock:
            self._values.append(value)
            value.move(self._file_of(value.kind))

    def move_to(self, directory: Path | None, slot_name: str) -> None:
        """Close what is open and continue every value from the files of this slot (None: in memory, from zero)."""
        if "_" in slot_name or "/" in slot_name:
            raise ValueError(f"a slot name is part of a file name and has no '_' and no '/': {slot_name!r}")
        with self.lock:
            for file in self._files.values():
                if file is not None:
                    file.close()
            self._files.clear()
            self._directory, self._slot_name = directory, slot_name
            for value in self._values:
                value.move(self._file_of(value.kind))

    def name(self, slot_name: str) -> None:
        """Write to the files of this slot from here on."""
        self.move_to(self._directory, slot_name)

    def _file_of(self, kind: str) -> NumberFile | None:
        if self._directory is None:
            return None
        if kind not in self._files:
            self._files[kind] = _open(self._directory / f"{kind}_{self._slot_name}.db")
        return self._files[kind]


FILES = MetricFiles()


class SlotValue:
    """One number of one metric; has the interface of prometheus_client's own value classes (0.26)."""

    _multiprocess = True

    def __init__(
        self,
        type_: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ):
        self.kind = f"{type_}_{multiprocess_mode}" if type_ == "gauge" else type_
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        self._file: NumberFile | None = None
        self._value = 0.0
        FILES.adopt(self)

    def move(self, file: NumberFile | None) -> None:
        """Go on from what that file holds; the caller has the lock."""
        self._file = file
        self._value = file.read_value(self._key)[0] if file else 0.0

    def inc(self, amount: float) -> None:
        with FILES.lock:
            self._store(self._value + amount, 0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with FILES.lock:
            self._store(value, timestamp or 0.0)

    def get(self) -> float:
        return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Files have no room for exemplars."""

    def get_exemplar(self) -> None:
        return None

    def _store(self, value: float, timestamp: float) -> None:
        self._value = value
        if self._file is not None:
            self._file.write_value(self._key, value, timestamp)


def install() -> None:
    """Have prometheus_client keep its numbers here. telemetry/metrics.py calls it before it declares the first metric."""
    prometheus_client.values.ValueClass = SlotValue


def directory_in(state_dir: Path) -> Path:
    """The folder of metric files within a worker's STATE_DIR."""
    return state_dir / "metrics"


def use_directory(directory: Path, slot_name: str = "supervisor") -> None:
    """Make the folder (0700), empty it of an earlier run's files and keep all values there from here on.

    The supervisor calls it once, before the first fork.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.glob("*.db"):
        path.unlink(missing_ok=True)
    FILES.move_to(directory, slot_name)


def name_process(slot_name: str) -> None:
    """Say which slot this process is ("delivery-3"); a child calls it right after the fork. Continues the slot's counters."""
    FILES.name(slot_name)


def clean_up(directory: Path, slot_name: str) -> None:
    """What is due when the process of a slot is dead: its living gauges go, and files that it left unreadable go.

    The files of other slots are not touched: theirs may be just being made.
    """
    for mode in _LIVE:
        (directory / f"gauge_{mode}_{slot_name}.db").unlink(missing_ok=True)
    for path in directory.glob(f"*_{slot_name}.db"):
        if not is_readable(path):
            path.unlink(missing_ok=True)


def readable_files(directory: Path, on_broken: Callable[[Path], None]) -> list[str]:
    """The names of the folder's files that can be read whole; the others are handed to `on_broken`."""
    good = []
    for path in sorted(directory.glob("*.db")):
        if is_readable(path):
            good.append(str(path))
        else:
            on_broken(path)
    return good


def is_readable(path: Path) -> bool:
    """Does the file hold what its header says, to the last entry?"""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES)
        _check(data)
    except (OSError, ValueError, struct.error):  # ValueError: BrokenFile, not UTF-8, not JSON
        return False
    return True


def _check(data: bytes) -> None:
    (used,) = _HEADER.unpack_from(data, 0)
    if used == 0 and len(data) >= 8:
        return  # made, but nothing in it yet
    if not 8 <= used <= len(data):
        raise BrokenFile(f"{used} bytes are said to be used, of {len(data)}")
    position = 8
    while position < used:
        position = _check_entry(data, position, used)


def _check_entry(data: bytes, position: int, used: int) -> int:
    key_bytes: int = _HEADER.unpack_from(data, position)[0]
    start = position + _HEADER.size
    after_key = start + key_bytes
    if key_bytes <= 0 or after_key > used:
        raise BrokenFile(f"a key of {key_bytes} bytes at {position}")
    key = json.loads(data[start:after_key].decode())
    if not isinstance(key, list) or len(key) != 4:
        raise BrokenFile(f"no key at {position}")
    padding = 8 - (key_bytes + _HEADER.size) % 8
    after = after_key + padding + _NUMBERS.size
    if after > used:
        raise BrokenFile(f"no value at {position}")
    return after


def _open(path: Path) -> NumberFile | None:
    """The slot's file, made anew where it cannot be read; None (so, in memory only) where the disk refuses."""
    try:
        if path.exists() and path.stat().st_size > 0 and not is_readable(path):
            path.unlink()
        _reserve(path)
        return cast(NumberFile, cast(Any, MmapedDict)(str(path)))
    except OSError as error:
        log.warning("a metric file cannot be opened: its numbers are not shown", file=path.name, error=str(error))
        return None


def _reserve(path: Path) -> None:
    # for its own user only; and with room on the disk, since a store into a mapped hole of a full disk is a SIGBUS
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _FIRST_BYTES)
    finally:
        os.close(descriptor)
