"""Copying weights from the store into shared memory."""

import mmap
from collections.abc import Iterator
from typing import Any

import pytest

from mail.errors import StoreUnavailable
from routing.snapshot import BANK_BYTES, SIZE_BYTES, SnapshotReader, SnapshotWriter
from telemetry import metrics
from workers.balancer import Balancer

ROW: dict[str, Any] = {"generation": 7, "computed_at": 1_000.0, "weights": {"0": {"*": {"ses": 600, "postmark": 400}}}}


@pytest.fixture
def buffer() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, SIZE_BYTES) as mapping:
        yield mapping


def balancer(rows: list[Any], buffer: mmap.mmap) -> Balancer:
    def read_newest() -> dict[str, Any] | None:
        row = rows.pop(0)
        if isinstance(row, Exception):
            raise row
        return None if row is None else dict(row)

    return Balancer(read_newest, SnapshotWriter(buffer, clock=lambda: 500.0), clock=lambda: 1_030.0)


def test_the_newest_weights_are_copied_with_their_age(buffer: mmap.mmap) -> None:
    assert balancer([ROW | {"paused": ["bulk"]}], buffer).step()
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None
    assert snapshot.weights(0, "*") == {"ses": 600, "postmark": 400}
    assert snapshot.age_s(500.0) == 30.0
    assert snapshot.extras == {"paused": ["bulk"]}


def test_without_computed_weights_there_is_no_snapshot(buffer: mmap.mmap) -> None:
    assert not balancer([None], buffer).step()
    assert SnapshotReader(buffer).read() is None


def test_an_absent_store_leaves_the_old_weights_and_is_said_once(buffer: mmap.mmap, caplog: pytest.LogCaptureFixture) -> None:
    away = StoreUnavailable("away")
    found = balancer([ROW, away, away, ROW, away], buffer)
    assert [found.step() for _ in range(3)] == [True, False, False]
    assert caplog.text.count("store is away") == 1
    assert SnapshotReader(buffer).read() is not None
    assert [found.step() for _ in range(2)] == [True, False]
    assert caplog.text.count("store is away") == 2


@pytest.mark.parametrize("bad", ["all to ses", {"0": {"*": {"ses": "much"}}}, {"0": {"*": {"x" * BANK_BYTES: 1}}}, None])
def test_weights_that_cannot_be_used_leave_the_old_ones_and_are_said_once(
    bad: Any, buffer: mmap.mmap, caplog: pytest.LogCaptureFixture
) -> None:
    found = balancer([ROW, ROW | {"generation": 8, "weights": bad}, ROW | {"generation": 8, "weights": bad}], buffer)
    assert [found.step() for _ in range(3)] == [True, False, False]
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None and snapshot.weights(0, "*") == {"ses": 600, "postmark": 400}
    assert caplog.text.count("cannot be used") == 1


def test_the_weights_are_shown_as_metrics(buffer: mmap.mmap) -> None:
    balancer([ROW], buffer).step()
    assert metrics.ESP_WEIGHT.labels("ses", "0")._value.get() == 600
    assert metrics.WEIGHTS_AGE_SECONDS._value.get() == 30.0
