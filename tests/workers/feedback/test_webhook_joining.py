"""Events without our attempt id, and events that come before their send was recorded."""

import threading
from datetime import timedelta

import pytest

from db import unmatched
from db.connection import Database
from mail.ids import new_id
from mail.outcome import Verdict
from tests.workers.event_world import SENT_AT, SENT_MS, arrival_of, event
from tests.workers.ledger_world import job_bytes, letters_of, record_of
from workers.feedback.callbacks import Mailbag
from workers.feedback.event_books import EventBooks


def age(world, seconds):
    """Make the unmatched events so much older."""
    statement = "UPDATE unmatched_events SET arrived_at = arrived_at - %(s)s * interval '1 second', check_at = now() - interval '1 second'"
    world.run(lambda cursor: cursor.execute(statement, {"s": seconds}))


def waiting(world):
    return world.rows("SELECT * FROM unmatched_events ORDER BY occurred_at")


# -- without our attempt id --------------------------------------------------------------------------------------------


def test_a_message_id_and_the_recipient_find_the_attempt_among_those_of_one_request(world):
    first, second = world.send("ann@a.test", message_id="request"), world.send("bob@a.test", message_id="request")
    world.apply(event("delivered", recipient="bob@a.test", message_id="request"))
    assert (world.status(first), world.status(second)) == ("sent", "delivered")


def test_a_message_id_finds_an_older_send_to_the_same_recipient(world):
    older = world.send(message_id="one", at_ms=SENT_MS - 5000)
    newer = world.send(message_id="two")
    world.apply(event("bounced", message_id="one", bounce="soft"))
    assert (world.status(older), world.status(newer)) == ("bounced", "sent")


def test_without_a_message_id_the_newest_send_through_that_account_is_meant(world):
    older, newer = world.send(at_ms=SENT_MS - 60_000), world.send()
    elsewhere = world.send(provider="postmark", at_ms=SENT_MS + 1000)
    world.apply(event("complained"))
    assert [world.status(sent) for sent in (older, newer, elsewhere)] == ["sent", "complained", "sent"]


def test_nothing_is_sent_after_its_own_event(world):
    older = world.send(at_ms=SENT_MS)
    newer = world.send(at_ms=SENT_MS + 3_600_000)
    world.apply(event("complained", after_s=600))
    assert (world.status(older), world.status(newer)) == ("complained", "sent")


def test_a_foreign_message_id_is_somebody_elses_mail_to_our_recipient(world):
    sent = world.send(message_id="ours")
    world.apply(event("complained", message_id="theirs"))
    assert world.status(sent) == "sent"
    assert world.suppressed() == []
    assert len(waiting(world)) == 1


@pytest.mark.parametrize("days", [-9_000, 31, 25_000])
def test_an_absurd_time_finds_no_send_whatever_else_comes_in_the_same_batch(world, days):
    alone, beside = world.send("ann@a.test", message_id="one"), world.send("bob@a.test", message_id="two")
    carl = world.send("carl@a.test", message_id="three")
    absurd = {"after_s": days * 86_400.0}
    world.apply(event("complained", recipient="ann@a.test", message_id="one", **absurd))
    world.apply(
        event("complained", recipient="bob@a.test", message_id="two", **absurd),
        event("opened", recipient="carl@a.test", message_id="three"),
    )
    assert (world.status(alone), world.status(beside), world.status(carl)) == ("sent", "sent", "opened")


def test_a_guess_by_recipient_never_settles_a_doubt(world):
    sent = world.send(answer="unknown")
    world.apply(event("delivered"), event("opened", message_id="theirs"))
    assert world.status(sent) == "uncertain"


def test_a_job_that_was_stored_weeks_before_it_was_sent_is_found(world):
    sent = world.send(at_ms=SENT_MS - 20 * 86_400_000, message_id="mid")
    world.apply(event("delivered", message_id="mid"))
    assert world.status(sent) == "delivered"


# -- before the send was recorded --------------------------------------------------------------------------------------


