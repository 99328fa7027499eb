"""Whatever happens in whatever order, the ledger keeps its promises: a state machine of hypothesis over PostgreSQL.

LEDGER_EXAMPLES (and LEDGER_STEPS) make it search at random for as long; a failure prints the steps that lead to it.
"""

import json
import os
import uuid

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from config.settings import load_settings
from mail.outcome import Verdict
from tests.operations.console import Console
from tests.workers.machine_world import ANSWERS, POINTS, MachineWorld
from workers.flight.flight_log import Stage, read_evidence
from workers.flight.settlement import flight_path

pytestmark = pytest.mark.thorough

IS_LONG = "LEDGER_EXAMPLES" in os.environ  # at random, and what fails is made short; else always the same
EXAMPLES, STEPS = int(os.environ.get("LEDGER_EXAMPLES", "50")), int(os.environ.get("LEDGER_STEPS", "30"))
JOBS = st.sampled_from(["first", "first", "second", "second", "third", "fourth", "fifth", "later", "old", "other"])
SLOTS, WAYS = st.integers(0, 1), st.sampled_from(["Kafka", "Kafka", "Redis", "both"])
KINDS = st.sampled_from(["processed", "delivered", "deferred", "dropped", "bounced", "opened"])
MAYBE_POINT = st.sampled_from([None, None, None, *POINTS])
WORDS = st.lists(st.sampled_from(["accepted", "throttled", *ANSWERS]), min_size=1, max_size=3)
# What may happen while a worker is at a point of its loop. Nobody takes a host for lost while one of its requests can be on the wire:
# lease and time limit see to that.
MEANWHILE = {
    "after-prepare": ("cancel", "suppress", "other Kafka", "other due", "take in", "replay", "lose host"),
    "after-open": ("cancel", "other Kafka", "other due", "lose host", "give up", "give up", "give up"),
    "leaving": ("cancel", "report", "other Kafka", "other due"),
    "answered": ("cancel", "report", "other Kafka", "confirm"),
    "before-record": ("cancel", "report", "other Kafka", "lose host", "give up", "resend"),
    "after-record": ("cancel", "suppress", "report", "other Kafka", "other due", "take in", "replay", "give up", "succeed"),
}
HAPPENINGS = st.lists(st.sampled_from([(point, what) for point, these in MEANWHILE.items() for what in these]), max_size=2)
QUEUED = {"pending", "scheduled", "retrying"}
AFTER_SENDING = {"sent", "deferred", "delivered", "dropped", "bounced", "opened", "clicked", "unsubscribed", "complained"}
TOLD = {"sent", "dead", "suppressed", "expired", "cancelled"}
MAYBE_TAKEN = {"open", "accepted", "uncertain"}


