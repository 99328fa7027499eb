"""Circuit breakers, alone and shared by processes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mail.account import Account
from mail.outcome import Blame, Outcome, Verdict
from routing.breaker import CELL_BYTES, CELLS, SIZE_BYTES, Breaker, SharedBreakers, open_breakers

SES = Account("ses", 0, "http://127.0.0.1", {})
POSTMARK = Account("postmark", 0, "http://127.0.0.1", {})
FAILED = [Outcome("a", Verdict.UNKNOWN, Blame.NETWORK)]
ACCEPTED = [Outcome("a", Verdict.ACCEPTED)]


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(20):
        breaker.note(True, now_s)
    assert breaker.is_open
    return breaker


def test_nineteen_failures_are_not_enough_evidence() -> None:
    breaker = Breaker()
    for _ in range(19):
        breaker.note(True, 1.0)
    assert not breaker.is_open
    breaker.note(False, 1.0)
    assert breaker.is_open, "19 of 20 failed"


def test_less_than_half_keeps_it_closed_for_ever() -> None:
    breaker = Breaker()
    for number in range(2000):
        breaker.note(number % 5 < 2, number / 50)
        assert not breaker.is_open


def test_failures_older_than_ten_seconds_are_forgotten() -> None:
    breaker = Breaker()
    for second in range(100):
        breaker.note(True, float(second))
        assert len(breaker.seconds) <= 10
    assert not breaker.is_open, "ten failures in ten seconds are too few"


def test_one_probe_is_let_through_and_its_success_closes() -> None:
    breaker = opened(now_s=0.0)
    assert not breaker.take_probe(4.9)
    assert breaker.take_probe(5.0)
    assert not breaker.take_probe(5.1)
    breaker.note(False, 5.2)
    assert not breaker.is_open


def test_failing_probes_wait_longer_up_to_thirty_seconds() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(5):
        began_s = now_s
        while not breaker.take_probe(now_s):
            now_s += 1.0
        waits.append(now_s - began_s)
        breaker.note(True, now_s)
    assert waits == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_a_probe_that_is_never_answered_frees_the_next() -> None:
    breaker = opened()
    assert breaker.take_probe(5.0)
    assert not breaker.take_probe(9.0)
    assert breaker.take_probe(10.0)


def test_late_answers_of_requests_from_before_do_not_close_it() -> None:
    breaker = opened()
    breaker.note(False, 1.0)
    assert breaker.is_open


def test_times_from_before_a_reboot_do_not_keep_it_open() -> None:
    breaker = opened(now_s=1_000_000.0)
    assert breaker.take_probe(3.0)


@pytest.fixture
def breakers(tmp_path: Path) -> Iterator[Callable[[], SharedBreakers]]:
    yield lambda: open_breakers(tmp_path / "breakers")


def test_only_the_fault_of_esp_or_network_counts(breakers: Callable[[], SharedBreakers]) -> None:
    shared = breakers()
    for verdict, blame in (
        (Verdict.REJECTED, Blame.RECIPIENT),
        (Verdict.REJECTED, Blame.MESSAGE),
        (Verdict.SPLIT, Blame.NEIGHBOUR),
        (Verdict.THROTTLED, Blame.ESP),
        (Verdict.MISCONFIGURED, Blame.US),
    ):
        for _ in range(30):
            shared.note(SES, [Outcome("a", verdict, blame)])
        assert not shared.is_open(SES), verdict


def test_one_account_opens_alone_and_the_change_is_told_once(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    shared = open_breakers(tmp_path / "breakers", lambda account, is_open: told.append((account.provider, is_open)))
    for _ in range(30):
        shared.note(SES, FAILED)
        shared.note(POSTMARK, ACCEPTED)
    assert shared.is_open(SES)
    assert not shared.is_open(POSTMARK)
    assert told == [("ses", True)]


def test_a_torn_cell_reads_as_closed_and_is_mended(breakers: Callable[[], SharedBreakers]) -> None:
    shared = breakers()
    for _ in range(20):
        shared.note(SES, FAILED)
    shared._buffer[0:SIZE_BYTES] = bytes(byte ^ 0x10 for byte in shared._buffer[0:SIZE_BYTES])
    assert not shared.is_open(SES)
    for _ in range(20):
        shared.note(SES, FAILED)
    assert shared.is_open(SES)


def test_more_accounts_than_cells_push_out_the_unused_ones(tmp_path: Path) -> None:
    now_s = [0.0]
    with (tmp_path / "lock").open("w+b") as lock:
        shared = SharedBreakers(bytearray(SIZE_BYTES), lock.fileno(), clock=lambda: now_s[0])
        for tenant in range(CELLS * 3):
            now_s[0] += 0.001
            shared.note(Account("ses", tenant, "", {}), FAILED)
        for _ in range(20):
            shared.note(SES, FAILED)
        assert shared.is_open(SES)
        assert len(shared._buffer[0:SIZE_BYTES]) == CELLS * CELL_BYTES


def in_children(count: int, work: Callable[[int], None]) -> list[int]:
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return children


def exit_codes(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_what_four_processes_see_separately_opens_the_breaker_for_all(breakers: Callable[[], SharedBreakers]) -> None:
    def fail_five_times(number: int) -> None:
        shared = breakers()
        for _ in range(5):
            shared.note(SES, FAILED)

    assert exit_codes(in_children(4, fail_five_times)) == [0] * 4
    assert breakers().is_open(SES)


def test_no_count_is_lost_between_processes(breakers: Callable[[], SharedBreakers]) -> None:
    # 400 successes first: the breaker opens at exactly the 400th failure, so a single lost success or failure shows
    def note(outcomes: list[Outcome], times: int) -> Callable[[int], None]:
        def work(number: int) -> None:
            shared = breakers()
            for _ in range(times):
                shared.note(SES, outcomes)

        return work

    assert exit_codes(in_children(4, note(ACCEPTED, 100))) == [0] * 4
    assert exit_codes(in_children(3, note(FAILED, 133))) == [0] * 3
    shared = breakers()
    assert not shared.is_open(SES), "399 of 799"
    shared.note(SES, FAILED)
    assert shared.is_open(SES), "400 of 800"


def test_only_one_of_many_processes_gets_the_probe(breakers: Callable[[], SharedBreakers], tmp_path: Path) -> None:
    shared = breakers()
    for _ in range(20):
        shared.note(SES, FAILED)
    later = SharedBreakers(shared._buffer, shared._lock_fd, clock=lambda: time.monotonic() + 6.0)

    def try_probe(number: int) -> None:
        if later.take_probe(SES):
            (tmp_path / f"probe-{number}").touch()

    assert exit_codes(in_children(8, try_probe)) == [0] * 8
    assert len(list(tmp_path.glob("probe-*"))) == 1


def test_a_killed_holder_leaves_no_lock_behind(breakers: Callable[[], SharedBreakers]) -> None:
    def note_for_ever(number: int) -> None:
        shared = breakers()
        while True:
            shared.note(SES, ACCEPTED)

    for _ in range(20):
        children = in_children(1, note_for_ever)
        breakers().note(SES, ACCEPTED)
        os.kill(children[0], signal.SIGKILL)
        assert exit_codes(children) == [-signal.SIGKILL]
        breakers().note(SES, ACCEPTED)
    assert not breakers().is_open(SES)
