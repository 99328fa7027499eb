"""What may leave, and what is held back: the lease, and a breaker that opens while requests wait their turn."""

import json
from collections import Counter

import pytest

from mail.account import Account
from mail.outcome import NoReply, Reply, Request, Verdict
from tests.esp.messages import message
from tests.workers.ledger_world import BOOT
from tests.workers.loop_world import Esp
from workers.failpoints import Failpoints
from workers.flight.flight_log import FlightLog, Stage, read_evidence
from workers.steps.sending import Departure, Sender

HERE, THERE = Account("here", 0, "http://here", {}), Account("there", 0, "http://there", {})


class Wire:
    """One request after the other; those to `deaf` ESPs are never answered."""

    def __init__(self, deaf=()):
        self.deaf, self.left = deaf, []

    def send_all(self, requests, on_leaving, may_begin):
        for request in requests:
            if not may_begin(request) or not on_leaving(request):
                yield request, NoReply(False, "held back")
                continue
            self.left.append(request)
            if request.url.removeprefix("http://") in self.deaf:
                yield request, NoReply(True, "total deadline of 20 s passed")
            else:
                yield request, Reply(200, {}, json.dumps(["accepted"] * len(request.messages)).encode())


class Breakers:
    """Opens an account at its third failure; counts what it is told."""

    def __init__(self, *opened):
        self.told, self.failures, self.opened = 0, Counter(), {account.provider for account in opened}

    def is_open(self, account):
        return account.provider in self.opened

    def note(self, account, outcomes):
        self.told += 1
        self.failures[account.provider] += any(o.verdict is not Verdict.ACCEPTED for o in outcomes)
        if self.failures[account.provider] >= 3:
            self.opened.add(account.provider)


@pytest.fixture
def flight_log(tmp_path):
    log = FlightLog(tmp_path / "slot-0.flight", BOOT, 1)
    yield log
    log.close()


def sender(flight_log, wire, breakers, may_send=lambda: True, **options):
    points = Failpoints({}, None)
    return Sender(lambda a: Esp(a, group=1), wire, flight_log, may_send, points, breakers.note, is_failing=breakers.is_open, **options)


def verdicts(sending, *accounts, each=10):
    """By account: what became of its mails, in any order."""
    departures = [d for account in accounts for d in sending.prepare(account, [message() for _ in range(each)])]
    of = {m.attempt_id: d.account.provider for d in departures for m in d.request.messages}
    found = {account.provider: [] for account in accounts}
    for outcome in sending.send(departures):
        found[of[outcome.attempt_id]].append(outcome.verdict)
    return found


def test_a_breaker_that_opens_holds_back_what_waits_its_turn_at_that_account_only(flight_log, tmp_path):
    wire, breakers = Wire(deaf=["here"]), Breakers()
    found = verdicts(sender(flight_log, wire, breakers), HERE, THERE)
    assert found["here"] == [Verdict.UNKNOWN] * 3 + [Verdict.UNAVAILABLE] * 7
    assert found["there"] == [Verdict.ACCEPTED] * 10
    assert len(wire.left) == 13
    stages = [flight.stage for flight in read_evidence(tmp_path / "slot-0.flight").flights]
    assert stages == [Stage.ANSWERED] * 20


def test_what_is_held_back_is_not_held_against_the_esp(flight_log):
    breakers = Breakers()
    verdicts(sender(flight_log, Wire(deaf=["here"]), breakers), HERE)
    assert breakers.told == 3
    untold = Breakers()
    found = verdicts(sender(flight_log, Wire(), untold, may_send=lambda: False), HERE)
    assert (found["here"], untold.told) == ([Verdict.UNAVAILABLE] * 10, 0)


def test_a_batch_of_requests_that_all_end_at_their_deadline_comes_to_an_end(flight_log):
    wire, breakers = Wire(deaf=["here"]), Breakers()
    breakers.is_open = lambda account: False  # too few answers within its window
    sending = sender(flight_log, wire, breakers, clock=lambda: 20.0 * len(wire.left), begin_within_s=150.0)
    found = verdicts(sending, HERE, each=30)
    assert found["here"] == [Verdict.UNKNOWN] * 8 + [Verdict.UNAVAILABLE] * 22
    assert breakers.told == 8


def test_a_probe_may_leave_through_an_open_breaker(flight_log):
    wire = Wire()
    found = verdicts(sender(flight_log, wire, Breakers(HERE)), HERE, each=1)
    assert (found["here"], len(wire.left)) == ([Verdict.ACCEPTED], 1)


def test_a_connection_that_cannot_be_made_is_told(flight_log):
    breakers = Breakers()
    request = Request("POST", "http://here", {}, b"", (message(),))

    class Away:
        def send_all(self, requests, on_leaving, may_begin):
            yield requests[0], NoReply(False, "connection refused")

    sending = sender(flight_log, Away(), breakers)
    (outcome,) = sending.send([Departure(HERE, Esp(HERE), request, flight_log.prepare([request.messages[0].attempt_id]))])
    assert (outcome.verdict, breakers.told) == (Verdict.UNAVAILABLE, 1)
