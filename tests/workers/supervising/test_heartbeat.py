"""Heartbeat cells: what one process writes, another reads whole."""

import mmap
import os
import signal
import time

import pytest

from workers.supervising.heartbeat import CELLS, SIZE_BYTES, Heartbeats


@pytest.fixture
def heartbeats() -> Heartbeats:
    return Heartbeats(mmap.mmap(-1, SIZE_BYTES))


def test_a_cell_says_what_was_put_into_it(heartbeats):
    cell = heartbeats.cell(3)
    cell.assign("delivery", 2)
    cell.expect(incarnation=77, restarts=4, crashes=1, start_limit_s=60)
    cell.occupy(4711)
    cell.beat("waiting for the store", 30)
    cell.note_batch(500)
    cell.note_batch(20)
    beat = cell.read()
    assert (beat.role, beat.slot, beat.pid, beat.incarnation) == ("delivery", 2, 4711, 77)
    assert (beat.stage, beat.batches, beat.messages, beat.restarts, beat.crashes) == ("waiting for the store", 2, 520, 4, 1)
    assert beat.is_up
    assert 0 <= time.monotonic_ns() - beat.beat_ns < 5e9
    assert beat.deadline_ns - beat.beat_ns == 30 * 10**9


def test_only_assigned_cells_are_listed(heartbeats):
    heartbeats.cell(0).assign("keeper", 0)
    heartbeats.cell(CELLS - 1).assign("delivery", 9)
    assert [(beat.role, beat.slot) for beat in heartbeats.assigned()] == [("keeper", 0), ("delivery", 9)]
    heartbeats.cell(0).free()
    assert [beat.role for beat in heartbeats.assigned()] == ["delivery"]


def test_neighbouring_cells_do_not_touch_each_other(heartbeats):
    for index in range(CELLS):
        heartbeats.cell(index).assign(f"role{index}", index)
        heartbeats.cell(index).beat("x" * 200, 1)
        heartbeats.cell(index).note_batch(index)
    assert [(beat.role, beat.slot, beat.messages) for beat in heartbeats.assigned()] == [(f"role{n}", n, n) for n in range(CELLS)]


def test_a_new_process_starts_with_no_beat_and_no_batches_but_the_slot_keeps_its_messages(heartbeats):
    cell = heartbeats.cell(0)
    cell.assign("delivery", 0)
    cell.beat("sending", 1)
    cell.note_batch(10)
    cell.expect(incarnation=2, restarts=1, crashes=0, start_limit_s=60)
    beat = cell.read()
    assert not cell.has_beaten
    assert (beat.batches, beat.messages, beat.stage) == (0, 10, "starting")


def test_a_process_is_overdue_only_after_the_deadline_that_it_gave_itself(heartbeats):
    cell = heartbeats.cell(0)
    cell.beat("sending", 20)
    now_ns = time.monotonic_ns()
    assert not cell.is_overdue(now_ns + 19 * 10**9)
    assert cell.is_overdue(now_ns + 20 * 10**9 + 1)


def test_a_long_stage_is_cut_and_a_cut_letter_does_no_harm(heartbeats):
    cell = heartbeats.cell(0)
    cell.beat("é" * 100, 1)
    assert cell.read().stage == "é" * 22


def test_a_mapping_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="bytes"):
        Heartbeats(mmap.mmap(-1, SIZE_BYTES // 2))


def test_a_reader_in_another_process_never_sees_a_torn_stage(heartbeats):
    cell = heartbeats.cell(0)
    cell.assign("delivery", 0)
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                cell.beat("a" * 44, 1)
                cell.beat("b" * 44, 1)
        finally:
            os._exit(1)
    try:
        seen = set()
        until_s = time.monotonic() + 10
        while not {"a" * 44, "b" * 44} <= seen and time.monotonic() < until_s:
            seen.update(cell.read().stage for _ in range(10_000))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert {"a" * 44, "b" * 44} <= seen
    assert seen <= {"a" * 44, "b" * 44, "starting", ""}


def test_a_half_written_bank_is_not_shown(heartbeats):
    memory = mmap.mmap(-1, SIZE_BYTES)
    cell = Heartbeats(memory).cell(0)
    cell.beat("whole", 1)
    at = memory.find(b"whole")
    memory[at : at + 2] = b"ho"
    assert cell.read().stage == ""


def test_a_writer_that_is_killed_in_the_middle_leaves_the_text_before_whole():
    memory = mmap.mmap(-1, SIZE_BYTES)
    cell = Heartbeats(memory).cell(0)
    cell.beat("before", 1)
    cell.beat("now", 1)
    at = memory.find(b"before")
    assert at > 0
    memory[at : at + 3] = b"xyz"
    assert cell.read().stage == "now"