class LedgerMachine(RuleBasedStateMachine):
    world: MachineWorld

    @initialize()
    def begin(self):
        self.world.clear()

    # Hypothesis leaves out some of the rules in each example, so each of them does something that is worth it alone.

    @rule(job=JOBS, way=WAYS)
    def arrive(self, job, way):
        self.world.produce(job, way)

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=3, unique=True), slot=SLOTS, words=WORDS, death=MAYBE_POINT, happenings=HAPPENINGS)
    def deliver_from_kafka(self, jobs, slot, words, death, happenings):
        """Jobs arrive; a worker opens, sends and records all that waits. It may die at any point, and things may happen in between."""
        for job in jobs:
            self.world.produce(job, "Kafka")
        self.work(slot, "Kafka", words, death, happenings)

    @rule(jobs=st.lists(JOBS, max_size=2), slot=SLOTS, is_lease_over=st.booleans(), words=WORDS, death=MAYBE_POINT, happenings=HAPPENINGS)
    def deliver_due_rows(self, jobs, slot, is_lease_over, words, death, happenings):
        """Time passes, and jobs come by Redis; a worker leases, opens, sends and records."""
        for job in jobs:
            self.world.produce(job, "Redis")
        self.world.take_in()
        self.world.pass_time(is_lease_over)
        self.work(slot, "due", words, death, happenings)

    @rule(death=st.sampled_from([None, None, "taken", "stored"]))
    def take_in(self, death):
        self.world.take_in(death)

    @rule(slot=SLOTS)
    def settle(self, slot):
        """A successor settles what a dead worker left, by its flight log; of a lost host a keeper does, without a log."""
        self.world.succeed(slot)

    @rule(slot=SLOTS)
    def lose_host(self, slot):
        self.world.lose_host(slot)

    @rule(job=JOBS, kind=KINDS)
    def report(self, job, kind):
        """A late event of an attempt that was taken."""
        self.world.report(job, kind)

    @rule(what=st.sampled_from(["cancel", "suppress", "replay", "replay", "drop", "confirm", "resend", "resend", "abandon"]), job=JOBS)
    def decide(self, what, job):
        """Producers and operators."""
        if what in ("cancel", "suppress"):
            getattr(self.world, what)(job)
        elif what in ("replay", "drop"):
            getattr(self.world, what)()
        else:
            self.world.decide(what)

    def work(self, slot, source, words, death, happenings):
        self.world.succeed(slot)  # the supervisor has forked another at once, if the last one died
        meanwhile = {point: self.happening(slot, what) for point, what in happenings}
        self.world.work(slot, source, words, death, meanwhile)

    def happening(self, slot, what):
        """Something about the first job that this worker has in hand, or what others do."""
        world, other = self.world, 1 - slot
        return {
            "cancel": lambda: world.cancel(world.hands[slot]),
            "suppress": lambda: world.suppress(world.hands[slot]),
            "report": lambda: world.report(world.hands[slot], "delivered"),
            "other Kafka": lambda: world.work(other, "Kafka", ["accepted", "throttled"]),
            "other due": lambda: world.overtake(other),
            "take in": world.take_in,
            "replay": world.replay,
            "confirm": lambda: world.decide("confirm"),
            "resend": lambda: world.decide("resend"),
            "lose host": lambda: world.lose_host(slot),
            "give up": lambda: world.give_up(slot, other),
            "succeed": lambda: world.succeed(other),
        }[what]

    @invariant()
    def promises_are_kept(self):
        if not hasattr(self.world, "kafka"):
            return
        jobs, attempts = self.jobs(), self.attempts()
        for job in jobs.values():
            of_job = [a for a in attempts.values() if a["job_id"] == job["id"]]
            self.check_attempts(job, of_job)
            self.check_status(job, of_job)
        self.check_open_attempts(attempts)
        self.check_sums(jobs, attempts)

    def check_attempts(self, job, attempts):
        taken = self.world.taken[job["job_id"]]
        maybe = [a["id"] for a in attempts if a["state"] in MAYBE_TAKEN]
        assert len(maybe) <= 1, f"two attempts may have been taken: {job} {attempts}"
        assert len(taken) <= 1, f"sent twice: {job} {attempts}"
        assert set(taken) <= set(maybe), f"taken, and not believed: {job} {attempts}"
        assert {a["id"] for a in attempts if a["state"] == "accepted"} <= set(taken), f"believed, and not taken: {job} {attempts}"
        assert job["attempts"] == len(attempts)
        assert not attempts or job["attempt_id"] == max(attempts, key=lambda a: a["number"])["id"]
        assert len(attempts) <= self.world.frozen.get(job["job_id"], len(attempts)), f"opened though it must not be sent: {job}"

    def check_status(self, job, attempts):
        """It ended, or waits where everybody can see it."""
        status, newest = job["status"], next((a for a in attempts if a["id"] == job["attempt_id"]), None)
        if status in ("scheduled", "retrying"):
            assert job["is_queued"] and job["has_bytes"], job
        elif status == "pending":
            is_coming = any(json.loads(record.value)["id"] == job["job_id"] for record in self.world.kafka)
            assert (job["is_queued"] and job["has_bytes"]) or (is_coming and not job["is_queued"] and not job["has_bytes"]), job
        elif status == "sending":
            assert newest and newest["state"] == "open", job
        elif status == "uncertain":
            assert newest and newest["state"] == "uncertain" and job["doubts"] == [newest["id"]], job
        elif status in AFTER_SENDING:
            assert any(a["state"] == "accepted" for a in attempts), job
        if status not in QUEUED:
            assert not job["is_queued"] and job["leased_by"] is None, job
        if status != "uncertain":
            assert job["doubts"] == [], job

    def check_open_attempts(self, attempts):
        """The flight logs of the dead speak of every attempt that nobody has settled, and say nothing that is not true."""
        flights = {}
        for slot, is_dead in enumerate(self.world.is_dead):
            if is_dead:
                flights |= read_evidence(flight_path(self.world.folder, slot)).last_flights()
        taken = {id_ for ids in self.world.taken.values() for id_ in ids}
        for id_ in (a["id"] for a in attempts.values() if a["state"] == "open"):
            assert id_ in flights, "an attempt is open, and no flight log speaks of it"
            verdict = next((o.verdict for o in flights[id_].outcomes if o.attempt_id == id_), None)
            assert not (flights[id_].stage is Stage.PREPARED and id_ in taken)
            assert verdict is not Verdict.ACCEPTED or id_ in taken

    def check_sums(self, jobs, attempts):
        world = self.world
        counted = world.rows("SELECT coalesce(sum(sent), 0)::int FROM esp_cohort_stats")[0][0]
        assert counted == sum(a["state"] == "accepted" for a in attempts.values()), "the counters are not the rows"
        assert world.acknowledged <= {job["job_id"] for job in jobs.values()}, "acknowledged, and no row knows it"
        told = {
            (e["jobId"], e["event"])
            for (values,) in world.rows("SELECT values FROM outbox WHERE topic = 'email-events'")
            for e in map(json.loads, values)
        }
        ended = {(job["job_id"], job["status"]) for job in jobs.values() if job["status"] in TOLD}
        assert ended <= told | {(job_id, "sent") for job_id, event in told if event in AFTER_SENDING}, f"not told: {ended - told}"
        dead = {job["id"] for job in jobs.values() if job["status"] == "dead"}
        rows = world.rows("SELECT row_id FROM dead_letters WHERE row_id IS NOT NULL AND replayed_at IS NULL")
        assert world.dropped or dead <= {row[0] for row in rows}, "dead, and no dead letter can bring it back"

    def teardown(self):
        """Everybody finishes: then everything that was asked for has ended, and was sent at most once."""
        world = self.world
        if not hasattr(world, "kafka") or self.name_of_failure():
            return
        for _ in range(3):
            for slot in (0, 1):
                if not world.loops[slot].has_lease:
                    world.is_dead[slot] = True
                world.succeed(slot)
            world.take_in()
            for word in ("confirm", "resend"):
                world.decide(word)
            world.work(0, "Kafka", ["accepted"])
            world.pass_time(is_lease_over=True)
            world.work(1, "due", ["accepted"])
        self.promises_are_kept()
        assert world.kafka == [] and world.office.queue.items == []
        for job in self.jobs().values():
            assert job["status"] in AFTER_SENDING | TOLD, job
            assert (job["status"] in AFTER_SENDING) == bool(world.taken[job["job_id"]]), job

    def name_of_failure(self):
        """A failure is being reported already: do not hide it behind another one."""
        import sys

        return sys.exc_info()[0] is not None

    def jobs(self):
        names = ("id", "job_id", "status", "attempt_id", "attempts", "is_queued", "leased_by", "has_bytes", "doubts")
        rows = self.world.rows(
            "SELECT j.id, j.job_id, j.status, j.attempt_id, j.attempts, j.next_attempt_at IS NOT NULL, j.leased_by,"
            " EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id),"
            " ARRAY(SELECT u.attempt_id::text FROM uncertain_attempts u WHERE u.job_id = j.id) FROM email_jobs j"
        )
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}

    def attempts(self):
        names = ("id", "job_id", "state", "number", "owner")
        rows = self.world.rows("SELECT id, job_id, state, number, owner FROM email_attempts")
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


@pytest.mark.timeout(0 if IS_LONG else 300)
@pytest.mark.usefixtures("expect_errors")
def test_no_order_of_events_breaks_a_promise(postgres, tmp_path):
    name = f"machine_{uuid.uuid4().hex}"
    postgres.create_database(name)
    parameters = postgres.parameters(name)
    world = MachineWorld(parameters, tmp_path, load_settings(Console(parameters, tmp_path).environment, None))

    class Machine(LedgerMachine):
        pass

    Machine.world = world
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if IS_LONG else (Phase.generate,),
        derandomize=not IS_LONG,
        print_blob=True,
        database=None,
    )
    run_state_machine_as_test(Machine, settings=profile)
    world.close()
    postgres.drop_database(name)
