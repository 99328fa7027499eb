"""The routing snapshot in shared memory."""

import mmap
import os
import signal
import time
from collections.abc import Iterator

import msgspec
import pytest

from routing.snapshot import BANK_BYTES, SIZE_BYTES, SnapshotReader, SnapshotWriter

WEIGHTS = {0: {"gmail": {"postmark": 700, "ses": 300}, "*": {"ses": 1000}}}


@pytest.fixture
def buffer() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, SIZE_BYTES) as mapping:
        yield mapping


def test_nothing_written_reads_as_no_snapshot(buffer: mmap.mmap) -> None:
    assert SnapshotReader(buffer).read() is None


def test_what_is_written_is_read_with_its_age(buffer: mmap.mmap) -> None:
    assert SnapshotWriter(buffer, clock=lambda: 100.0).write(WEIGHTS, {"paused": ["bulk"]}, age_s=40.0)
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None
    assert snapshot.weights(0, "gmail") == {"postmark": 700, "ses": 300}
    assert snapshot.weights(0, "yahoo") is None
    assert snapshot.weights(9, "*") is None
    assert snapshot.extras == {"paused": ["bulk"]}
    assert snapshot.age_s(105.0) == 45.0


def test_equal_weights_written_again_are_newer_but_not_parsed_again(buffer: mmap.mmap) -> None:
    times = iter([1.0, 2.0])
    writer, reader = SnapshotWriter(buffer, clock=lambda: next(times)), SnapshotReader(buffer)
    writer.write(WEIGHTS)
    first = reader.read()
    writer.write(WEIGHTS)
    second = reader.read()
    assert first is not None and second is not None
    assert second.made_at_s == 2.0
    assert second.document is first.document
    assert reader.read() is second


def test_a_torn_bank_leaves_the_last_good_snapshot(buffer: mmap.mmap) -> None:
    writer, reader = SnapshotWriter(buffer), SnapshotReader(buffer)
    writer.write(WEIGHTS)
    first = reader.read()
    writer.write({0: {"*": {"smtp": 1000}}})
    position = buffer[:].index(b"smtp")
    buffer[position : position + 4] = b"torn"
    assert reader.read() is first
    assert SnapshotReader(buffer).read() is None
    writer.write({0: {"*": {"smtp": 1000}}})
    mended = reader.read()
    assert mended is not None and mended.weights(0, "*") == {"smtp": 1000}


def test_garbage_in_the_header_is_no_crash(buffer: mmap.mmap) -> None:
    buffer[0:200] = b"\xff" * 200
    assert SnapshotReader(buffer).read() is None


def test_weights_that_do_not_fit_leave_the_old_ones(buffer: mmap.mmap) -> None:
    writer = SnapshotWriter(buffer)
    writer.write(WEIGHTS)
    assert not writer.write(WEIGHTS, {"filler": "x" * BANK_BYTES})
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None and snapshot.weights(0, "*") == {"ses": 1000}


def test_weights_of_the_wrong_shape_are_refused_by_the_writer(buffer: mmap.mmap) -> None:
    with pytest.raises(msgspec.ValidationError):
        SnapshotWriter(buffer).write({0: {"gmail": "all"}})  # type: ignore[dict-item]
    assert SnapshotReader(buffer).read() is None


def test_tenants_may_come_as_text_as_json_has_no_other_keys(buffer: mmap.mmap) -> None:
    SnapshotWriter(buffer).write({"7": {"*": {"ses": 1000}}})  # type: ignore[dict-item]
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None and snapshot.weights(7, "*") == {"ses": 1000}


def write_for_ever(buffer: mmap.mmap) -> None:
    writer, number = SnapshotWriter(buffer), 0
    while True:
        number += 1
        # every row says the same number, so a mixture of two writes shows
        writer.write({0: {f"provider-{row}": {"ses": number} for row in range(number % 60 + 20)}}, {"rows": number % 60 + 20})


def fork_writer(buffer: mmap.mmap) -> int:
    child = os.fork()
    if child == 0:
        write_for_ever(buffer)
    return child


def test_readers_never_see_a_mixture_though_the_writer_is_killed_again_and_again(buffer: mmap.mmap) -> None:
    reader, generations = SnapshotReader(buffer), set()
    for _ in range(60):
        child = fork_writer(buffer)
        try:
            until = time.monotonic() + 0.02
            while time.monotonic() < until:
                snapshot = reader.read()
                if snapshot:
                    generations.add(snapshot.generation)
                    rows = snapshot.document.weights[0]
                    assert len(rows) == snapshot.extras["rows"]
                    assert len({row["ses"] for row in rows.values()}) == 1
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        # whatever the kill interrupted, a newcomer can read and a successor can write
        assert SnapshotReader(buffer).read() is not None or not generations
    assert len(generations) > 60
    SnapshotWriter(buffer).write(WEIGHTS)
    last = reader.read()
    assert last is not None and last.weights(0, "*") == {"ses": 1000}
