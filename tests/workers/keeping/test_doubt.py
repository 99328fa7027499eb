"""Doubt: settled by evidence, else by policy, and never too early."""

import os
import signal
import socket
import threading

import pytest

from db import ledger as ledger_rows
from esp.exchange import Exchange
from mail.outcome import NoReply, Reply, Request
from tests.workers.doubt_world import MINUTE, SECOND, DoubtWorld, Reporting, Searchable, Silent
from tests.workers.ledger_world import job_bytes
from workers.failpoints import Failpoints
from workers.keeping import doubt_keeper
from workers.keeping.doubt_rules import Policies
from workers.pages import ledger_gauges

pytestmark = pytest.mark.thorough

HOUR = 60


@pytest.fixture
def open_world(database, tmp_path):
    made = []

    def make(esp=Reporting):
        made.append(DoubtWorld(database, tmp_path, esp))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(open_world):
    return open_world()


# -- never too early ---------------------------------------------------------------------------------------------------


def test_a_webhook_stream_that_is_half_an_hour_late_leads_to_no_resend(world):
    jobs = [f"j{n}" for n in range(5)]
    world.doubt(*jobs)
    keeper, told = world.keeper(), False
    for _ in range(2 * HOUR):
        reported = world.now - 30 * MINUTE
        if not told and reported > world.began + 10 * SECOND:
            told = True
            world.report(reported, *(world.event("delivered", job) for job in jobs))
        world.report(reported)
        world.keep(1, keeper)
    assert told and world.resends() == []
    assert {world.status(job) for job in jobs} == {"delivered"}
    assert world.lease_due() == [] and world.wire.accepted == [] and world.duplicates() == {}


def test_nothing_is_decided_before_the_grace_is_over_however_far_the_webhooks_have_reported(world):
    world.doubt("j")
    for _ in range(14):
        world.pass_watermark()
        world.keep(1)
    assert (world.resends(), world.waits()) == ([], {"j": "grace"})
    world.keep(5)
    assert world.resends() == ["j"]


def test_a_watermark_short_of_the_margin_is_not_past(world):
    world.doubt("j")
    world.report(world.began + 5 * MINUTE - SECOND)
    world.keep(2 * HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "watermark"})
    world.report(world.began + 5 * MINUTE)
    world.keep(30)
    assert world.resends() == ["j"]


def test_while_callbacks_wait_in_kafka_no_watermark_is_believed(world):
    world.doubt("j")
    world.report(world.now + 60 * MINUTE, is_behind=True)
    world.keep(2 * HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "watermark"})


def test_a_watermark_counts_once_all_that_was_in_every_partition_after_it_is_applied(world):
    """A backlog that comes at once, through several partitions: the newest event may be applied before the older ones."""
    world.doubt("j")
    keeper = world.keeper(clock=lambda cursor: doubt_keeper.doubt.clock(cursor))
    world.report(world.began + HOUR * MINUTE)

    def look(partition, passed_s, applied_s):
        """The keeper looks so long after the watermark has passed; of what was in the partition, so much less is applied."""
        world.run(
            "INSERT INTO webhook_progress (topic, partition, applied_until)"
            f" SELECT topic, {partition}, now() - interval '{applied_s} seconds' FROM webhook_progress WHERE partition = 0"
            " ON CONFLICT (topic, partition) DO UPDATE SET applied_until = excluded.applied_until"
        )
        world.run(f"UPDATE uncertain_attempts SET check_at = now(), passed_at = now() - interval '{passed_s} seconds'")
        keeper.round()
        return world.resends()

    assert look(0, passed_s=0, applied_s=0) == [], "it has passed this moment"
    assert look(0, passed_s=3_600, applied_s=3_605) == [], "of when it passed, nobody has said anything"
    assert look(0, passed_s=3_600, applied_s=3_580) == [], "what was on its way to Kafka then may not have been read yet"
    assert look(1, passed_s=3_600, applied_s=3_580) == []
    assert look(0, passed_s=3_600, applied_s=0) == [], "the other partition is behind"
    world.run("UPDATE webhook_progress SET applied_until = NULL WHERE partition = 1")
    assert look(0, passed_s=3_600, applied_s=0) == [], "the other partition was found, and nothing is known of it"
    assert look(1, passed_s=3_600, applied_s=3_560) == ["j"], "however far both are behind now"


