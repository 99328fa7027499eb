"""Who holds a delivery slot. Holders are real processes: the lock has to go with their death."""

import os
from collections.abc import Callable

from tests.workers.flight.slot_holder import kill, start_holder
from workers.flight import slot_lock


def in_child(condition: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if condition() else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_a_slot_in_which_a_worker_lives_cannot_be_held_by_anybody_else(tmp_path):
    holder = start_holder(tmp_path, 4)
    try:
        with slot_lock.held(tmp_path, 4) as is_ours:
            assert not is_ours
        assert not slot_lock.take(tmp_path, 4, patience_s=0.0)
        with slot_lock.held(tmp_path, 5) as is_ours:
            assert is_ours, "another slot is not concerned"
    finally:
        kill(holder)


def test_a_slot_whose_worker_was_killed_is_free_at_once(tmp_path):
    kill(start_holder(tmp_path, 4))
    with slot_lock.held(tmp_path, 4) as is_ours:
        assert is_ours


def test_a_newcomer_waits_while_the_slot_is_being_settled(tmp_path):
    holder = start_holder(tmp_path, 4)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            kill(holder)

    assert in_child(lambda: not slot_lock.take(tmp_path, 4, patience_s=0.0))
    assert slot_lock.take(tmp_path, 4, patience_s=60.0, wait=wait)
    assert len(waits) == 3
