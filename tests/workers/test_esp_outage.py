"""Fifteen minutes without any ESP: nothing is given up, nothing counts against an email, and all of it goes out soon after.

Time is simulated: the breakers have a clock of the test's, and time passes in the database by moving its rows into the past.
"""

import os

import pytest

from mail.outcome import NoReply
from routing.breaker import SIZE_BYTES, SharedBreakers
from tests.workers.ledger_world import job_bytes
from tests.workers.loop_world import Loop

pytestmark = pytest.mark.thorough

STEP_S = 5
OUTAGE_S = 15 * 60
_PASS = """
    UPDATE email_jobs SET next_attempt_at = next_attempt_at - %(s)s * interval '1 second', created_at = created_at - %(s)s * interval '1 second'
    WHERE status NOT IN ('sent', 'dead', 'expired')
"""


class Clock:
    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


class Outage:
    """A loop whose ESPs answer or not, and minutes that pass."""

    def __init__(self, database, folder):
        self.clock = Clock()
        self.file = os.open(folder / "breakers", os.O_RDWR | os.O_CREAT)
        self.loop = Loop(database, folder, breakers=SharedBreakers(bytearray(SIZE_BYTES), self.file, self.clock))

    def pass_time(self, seconds, *values):
        """Let time pass in steps; new jobs come with the first of them."""
        for _ in range(0, seconds, STEP_S):
            self.clock.now_s += STEP_S
            self.loop.ledger.database.run(lambda c: c.execute(_PASS, {"s": STEP_S}))
            self.loop.deliver(*values)
            values = ()
            self.loop.take_due()

    def close(self):
        self.loop.flight_log.close()
        self.loop.ledger.database.close()
        os.close(self.file)

    def summary(self):
        rows = self.loop.ledger.database.read("SELECT status, retry_count, count(*) FROM email_jobs GROUP BY 1, 2")
        return {(status, count): n for status, count, n in rows}


@pytest.fixture
def outage(database, tmp_path):
    world = Outage(database, tmp_path)
    yield world
    world.close()


def jobs(prefix, count):
    return [job_bytes(f"{prefix}{n}", f"{prefix}{n}@example.com", maxRetries=0) for n in range(count)]


@pytest.mark.parametrize("count", [5, 60], ids=["too few for a breaker", "enough to open them"])
@pytest.mark.parametrize("answer", ["unavailable", "throttled", None], ids=["refused", "throttled", "no connection"])
def test_an_outage_of_every_esp_for_fifteen_minutes_gives_nothing_up(outage, count, answer):
    wire = outage.loop.wire
    wire.behave = lambda r: NoReply(False, "connection refused") if answer is None else [answer] * len(r.messages)
    outage.loop.esps["postmark"].group = outage.loop.esps["sendgrid"].group = 1
    for minute in range(OUTAGE_S // 60):
        outage.pass_time(60, *jobs(f"m{minute}-", count))
    total = count * (OUTAGE_S // 60)
    assert outage.summary() == {("retrying", 0): total}
    assert outage.loop.ledger.count("dead_letters") == 0
    attempts = outage.loop.ledger.count("email_attempts")
    wire.behave = lambda r: ["accepted"] * len(r.messages)
    outage.pass_time(17 * 60)
    assert outage.summary() == {("sent", 0): total}
    assert len(wire.accepted) == len(set(wire.accepted)) == total
    assert attempts / total < 12, "they were not hammered either"


def test_another_esp_is_tried_first_when_an_email_comes_again(outage):
    outage.loop.wire.behave = lambda r: ["unavailable"] * len(r.messages)
    outage.pass_time(STEP_S, job_bytes("j1", provider=""))
    outage.loop.wire.behave = lambda r: ["accepted"] * len(r.messages)
    outage.pass_time(65)
    asked = [request.url for request in outage.loop.wire.requests]
    assert asked[0] != asked[1] != asked[2], "by turns"