def test_an_account_of_which_no_event_ever_came_is_held_and_reported(world):
    world.doubt("j")
    world.report(world.now)
    world.run("DELETE FROM webhook_watermarks")
    world.keep(2 * HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "no-watermark"})
    held = [s for s in ledger_gauges.read(world.ledger.database, world.topics) if s.name == "email_uncertain_held"]
    assert [(s.labels["reason"], s.value) for s in held] == [("no-watermark", 1.0)]


# -- by policy ---------------------------------------------------------------------------------------------------------


def test_where_no_evidence_comes_a_transactional_email_is_resent_exactly_once_through_the_same_esp(world):
    world.doubt("a", "b", "c", "d")
    world.keep(10)
    world.pass_watermark()
    world.keep(HOUR)
    assert sorted(world.resends()) == ["a", "b", "c", "d"]
    world.deliver(job_bytes("a", "a@example.com"))  # Kafka brings it once more, before the row is leased
    world.lease_due()
    world.keep(HOUR)
    assert world.lease_due() == []
    assert sorted(email for _, email in world.wire.accepted) == [f"{job}@example.com" for job in "abcd"]
    for job in "abcd":
        assert (world.status(job), world.ledger.states(job)) == ("sent", ["uncertain", "accepted"])
        assert len(set(world.providers(job))) == 1 and len(world.providers(job)) == 2
    assert sorted(world.resends()) == ["a", "b", "c", "d"] and world.waits() == {}


def test_a_resend_that_is_refused_for_now_never_goes_to_another_esp(world):
    world.doubt("j")
    world.pass_watermark()
    world.report(world.began + 6 * MINUTE)
    world.keep(20)
    world.wire.behave = lambda request: ["throttled"] * len(request.messages)
    world.lease_due()
    assert world.status("j") == "retrying"
    world.wire.behave = lambda request: ["accepted"] * len(request.messages)
    world.lease_due()
    assert world.status("j") == "sent" and len(world.providers("j")) == 3
    assert len(set(world.providers("j"))) == 1


def test_a_resend_that_is_in_doubt_again_is_held(world):
    world.doubt("j")
    world.report(world.began + 6 * MINUTE)
    world.keep(20)
    world.wire.behave = lambda request: NoReply(True, "read timed out")
    world.lease_due()
    world.date_doubts()
    world.pass_watermark()
    world.report(world.now + HOUR * MINUTE)
    world.keep(2 * HOUR)
    assert (world.resends(), world.waits()) == (["j"], {"j": "resent-once"})
    assert world.ledger.states("j") == ["uncertain", "uncertain"]


def test_marketing_mail_is_held_unless_the_policy_says_otherwise(world):
    world.doubt("m", type="newsletter", template="special-offer", data={"offerTitle": "t", "offerUrl": "https://x.test/"})
    assert world.status("m") == "uncertain"
    world.report(world.began + 6 * MINUTE)
    world.keep(HOUR)
    assert (world.resends(), world.waits()) == ([], {"m": "policy"})
    world.keep(30, world.keeper(Policies("hold", "resend", "hold")))
    assert world.resends() == ["m"]


@pytest.mark.parametrize(("policies", "resends"), [(("resend", "hold", "hold"), []), (("resend", "hold", "resend"), ["j"])])
def test_an_esp_that_gives_no_evidence_is_dealt_with_exactly_as_its_policy_says(open_world, policies, resends):
    world = open_world(Silent)
    world.doubt("j")
    keeper = world.keeper(Policies(*policies))
    world.keep(14, keeper)
    assert world.resends() == []
    world.keep(HOUR, keeper)
    assert (world.resends(), world.waits()) == (resends, {} if resends else {"j": "no-evidence"})


