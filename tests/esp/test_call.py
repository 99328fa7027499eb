"""A call's one decision: has a byte left, or never will."""

import gc
import socket
import threading
import time
import weakref
from queue import SimpleQueue

import pytest

from esp.call import Answer, Call, Watchdog
from mail.outcome import NoReply, Reply, Request

REQUEST = Request("POST", "http://127.0.0.1/", {}, b"{}")


class Desk:
    """Counts how often a call asked whether it may leave."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answers: SimpleQueue[Answer] = SimpleQueue()
        self.call = Call(REQUEST, self.may_leave, self.answers, limit_s=1.0, idle_s=1.0)

    def may_leave(self, request: Request) -> bool:
        self.asked.append(request)
        return True

    def settled(self) -> list[Reply | NoReply]:
        return [self.answers.get_nowait()[1] for _ in range(self.answers.qsize())]


def test_a_call_that_was_cut_off_never_leaves_and_nobody_is_asked() -> None:
    desk = Desk()
    desk.call.cut_off("too late")
    with pytest.raises(ConnectionAbortedError, match="too late"):
        desk.call.leave()
    assert desk.asked == []
    assert desk.settled() == [NoReply(False, "too late")]


def test_a_call_leaves_once() -> None:
    desk = Desk()
    desk.call.leave()
    with pytest.raises(ConnectionAbortedError):
        desk.call.leave()
    assert len(desk.asked) == 1


def test_cutting_off_what_has_left_leaves_its_answer_to_the_sending_thread() -> None:
    desk = Desk()
    desk.call.leave()
    desk.call.cut_off("too late")
    assert desk.settled() == []
    desk.call.settle(NoReply(True, "reset"))
    desk.call.settle(Reply(202, {}, b""))
    assert desk.settled() == [NoReply(True, "reset")]


def test_holding_back_does_not_touch_what_has_left() -> None:
    desk = Desk()
    desk.call.leave()
    desk.call.hold_back("nobody listens")
    assert desk.call.end == ""
    assert desk.settled() == []


def test_a_watched_connection_is_shut_by_the_cut_and_one_that_comes_later_is_refused() -> None:
    desk = Desk()
    near, far = socket.socketpair()
    with near, far:
        desk.call.watch(near)
        desk.call.cut_off("too late")
        assert far.recv(1) == b""
        with pytest.raises(ConnectionAbortedError, match="too late"):
            desk.call.watch(far)
    desk.call.land()


def test_the_watchdog_keeps_no_call_that_was_released() -> None:
    desk, watchdog = Desk(), Watchdog(limit_s=60.0)
    watchdog.start()
    watchdog.guard(desk.call)
    wait_until_it_waits(watchdog)
    watchdog.release(desk.call)
    call = weakref.ref(desk.call)
    del desk
    gc.collect()  # a desk and its call know each other
    assert call() is None
    watchdog.close()
    watchdog.join()


def wait_until_it_waits(watchdog: Watchdog) -> None:
    """Until the thread sleeps towards a deadline."""
    limit_s = time.monotonic() + 30.0
    while not watchdog._changed._waiters or watchdog._left_s() is None:  # type: ignore[attr-defined]
        assert time.monotonic() < limit_s, "it never waited"
        threading.Event().wait(0.001)
