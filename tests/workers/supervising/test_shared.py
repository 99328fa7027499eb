"""The shared mappings: children see what others write, also children that are forked later."""

import os

from workers.supervising.shared import HostLease, Permit, Shared


def in_child(work) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_nobody_may_send_before_the_keeper_has_got_the_lease():
    assert not Shared(4096).lease.is_held()


def test_the_lease_ends_at_its_deadline_and_can_be_asked_for_a_time_ahead():
    lease = Shared(4096).lease
    lease.hold_until(HostLease.now_ns() + 30 * 10**9)
    assert lease.is_held()
    assert lease.is_held(for_s=20)
    assert not lease.is_held(for_s=40)
    lease.hold_until(HostLease.now_ns() - 1)
    assert not lease.is_held()


def test_a_lease_that_one_process_holds_is_seen_and_given_up_by_another():
    shared = Shared(4096)
    deadline_ns = HostLease.now_ns() + 60 * 10**9
    in_child(lambda: shared.lease.hold_until(deadline_ns))
    assert shared.lease.deadline_ns == deadline_ns
    in_child(shared.lease.give_up)
    assert not shared.lease.is_held()


def test_a_permit_outlives_renewals_of_the_lease_and_no_gap_between_two():
    lease = Shared(4096).lease
    lease.hold_until(HostLease.now_ns() + 30 * 10**9)
    permit = Permit(lease)
    assert not permit.is_good()
    permit.take()
    lease.hold_until(HostLease.now_ns() + 60 * 10**9)
    assert permit.is_good()
    lease.hold_until(HostLease.now_ns() - 1)
    assert not permit.is_good()
    lease.hold_until(HostLease.now_ns() + 60 * 10**9)
    assert (lease.is_held(), permit.is_good()) == (True, False)
    permit.take()
    assert permit.is_good()


def test_a_permit_taken_while_there_is_no_lease_is_never_good():
    lease = Shared(4096).lease
    permit = Permit(lease)
    permit.take()
    lease.hold_until(HostLease.now_ns() + 60 * 10**9)
    assert not permit.is_good()


def test_heartbeats_and_snapshot_of_a_child_are_seen_by_the_parent():
    shared = Shared(8192)
    assert len(shared.snapshot) == 8192

    def write() -> None:
        shared.heartbeats.cell(1).assign("keeper", 0)
        shared.heartbeats.cell(1).beat("settling", 5)
        shared.snapshot[0:3] = b"abc"

    in_child(write)
    assert shared.heartbeats.cell(1).read().stage == "settling"
    assert shared.snapshot[0:3] == b"abc"