def test_an_email_that_was_cancelled_meanwhile_is_not_sent_again(world):
    world.doubt("j")
    world.deliver(b'{"id": "j", "type": "cancel"}')
    world.report(world.began + 6 * MINUTE)
    world.keep(HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "unwanted"})
    world.report(world.now, world.event("delivered", "j"))
    assert world.status("j") == "delivered", "evidence counts all the same"


def test_a_cancel_that_finds_the_resend_unsent_still_stops_it(world):
    resent(world)
    world.deliver(b'{"id": "j", "type": "cancel"}')
    assert world.lease_due() == [] and world.status("j") == "cancelled" and world.wire.accepted == []


def test_what_nobody_has_the_bytes_of_stays_in_doubt(world):
    world.doubt("j")
    world.run("DELETE FROM email_payloads")
    world.report(world.began + 6 * MINUTE)
    world.keep(HOUR)
    assert (world.resends(), world.waits(), world.status("j")) == ([], {"j": "no-bytes"}, "uncertain")


# -- by the ESP's search -----------------------------------------------------------------------------------------------


def test_what_the_search_finds_was_taken_and_is_told_without_a_resend(open_world):
    world = open_world(Searchable)
    world.doubt("j")
    world.records.knows(world.sent("j").attempt_id)
    world.keep(HOUR)
    assert (world.status("j"), world.ledger.states("j"), world.waits()) == ("sent", ["accepted"], {})
    assert world.resends() == [] and world.ledger.count("email_payloads") == 0
    told = world.ledger.database.read("SELECT unnest(values)::jsonb->>'event' FROM outbox")
    assert [row[0] for row in told] == ["sent"]
    assert world.ledger.database.read("SELECT sum(sent)::int FROM esp_cohort_stats") == [(1,)]
    assert world.records.asked == 1 and world.board.shown == [("j", "sent")]


@pytest.mark.parametrize("answer", [NoReply(True, "read timed out"), NoReply(False, "refused"), Reply(500, {}, b""), Reply(429, {}, b"")])
def test_a_search_that_fails_decides_nothing(open_world, answer):
    world = open_world(Searchable)
    world.doubt("j")
    world.records.answer = lambda: answer
    world.report(world.began + 6 * MINUTE)
    world.keep(HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "search"})
    assert world.records.asked < 20, "an ESP is not asked all the time"


def test_not_found_is_no_evidence_without_a_watermark_and_lets_the_policy_decide_with_one(open_world):
    world = open_world(Searchable)
    world.doubt("j")
    world.records.knows()
    world.keep(HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "no-watermark"})
    world.report(world.began + 6 * MINUTE)
    world.keep(30)
    assert world.resends() == ["j"]


def test_a_search_that_hangs_ends_at_its_time_out_and_holds_no_lock_meanwhile(open_world):
    world = open_world(Searchable)
    world.doubt("j")
    other = world.another_connection()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        world.esp = type("Hanging", (Searchable,), {"find": lambda self, attempts: list(hung(self, attempts, port))})
        exchange = Exchange(2, 1.0, 1.0)
        rounds = threading.Thread(target=world.keeper(exchange=exchange, clock=lambda cursor: world.now + HOUR * MINUTE).round)
        rounds.start()
        asked, _ = listener.accept()
        other.run(
            lambda cursor: cursor.execute("SET LOCAL lock_timeout = '500ms'; SELECT * FROM uncertain_attempts, email_jobs FOR UPDATE")
        )
        rounds.join(30)
        asked.close()
        exchange.close()
    other.close()
    assert not rounds.is_alive() and world.waits() == {"j": "no-watermark"}


def test_a_hanging_search_keeps_a_round_no_longer_than_one_time_out_however_many_wait_behind_it(open_world):
    """The keeper renews the host's lease between its rounds."""
    world = open_world(Searchable)
    world.doubt(*(f"j{n}" for n in range(12)))
    seconds = [0.0]

    def hang():
        seconds[0] += doubt_keeper.SEARCH_TIMEOUT_S / doubt_keeper.ASKED_AT_ONCE
        return NoReply(False, "the name was never found")

    world.records.answer = hang
    world.now += 16 * MINUTE
    world.keeper(monotonic=lambda: seconds[0]).round()
    assert seconds[0] == doubt_keeper.SEARCH_TIMEOUT_S
    assert set(world.waits().values()) == {"no-watermark"}


