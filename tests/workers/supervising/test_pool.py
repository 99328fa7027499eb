"""The pool without processes: fork, kill, waitpid, clock and chance are ours."""

import mmap
import signal
from signal import Signals

import pytest

from workers.roles import Role
from workers.supervising.heartbeat import SIZE_BYTES, Heartbeats
from workers.supervising.member import CRASH_LOOP_DEATHS, QUIT_GRACE_S, backoff_s
from workers.supervising.pool import START_LIMIT_S, Pool, System, describe_end
from workers.supervising.rollout import Rollout

DELIVERY = Role("delivery", "none", lambda settings: 2, is_scaled=True)
KEEPER = Role("keeper", "none", lambda settings: 1)
CRASH = 1 << 8
DRAIN_S = 30.0


class FakeSystem:
    """A machine in which nothing happens but what the test says."""

    def __init__(self):
        self.ns = 1_000_000_000_000
        self.pid = 100
        self.forked = []
        self.killed = []
        self.dead = []
        self.fork_error = None

    def calls(self) -> System:
        return System(self.fork, self.kill, self.waitpid, lambda: self.ns, lambda: self.ns // 1_000_000, lambda: 1.0)

    def fork(self, member):
        if self.fork_error:
            raise self.fork_error
        self.pid += 1
        self.forked.append(member.name)
        return self.pid

    def kill(self, pid, number):
        self.killed.append((pid, number))

    def waitpid(self):
        return self.dead.pop(0) if self.dead else (0, 0)


class Stage:
    """A pool on a fake machine, and what a test does with it."""

    def __init__(self):
        self.machine = FakeSystem()
        self.deaths = []
        self.heartbeats = Heartbeats(mmap.mmap(-1, SIZE_BYTES), lambda: self.machine.ns)
        self.pool = Pool(self.heartbeats, self.machine.calls(), self.deaths.append)

    def start(self, role=DELIVERY, count=1):
        self.pool.resize(role, count, DRAIN_S)
        self.pool.start_due()
        return self.pool.members

    def pass_time(self, seconds, step_s=1.0):
        while seconds > 0:
            self.machine.ns += int(min(step_s, seconds) * 1e9)
            seconds -= step_s
            self.turn()

    def turn(self):
        self.pool.reap()
        self.pool.abort_stuck()
        self.pool.send_due()
        self.pool.start_due()

    def die(self, member, status=CRASH):
        self.machine.dead.append((member.pid, status))
        self.pool.reap()


@pytest.fixture
def stage():
    return Stage()


def test_every_wanted_slot_gets_a_process(stage):
    stage.start(DELIVERY, 3)
    stage.start(KEEPER, 1)
    assert stage.machine.forked == ["delivery-0", "delivery-1", "delivery-2", "keeper-0"]
    assert len({member.cell.index for member in stage.pool.members}) == 4


def test_a_process_that_recorded_a_batch_is_replaced_at_once(stage):
    (member,) = stage.start()
    member.cell.note_batch(1)
    stage.die(member)
    stage.pool.start_due()
    assert stage.machine.forked == ["delivery-0", "delivery-0"]
    assert member.restarts == 1
    assert member.cell.read().restarts == 1


@pytest.mark.expect_errors
def test_a_process_that_died_before_its_first_batch_is_replaced_after_a_wait_that_doubles(stage):
    (member,) = stage.start()
    waits = []
    for _ in range(12):
        stage.die(member)
        waits.append(round(stage.pool.next_due_s(), 3))
        stage.machine.ns += int(waits[-1] * 1e9) + 1000
        stage.pool.start_due()
        assert member.pid
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 30.0


def test_it_is_not_started_before_the_wait_is_over(stage):
    (member,) = stage.start()
    stage.die(member)
    stage.machine.ns += 90_000_000
    stage.pool.start_due()
    assert not member.pid


@pytest.mark.expect_errors
def test_one_batch_ends_a_crash_loop(stage):
    (member,) = stage.start()
    for _ in range(CRASH_LOOP_DEATHS):
        stage.die(member)
        stage.pass_time(40)
    assert member.is_crash_looping
    assert member.cell.read().crashes == CRASH_LOOP_DEATHS
    member.cell.note_batch(1)
    stage.die(member)
    assert not member.is_crash_looping
    assert stage.pool.next_due_s() == 0


def test_a_death_after_a_long_life_is_only_the_first_of_a_row(stage):
    (member,) = stage.start()
    for _ in range(3):
        stage.die(member)
        stage.pass_time(2)
    for _ in range(70):
        member.cell.beat("waiting", 5)
        stage.pass_time(1)
    stage.die(member)
    assert member.early_deaths == 1


def test_jitter_keeps_at_least_half_of_the_wait():
    assert backoff_s(3, 0.0) == pytest.approx(0.2)
    assert backoff_s(3, 1.0) == pytest.approx(0.4)
    assert backoff_s(0, 1.0) == 0.0
    assert backoff_s(10_000, 1.0) == 30.0


@pytest.mark.expect_errors
def test_a_crash_loop_is_shouted_about(stage, caplog):
    (member,) = stage.start()
    for _ in range(CRASH_LOOP_DEATHS - 1):
        stage.die(member)
        stage.pass_time(40)
    assert "crash loop" not in caplog.text
    stage.die(member)
    assert "crash loop" in caplog.text


@pytest.mark.expect_errors
def test_a_stuck_process_is_aborted_and_then_killed(stage):
    (member,) = stage.start()
    pid = member.pid
    member.cell.beat("sending", 3)
    stage.pass_time(3)
    assert stage.machine.killed == []
    stage.pass_time(1)
    assert stage.machine.killed == [(pid, Signals.SIGABRT)]
    stage.pass_time(1)
    assert stage.machine.killed == [(pid, Signals.SIGABRT), (pid, Signals.SIGKILL)]
    stage.die(member, signal.SIGKILL)
    assert stage.deaths[0].cause == "SIGKILL"
    assert not stage.deaths[0].was_asked


@pytest.mark.expect_errors
def test_a_process_that_never_beats_is_stuck_too(stage):
    (member,) = stage.start()
    stage.pass_time(START_LIMIT_S)
    assert stage.machine.killed == []
    stage.pass_time(1)
    assert stage.machine.killed == [(member.pid, Signals.SIGABRT)]


def test_slow_is_not_stuck(stage):
    (member,) = stage.start()
    member.cell.beat("exchange", 300)
    stage.pass_time(299)
    assert stage.machine.killed == []


def test_a_machine_that_slept_aborts_nobody_who_beats_again(stage):
    (member,) = stage.start()
    member.cell.beat("sending", 3)
    stage.turn()
    stage.machine.ns += 600_000_000_000
    stage.turn()
    assert stage.machine.killed == []
    member.cell.beat("sending", 300)
    stage.pass_time(20)
    assert stage.machine.killed == []


@pytest.mark.expect_errors
def test_a_machine_that_slept_still_aborts_who_stays_stuck(stage):
    (member,) = stage.start()
    member.cell.beat("sending", 3)
    stage.turn()
    stage.machine.ns += 600_000_000_000
    stage.pass_time(8)
    assert (member.pid, Signals.SIGABRT) in stage.machine.killed


@pytest.mark.expect_errors
def test_draining_asks_then_insists_then_kills(stage):
    (member,) = stage.start()
    pid = member.pid
    member.cell.beat("sending", 1000)
    stage.pool.drain_all(DRAIN_S)
    stage.turn()
    assert stage.machine.killed == [(pid, Signals.SIGTERM)]
    stage.pass_time(DRAIN_S)
    assert stage.machine.killed[1:] == [(pid, Signals.SIGQUIT)]
    stage.pass_time(QUIT_GRACE_S)
    assert stage.machine.killed[2:] == [(pid, Signals.SIGKILL)]


def test_who_drained_is_gone_for_good(stage):
    (member,) = stage.start()
    stage.pool.drain_all(DRAIN_S)
    stage.turn()
    stage.die(member, 0)
    stage.pass_time(60)
    assert stage.pool.is_empty
    assert stage.machine.forked == ["delivery-0"]
    assert stage.heartbeats.assigned() == []


@pytest.mark.expect_errors
def test_draining_does_not_wait_for_a_process_that_is_stuck_already(stage):
    (member,) = stage.start()
    pid = member.pid
    member.cell.beat("sending", 1)
    stage.pass_time(2)
    stage.pool.drain_all(DRAIN_S)
    stage.pass_time(1)
    assert stage.machine.killed == [(pid, Signals.SIGABRT), (pid, Signals.SIGKILL)]


def test_a_member_in_its_back_off_does_not_hold_up_the_end(stage):
    (member,) = stage.start()
    stage.die(member)
    stage.pool.drain_all(DRAIN_S)
    assert stage.pool.is_empty


def test_one_less_drains_the_highest_slot_and_one_more_brings_it_back(stage):
    stage.start(DELIVERY, 2)
    last = stage.pool.members[1]
    stage.pool.resize(DELIVERY, 1, DRAIN_S)
    stage.turn()
    assert stage.machine.killed == [(last.pid, Signals.SIGTERM)]
    stage.pool.resize(DELIVERY, 2, DRAIN_S)
    stage.die(last, 0)
    stage.pool.start_due()
    assert stage.machine.forked == ["delivery-0", "delivery-1", "delivery-1"]
    assert stage.pool.wanted(DELIVERY) == 2


def test_a_freed_cell_is_used_again(stage):
    stage.start(DELIVERY, 2)
    stage.pool.resize(DELIVERY, 1, DRAIN_S)
    stage.turn()
    stage.die(stage.pool.members[1], 0)
    stage.start(KEEPER)
    assert [(beat.role, beat.slot) for beat in stage.heartbeats.assigned()] == [("delivery", 0), ("keeper", 0)]


@pytest.mark.expect_errors
def test_more_processes_than_cells_are_refused_and_said(stage, caplog):
    stage.start(DELIVERY, 200)
    assert len(stage.machine.forked) == 128
    assert caplog.text.count("no room") == 1


@pytest.mark.expect_errors
def test_a_fork_that_fails_is_tried_again_later(stage):
    stage.machine.fork_error = BlockingIOError(11, "no more processes")
    (member,) = stage.start()
    assert not member.pid
    assert stage.pool.next_due_s() == pytest.approx(0.1)
    stage.machine.fork_error = None
    stage.pass_time(1)
    assert member.pid


def test_an_asked_for_exit_starts_the_successor_at_once(stage):
    (member,) = stage.start()
    stage.pool.drain(member, DRAIN_S)
    stage.die(member, 0)
    stage.pool.start_due()
    assert stage.machine.forked == ["delivery-0", "delivery-0"]
    assert stage.deaths[0].was_asked
    assert member.early_deaths == 0


def test_a_child_that_is_not_ours_is_taken_in_quietly(stage):
    stage.start()
    stage.machine.dead.append((99999, 0))
    stage.pool.reap()
    assert stage.deaths == []


def test_several_deaths_are_taken_in_at_one_look(stage):
    members = stage.start(DELIVERY, 3)
    stage.machine.dead = [(member.pid, CRASH) for member in members]
    stage.pool.reap()
    assert len(stage.deaths) == 3


def test_every_incarnation_is_greater_than_the_one_before_even_when_the_clock_is_set_back(stage):
    (member,) = stage.start()
    first = member.incarnation
    member.cell.note_batch(1)
    stage.machine.ns -= 10**11
    stage.die(member)
    stage.pool.start_due()
    assert member.incarnation == first + 1


@pytest.mark.parametrize(
    ("status", "last_signal", "said"),
    [
        (0, None, "exit 0: done"),
        (1 << 8, None, "exit 1: crash"),
        (5 << 8, None, "exit 5: a newer process owns the slot"),
        (99 << 8, None, "exit 99: unknown"),
        (int(signal.SIGSEGV), None, "SIGSEGV"),
        (int(signal.SIGKILL), None, "SIGKILL: out of memory?"),
        (int(signal.SIGKILL), Signals.SIGKILL, "SIGKILL"),
        (int(signal.SIGKILL), Signals.SIGTERM, "SIGKILL: out of memory?"),
    ],
)
def test_a_death_is_told_in_words(status, last_signal, said):
    assert describe_end(status, last_signal) == said


def rollout_of(stage) -> Rollout:
    rollout = Rollout(stage.pool)
    rollout.add(stage.pool.members)
    return rollout


def test_a_rollout_replaces_one_at_a_time_and_waits_for_the_newcomer_to_beat(stage):
    first, second = stage.start(DELIVERY, 2)
    old = first.pid, second.pid
    rollout = rollout_of(stage)
    rollout.advance(DRAIN_S)
    stage.turn()
    assert stage.machine.killed == [(old[0], Signals.SIGTERM)]
    stage.die(first, 0)
    stage.turn()
    rollout.advance(DRAIN_S)
    stage.turn()
    assert len(stage.machine.killed) == 1
    first.cell.beat("ready", 60)
    rollout.advance(DRAIN_S)
    stage.turn()
    assert stage.machine.killed[1:] == [(old[1], Signals.SIGTERM)]
    stage.die(second, 0)
    stage.turn()
    assert not rollout.is_done
    second.cell.beat("ready", 60)
    rollout.advance(DRAIN_S)
    assert rollout.is_done


def test_a_rollout_goes_no_further_while_the_newcomer_crashes(stage):
    first, second = stage.start(DELIVERY, 2)
    rollout = rollout_of(stage)
    rollout.advance(DRAIN_S)
    stage.turn()
    stage.die(first, 0)
    for _ in range(4):
        stage.pass_time(5)
        stage.die(first)
        rollout.advance(DRAIN_S)
    stage.turn()
    assert (second.pid, Signals.SIGTERM) not in stage.machine.killed
    assert rollout.left == 2


def test_a_rollout_leaves_alone_who_was_replaced_in_the_meantime(stage):
    first, second = stage.start(DELIVERY, 2)
    rollout = rollout_of(stage)
    second.cell.note_batch(1)
    stage.die(second)
    stage.turn()
    first.cell.beat("ready", 60)
    rollout.advance(DRAIN_S)
    stage.turn()
    stage.die(first, 0)
    stage.turn()
    first.cell.beat("ready", 60)
    rollout.advance(DRAIN_S)
    stage.turn()
    assert rollout.is_done
    assert len(stage.machine.killed) == 1
