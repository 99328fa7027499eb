"""What the event statements promise about locks, partitions and the cost of updates."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from db import events, partitions, watermarks
from db.connection import Database
from mail.ids import new_id
from tests.workers.event_world import arrival_of, event
from workers.feedback.callbacks import Mailbag


@pytest.fixture
def world(fresh_world):
    return fresh_world


def side_by_side(world, *works):
    """Each in a transaction on a connection of its own, started together; returns what they return."""
    barrier, databases, results = threading.Barrier(len(works)), [Database(world.parameters) for _ in works], [None] * len(works)

    def run(number):
        barrier.wait()
        results[number] = databases[number].run(works[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for database in databases:
        database.close()
    return results


def test_two_workers_with_the_same_events_in_opposite_orders_keep_each_once(world):
    sends = [world.send(f"r{n}@a.test", cohort="01900000-0000-7000-8000-000000000001") for n in range(200)]
    arrivals = [arrival_of(one) for sent in sends for one in (event("delivered", sent), event("opened", sent, after_s=60))]
    for _ in range(5):
        found = side_by_side(
            world,
            lambda cursor: world.books.record(cursor, Mailbag(list(arrivals)), [], 0),
            lambda cursor: world.books.record(cursor, Mailbag(arrivals[::-1]), [], 1),
        )
        assert all(findings is not None for findings in found), "a deadlock that was not resolved"
    assert world.count("email_tracking") == 400
    assert world.counters(sends[0]) == {"delivered": 200, "opened": 200}
    assert len(world.told()) == 400


def test_an_answer_and_an_event_of_the_same_attempts_side_by_side_count_each_send_once(world):
    for _ in range(10):
        sends = [world.send(f"r{n}@a.test", answer="open", cohort="01900000-0000-7000-8000-000000000001") for n in range(20)]
        arrivals = [arrival_of(event("delivered", sent)) for sent in sends]
        before = world.counters(sends[0]).get("sent", 0)
        closed = [0]

        def answer(sends=sends, closed=closed):
            closed[0] = sum(len(world.answer(sent, "accepted")) for sent in sends)

        other = Database(world.parameters)
        reporting = threading.Thread(target=lambda a=arrivals, o=other: o.run(lambda cursor: world.books.record(cursor, Mailbag(a), [])))
        reporting.start()
        answer()
        reporting.join(30)
        other.close()
        by_events = world.counters(sends[0]).get("sent", 0) - before
        assert by_events + closed[0] == 20, "counted by the event, or by the answer"
        assert {world.status(sent) for sent in sends} == {"delivered"}


def test_updates_by_answers_and_events_stay_hot(world):
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    sends = [world.send(f"r{n}@a.test", answer="open", at_ms=now_ms) for n in range(200)]
    for sent in sends:
        world.answer(sent, "accepted")
    for kind in ("delivered", "opened", "clicked"):
        world.apply(*[event(kind, sent) for sent in sends])
    world.run(lambda cursor: cursor.execute("SELECT pg_stat_force_next_flush()"))
    statement = "SELECT sum(n_tup_upd)::int, sum(n_tup_hot_upd)::int FROM pg_stat_user_tables WHERE relname ~ '^email_(jobs|attempts)_2'"
    ((updates, hot),) = world.database.read(statement)
    assert updates == 2 * 4 * len(sends)
    assert hot >= 0.8 * updates, "the rest is for want of room on the page"


def test_an_event_goes_to_the_partition_of_its_day_and_retention_drops_that_day(world):
    today = datetime.now(UTC)
    world.run(lambda cursor: partitions.make(cursor, (today - timedelta(days=4)).date(), today.date()))
    sent = world.send(at_ms=int((today - timedelta(days=3)).timestamp() * 1000))
    world.apply(event("delivered", sent, after_s=60), event("opened", sent, after_s=3 * 86_400 - 60))
    assert world.count("email_tracking") == 2
    limit: date = (today - timedelta(days=1)).date()
    dropped = world.run(lambda cursor: partitions.drop_before(cursor, "email_tracking", limit))
    assert len(dropped) >= 3
    assert [row["event_type"] for row in world.rows("SELECT event_type FROM email_tracking")] == ["opened"]


def test_a_claim_to_an_attempt_of_nobody_is_no_match(world):
    row = events.Tracking(new_id(), datetime.now(UTC), new_id(), "sendgrid", 0, "a@a.test", "", "opened", "{}", "", "", False)
    assert world.run(lambda cursor: events.insert_tracking(cursor, [row])) == {(row.occurred_at, row.id): None}


def test_watermarks_never_go_back_nor_beyond_the_databases_clock(world):
    now = datetime.now(UTC)
    for moment in (now - timedelta(hours=1), now - timedelta(hours=2), now + timedelta(days=3)):
        world.run(lambda cursor, moment=moment: watermarks.advance(cursor, {("sendgrid", 0): moment}))
    (row,) = world.rows("SELECT newest_at FROM webhook_watermarks")
    assert now <= row["newest_at"] < now + timedelta(minutes=1)