def hung(esp, attempts, port):
    for search in Searchable.find(esp, attempts):
        yield type(search)(Request("GET", f"http://127.0.0.1:{port}/", {}, b""), search.attempts)


def test_a_round_asks_about_a_bounded_number_and_the_rest_later(open_world, monkeypatch):
    monkeypatch.setattr(doubt_keeper, "ASKED_MOST", 2)
    world = open_world(Searchable)
    world.doubt("a", "b", "c")
    world.records.knows(*(world.sent(job).attempt_id for job in "abc"))
    world.now += 16 * MINUTE
    world.keeper().round()
    assert world.records.asked == 2
    world.keeper().round()
    assert world.records.asked == 3 and world.waits() == {}


# -- several keepers, and dead ones ------------------------------------------------------------------------------------


class Gate:
    """A failpoint at which a keeper stands still instead of dying."""

    def __init__(self, name):
        self.name, self.reached, self.opened = name, threading.Event(), threading.Event()

    def hit(self, name):
        if name == self.name:
            self.reached.set()
            assert self.opened.wait(60)


def ready_for_resend(world):
    """The next look decides. (The word that nothing waits is of the real time, long after the simulated one.)"""
    world.doubt("j")
    world.report(world.began + 6 * MINUTE)
    world.now += 16 * MINUTE


def start(keeper):
    thread = threading.Thread(target=keeper.round)
    thread.start()
    return thread


def test_keepers_of_two_hosts_that_decide_at_the_same_instant_resend_once(world):
    ready_for_resend(world)
    first, second = Gate("doubt-asked"), Gate("doubt-decided")
    databases = [world.another_connection() for _ in range(2)]
    threads = [start(world.keeper(failpoints=first, database=databases[0]))]
    assert first.reached.wait(60)
    world.now += 3 * MINUTE  # its lease has run out
    threads.append(start(world.keeper(failpoints=second, database=databases[1])))
    assert second.reached.wait(60)
    first.opened.set()  # it decides by what it saw, while the other's decision is not committed
    wait_until_blocked(world)
    second.opened.set()
    for thread in threads:
        thread.join(60)
    for database in databases:
        database.close()
    assert world.resends() == ["j"]
    world.lease_due()
    world.keep(HOUR)
    assert world.lease_due() == [] and len(world.wire.accepted) == 1