def test_an_event_that_matches_nothing_is_a_tracking_row_without_a_job_and_counts_for_nothing_else(world):
    findings = world.apply(event("complained", recipient="nobody@a.test", message_id="x"))
    assert dict(findings.tally) == {("sendgrid", "unmatched"): 1}
    (row,) = world.rows("SELECT * FROM email_tracking")
    assert (row["job_id"], row["attempt_id"], row["event_type"]) == (None, None, "complained")
    assert world.suppressed("nobody@a.test") == []
    assert world.told() == []


def opened_at(world, letter):
    return world.rows("SELECT opened_at FROM email_attempts WHERE id = %(id)s", {"id": letter.attempt_id})[0]["opened_at"]


def early(world, batch, account_tenant=0, **fields):
    """An event for the first letter of an open batch, that knows only recipient and message id."""
    letter = batch.letters[0]
    at = opened_at(world, letter) + timedelta(seconds=1)
    more = {"provider": "postmark", "recipient": letter.job.recipient.email, "message_id": f"m-{letter.job.job_id}", **fields}
    world.apply(event("delivered", at=at, **more), account_tenant=account_tenant)


@pytest.fixture
def slot(world):
    world.slot = world.claim()
    return world.slot


@pytest.mark.parametrize("fields", [{}, {"message_id": ""}])
def test_the_record_step_binds_what_came_before_it(world, slot, fields):
    batch = letters_of(record_of(job_bytes("early")))
    world.open(slot, batch)
    early(world, batch, **fields)
    (row,) = waiting(world)
    assert row["found_attempt"] is None
    world.record(slot, batch)
    assert [row["found_attempt"] for row in waiting(world)] == [batch.letters[0].attempt_id]
    world.settle_late()
    assert world.job("early")["status"] == "delivered"
    assert waiting(world) == []
    assert world.count("email_tracking", "job_id IS NOT NULL AND attempt_id IS NOT NULL") == 1
    assert [told["event"] for told in world.told()] == ["sent", "delivered"]


def test_the_record_step_binds_nothing_of_another_account_or_mail(world, slot):
    batch = letters_of(record_of(job_bytes("early")))
    world.open(slot, batch)
    early(world, batch, message_id="another")
    early(world, batch, provider="sendgrid")
    early(world, batch, account_tenant=5)
    world.record(slot, batch)
    assert [row["found_attempt"] for row in waiting(world)] == [None] * 3


def test_a_record_that_could_not_see_the_event_is_made_up_for_by_a_second_look(world, slot):
    """The event's transaction and the record's run side by side, so neither sees the other's rows."""
    batch = letters_of(record_of(job_bytes("early")))
    world.open(slot, batch)
    recorded, may_commit = threading.Event(), threading.Event()
    other = Database(world.parameters)
    attempt_id = batch.letters[0].attempt_id
    batch.letters[0].outcome = None

    def record_slowly():
        books = world.keeper_of(slot)
        from mail.outcome import Outcome

        letter = batch.letters[0]
        letter.outcome = Outcome(attempt_id, Verdict.ACCEPTED, None, message_id="m-early")
        letter.fate = world.policy.judge(letter, letter.outcome, SENT_AT)

        def work(cursor):
            books.record(cursor, batch, [])
            recorded.set()
            assert may_commit.wait(10)

        other.run(work)

    recording = threading.Thread(target=record_slowly)
    recording.start()
    assert recorded.wait(10)
    moment = world.rows("SELECT now() AS now")[0]["now"]
    world.apply(event("delivered", at=moment, provider="postmark", recipient="a@example.com", message_id="m-early"))
    may_commit.set()
    recording.join(10)
    other.close()
    world.settle_late()
    assert len(waiting(world)) == 1, "its time to be looked at has not come"
    age(world, unmatched.FIRST_CHECK_S)
    world.settle_late()
    assert world.job("early")["status"] == "delivered"
    assert waiting(world) == []


def test_one_nobody_sends_is_looked_at_twice_and_then_left(world):
    world.apply(event("delivered", recipient="nobody@a.test", message_id="x"))
    age(world, unmatched.FIRST_CHECK_S)
    world.settle_late()
    (row,) = waiting(world)
    assert row["check_at"] - row["arrived_at"] == timedelta(seconds=unmatched.KEEP_S)
    age(world, unmatched.KEEP_S)
    world.settle_late()
    assert waiting(world) == []
    assert world.count("email_tracking") == 1


