"""Postgres goes in every stage of the loop, without a word: nothing in hand is lost, doubled or forgotten, and the heartbeat says why.

The server is really stopped, in mode immediate, and started again while the loop waits.
"""

from collections import Counter

import pytest

from db import due
from db.payloads import Vault
from mail.errors import StoreUnavailable
from sandbox.postgres import Postgres
from tests.workers.ledger_world import BOOT, TOPICS, job_bytes
from tests.workers.loop_world import Loop
from workers.flight import settlement

pytestmark = pytest.mark.thorough

STAGES = ("suspects", "admit", "open", "record")


@pytest.fixture(scope="module")
def server(server_folder):
    with Postgres(server_folder / "postgres-that-goes") as postgres:
        yield postgres


class Killed(BaseException):
    """The worker is killed with -9 here."""


class Away:
    """A loop whose server stops once, before a stage's transaction or right after its commit, and is started at the second look."""

    def __init__(self, server, parameters, folder):
        self.server, self.loop, self.stage, self.when, self.looks = server, Loop(parameters, folder), "", "", 0
        patience, database = self.loop.delivery._tools.patience, self.loop.ledger.database
        self._insist, self._run, self._current = patience.insist, database.run, ""
        patience.insist, database.run = self.insist, self.run
        self.loop.on_wait = self.look

    def insist(self, stage, work):
        self._current = stage
        return self._insist(stage, work)

    def run(self, work):
        is_here = self._current == self.stage and not self.looks
        if is_here and self.when == "before":
            self.server.stop("immediate")
        result = self._run(work)
        if is_here and self.when == "after":  # the commit has happened, and its answer is lost
            self.server.stop("immediate")
            raise StoreUnavailable("lost")
        return result

    def look(self):
        self.looks += 1
        if self.looks == 2:
            self.server.start()

    def lease_rows(self):
        self.loop.ledger.database.run(
            lambda c: c.execute("UPDATE email_jobs SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")
        )
        return self.loop.ledger.database.run(lambda c: due.lease(c, self.loop.slot.place, ["normal"], 100, 300, Vault()))


@pytest.fixture
def away(server, tmp_path):
    name = f"away_{abs(hash(tmp_path))}"
    server.create_database(name)
    made = Away(server, server.parameters(name), tmp_path)
    yield made
    made.loop.flight_log.close()
    made.loop.ledger.database.close()


def put_five_rows(away):
    """Emails that wait since no ESP would have them, due now."""
    away.loop.wire.behave = lambda r: ["unavailable"] * len(r.messages)
    away.loop.deliver(*(job_bytes(f"row{n}", f"row{n}@example.com") for n in range(5)))
    away.loop.wire.behave = lambda r: ["accepted"] * len(r.messages)
    away.loop.source.waiting += away.lease_rows()


def assert_all_is_sent_once(away, count):
    ledger = away.loop.ledger
    assert Counter(email for _, email in away.loop.wire.accepted).most_common(1)[0][1] == 1
    assert len(away.loop.wire.accepted) == count
    assert ledger.database.read("SELECT status, count(*) FROM email_jobs GROUP BY 1") == [("sent", count)]
    assert ledger.count("uncertain_attempts") == ledger.count("email_attempts", "state = 'open'") == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_postgres_goes_in_a_stage_and_the_batch_is_finished_when_it_is_back(away, stage, when):
    put_five_rows(away)
    away.loop.beats.clear()
    away.stage, away.when = stage, when
    away.loop.delivery._tools.quarantine._read_at_s = float("-inf")
    records = away.loop.deliver(*(job_bytes(f"j{n}", f"j{n}@example.com") for n in range(20)))
    assert away.looks >= 2, "it was really away"
    assert "waiting for the store" in away.loop.beats
    assert away.loop.source.kept_alive >= 2
    assert_all_is_sent_once(away, 25)
    assert {record.name for record in records} <= {record.name for record in away.loop.source.committed}
    sent = Counter(event["jobId"] for event in away.loop.desk.events() if event["event"] == "sent")
    assert sent == Counter({**{f"j{n}": 1 for n in range(20)}, **{f"row{n}": 1 for n in range(5)}})


def test_postgres_goes_while_requests_are_on_their_way(away):
    def behave(request):
        if not away.looks:
            away.looks = 1
            away.server.stop("immediate")
        return ["accepted"] * len(request.messages)

    away.loop.wire.behave = behave
    away.loop.deliver(*(job_bytes(f"j{n}", f"j{n}@example.com") for n in range(20)))
    assert away.looks >= 2
    assert_all_is_sent_once(away, 20)


def test_with_nothing_in_hand_the_loop_waits_and_says_so(away):
    away.server.stop("immediate")
    away.loop.clock_s += 2
    assert away.loop.delivery.turn() == 0
    assert away.loop.beats[-1] == "waiting for the store"
    away.server.start()
    away.loop.deliver(job_bytes("j1"))
    assert away.loop.status("j1") == "sent"


@pytest.mark.parametrize("answers", ["accepted", "rejected"])
def test_a_worker_that_is_killed_while_it_waits_leaves_its_answers_in_the_flight_log(away, answers):
    away.stage, away.when = "record", "before"
    away.loop.wire.behave = lambda r: [answers] * len(r.messages)

    def killed():
        raise Killed

    away.loop.on_wait = killed
    with pytest.raises(Killed):
        away.loop.deliver(*(job_bytes(f"j{n}", f"j{n}@example.com") for n in range(20)))
    asked = len(away.loop.wire.requests)
    away.server.start()
    ledger = away.loop.ledger
    ledger.database.run = away._run
    settlement.take_over(ledger.database, away.loop.folder, "host", away.loop.slot.number, BOOT, 1, TOPICS.events)
    status = {"accepted": "sent", "rejected": "pending"}[answers]
    assert ledger.database.read("SELECT status, count(*) FROM email_jobs GROUP BY 1") == [(status, 20)]
    assert ledger.count("uncertain_attempts") == 0
    assert len(away.loop.wire.requests) == asked


def test_a_server_that_only_reads_is_waited_for_like_one_that_is_away(away):
    """A replica answers in place of the primary during a failover."""
    away.loop.ledger.database.run(
        lambda c: c.execute(f"ALTER DATABASE {away.loop.ledger.parameters['dbname']} SET default_transaction_read_only = on")
    )
    away.loop.ledger.database.close()

    def look():
        away.looks += 1
        if away.looks == 2:
            away.server.execute(f"ALTER DATABASE {away.loop.ledger.parameters['dbname']} SET default_transaction_read_only = off")

    away.loop.on_wait = look
    away.loop.deliver(job_bytes("j1"))
    assert away.looks >= 2
    assert away.loop.status("j1") == "sent"