def wait_until_blocked(world):
    """One of our transactions waits for another one's lock."""
    for _ in range(600):
        if world.ledger.database.read("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0]:
            return
        threading.Event().wait(0.05)
    raise AssertionError("nobody waits for a lock")


def test_what_one_keeper_looks_at_the_others_leave_alone(open_world):
    world = open_world(Searchable)
    ready = Gate("doubt-leased")
    world.doubt("j")
    world.now += 16 * MINUTE
    database = world.another_connection()
    thread = start(world.keeper(failpoints=ready, database=database))
    assert ready.reached.wait(60)
    world.keeper().round()
    assert world.records.asked == 0
    ready.opened.set()
    thread.join(60)
    database.close()
    assert world.records.asked == 1


@pytest.mark.parametrize("is_found", [False, True])
@pytest.mark.parametrize("point", ["doubt-leased", "doubt-asked", "doubt-decided", "doubt-recorded"])
def test_a_keeper_that_is_killed_at_any_step_doubles_nothing(open_world, point, is_found):
    world = open_world(Searchable if is_found else Reporting)
    ready_for_resend(world)
    world.records.knows(world.sent("j").attempt_id)  # asked only where the ESP can be
    pid = os.fork()
    if pid == 0:
        world.keeper(failpoints=Failpoints({point: 1.0}), database=world.another_connection()).round()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    world.lease_due()
    world.keep(HOUR)
    world.lease_due()
    world.keep(HOUR)
    assert world.lease_due() == [] and world.waits() == {}
    assert world.status("j") == "sent"
    assert (world.resends(), len(world.wire.accepted)) == (([], 0) if is_found else (["j"], 1))
    told = world.ledger.database.read("SELECT v FROM outbox, unnest(values) v WHERE v LIKE %(sent)s", {"sent": '%"event":"sent"%'})
    assert len(told) == 1


# -- what turns out to be doubled --------------------------------------------------------------------------------------


def resent(world):
    world.doubt("j")
    world.report(world.began + 6 * MINUTE)
    world.keep(20)
    assert world.resends() == ["j"]


def shown(world):
    samples = ledger_gauges.read(world.ledger.database, world.topics)
    return [(s.labels["provider"], s.value) for s in samples if s.name == "email_duplicates_confirmed_total"]


@pytest.mark.expect_errors
def test_an_event_for_the_first_attempt_after_the_resend_counts_one_duplicate_once(world):
    resent(world)
    world.lease_due()
    assert shown(world) == []
    (provider,) = set(world.providers("j"))
    world.report(world.now, world.event("delivered", "j", 0))
    assert shown(world) == [(provider, 1.0)]
    world.report(world.now, world.event("delivered", "j", 1), world.event("opened", "j", 0), world.event("clicked", "j", 1))
    assert shown(world) == [(provider, 1.0)]


def test_an_event_that_comes_before_the_resend_has_left_stops_it(world):
    resent(world)
    world.report(world.now, world.event("delivered", "j", 0))
    assert world.lease_due() == []
    assert (world.status("j"), world.duplicates()) == ("delivered", {})


def test_an_event_that_comes_while_the_resend_is_in_the_air_is_counted_with_its_answer(world):
    resent(world)

    def accept(request):
        world.report(world.now, world.event("delivered", "j", 0))
        assert world.duplicates() == {}, "nobody knows yet whether the second one is taken"
        return ["accepted"]

    world.wire.behave = accept
    world.lease_due()
    assert sum(world.duplicates().values()) == 1


def test_a_resend_in_doubt_whose_job_arrived_by_the_first_attempt_is_no_doubt_any_more(world):
    resent(world)

    def fall_silent(request):
        world.report(world.now, world.event("delivered", "j", 0))
        return NoReply(True, "read timed out")

    world.wire.behave = fall_silent
    world.lease_due()
    world.date_doubts()
    world.keep(20)
    assert (world.status("j"), world.waits(), world.duplicates()) == ("delivered", {}, {})


def test_a_resend_after_which_the_first_attempt_turns_out_to_be_refused_is_no_duplicate(world):
    resent(world)
    world.lease_due()
    sent = world.sent("j")
    late = ledger_rows.Result(sent.attempts[0], sent.row_id, "not_taken", "pending", "", "", 0, None)
    world.ledger.database.run(lambda cursor: ledger_rows.record_results(cursor, [late]))
    world.report(world.now, world.event("delivered", "j", 1))
    assert world.duplicates() == {} and world.status("j") == "delivered"


# -- callbacks that nobody could read ----------------------------------------------------------------------------------


def test_while_callbacks_that_came_since_cannot_be_verified_nothing_is_decided(world):
    world.doubt("j")
    world.postpone_callback(world.began + MINUTE)
    world.pass_watermark()
    world.report(world.began + 3 * HOUR * MINUTE)
    world.keep(2 * HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "unread"})
    world.run("UPDATE postponed_callbacks SET value = NULL")
    world.keep(HOUR)
    assert (world.resends(), world.waits()) == ([], {"j": "unread"}), "given up, they were not read either"
    world.run("DELETE FROM postponed_callbacks")
    world.keep(HOUR)
    assert world.resends() == ["j"]


def test_callbacks_that_came_before_it_cannot_speak_of_it(world):
    world.doubt("j")
    world.postpone_callback(world.began - MINUTE)
    world.report(world.began + 3 * HOUR * MINUTE)
    world.keep(HOUR)
    assert world.resends() == ["j"]