def test_where_unmatched_events_are_not_kept_they_are_forgotten_after_ten_minutes(world):
    books = EventBooks("p", world.books._topics, keeps_unmatched=False)
    sent = world.send()
    world.apply(event("delivered", recipient="nobody@a.test", message_id="x"), event("delivered", sent), books=books)
    age(world, unmatched.KEEP_S + 1)
    world.settle_late(books)
    assert [row["job_id"] for row in world.rows("SELECT job_id FROM email_tracking")] == [sent.row_id]


def test_an_event_that_names_another_accounts_attempt_is_never_bound(world):
    sent = world.send(account_tenant=7)
    world.apply(event("delivered", sent), account_tenant=8)
    world.run(lambda cursor: cursor.execute("UPDATE unmatched_events SET found_attempt = %(a)s, check_at = now()", {"a": sent.attempt_id}))
    world.settle_late()
    assert world.status(sent) == "sent"


def test_a_repeat_of_an_event_that_waits_changes_nothing(world):
    one = event("delivered", recipient="nobody@a.test", message_id="x")
    world.apply(one)
    findings = world.apply(one)
    assert dict(findings.tally) == {("sendgrid", "repeated"): 1}
    assert len(waiting(world)) == 1


def test_binding_asks_no_more_than_it_has_a_reason_to(world):
    asked = []

    def recipients():
        asked.append("recipients")
        return ["ann@a.test"]

    def sends(awaited):
        asked.append(awaited)
        return []

    assert world.run(lambda cursor: unmatched.bind(cursor, recipients, sends)) == 0
    assert asked == []
    world.apply(event("delivered", recipient="nobody@a.test", message_id="x"))
    world.run(lambda cursor: unmatched.bind(cursor, recipients, sends))
    assert asked == ["recipients"], "what waits is not for these"
    world.apply(event("delivered", recipient="ann@a.test", message_id="x"))
    world.run(lambda cursor: unmatched.bind(cursor, recipients, sends))
    assert asked[2:] == [{"ann@a.test"}]


def test_rows_that_a_webhook_worker_looks_at_do_not_make_the_record_step_wait(world):
    world.apply(event("delivered", recipient="ann@a.test", message_id="x"))
    age(world, 0)
    other = Database(world.parameters)
    send = unmatched.Bindable(new_id(), "sendgrid", 0, "x", "ann@a.test", SENT_AT - timedelta(days=1))

    def bind(cursor):
        return unmatched.bind(cursor, lambda: ["ann@a.test"], lambda awaited: [send])

    def look(cursor):
        assert len(unmatched.take(cursor, 10)) == 1
        return other.run(bind)

    assert world.run(look) == 0
    assert other.run(bind) == 1
    other.close()


def test_all_events_that_race_with_the_record_of_their_send_are_bound_in_the_end(world, slot):
    """Sixty batches, each recorded while the events of its emails come in on another connection."""
    other = Database(world.parameters)
    for number in range(60):
        batch = letters_of(*(record_of(job_bytes(f"race-{number}-{n}", f"r{number}-{n}@a.test")) for n in range(5)))
        world.open(slot, batch)
        at = opened_at(world, batch.letters[0]) + timedelta(seconds=1)
        arrivals = [
            arrival_of(event("delivered", at=at, provider="postmark", recipient=x.job.recipient.email, message_id=f"m-{x.job.job_id}"))
            for x in batch.letters
        ]
        barrier = threading.Barrier(2)

        def report(arrivals=arrivals, barrier=barrier):
            barrier.wait()
            other.run(lambda cursor: world.books.record(cursor, Mailbag(arrivals), []))

        reporting = threading.Thread(target=report)
        reporting.start()
        barrier.wait()
        world.record(slot, batch)
        reporting.join(30)
    bound_at_once = world.count("email_tracking", "job_id IS NOT NULL")
    world.settle_late()
    age(world, unmatched.FIRST_CHECK_S)
    world.settle_late()
    other.close()
    assert waiting(world) == []
    assert world.count("email_jobs", "status = 'delivered'") == world.count("email_tracking", "job_id IS NOT NULL") == 300
    assert bound_at_once < 300, "some of them came too early"
