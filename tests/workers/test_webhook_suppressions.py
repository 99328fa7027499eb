"""Whom events suppress, and when an ESP's own fault suppresses nobody."""

import itertools
import random

import pytest

from db import suppressions
from db.suppressions import MASS
from tests.workers.event_world import SENT_MS, event
from tests.workers.ledger_world import job_bytes, letters_of, record_of


def reasons(world, address="ann@a.test"):
    return [reason for _, reason, _ in world.suppressed(address)]


@pytest.mark.parametrize(
    ("kind", "bounce", "expected"),
    [
        ("bounced", "hard", ["hard-bounce"]),
        ("dropped", "hard", ["hard-bounce"]),
        ("bounced", "soft", []),
        ("bounced", "block", []),
        ("dropped", "", []),
        ("complained", "", ["complaint"]),
        ("unsubscribed", "", ["unsubscribe"]),
        ("delivered", "", []),
    ],
)
def test_only_what_says_never_again_suppresses(world, kind, bounce, expected):
    world.apply(event(kind, world.send(), bounce=bounce))
    assert reasons(world) == expected


def test_a_suppression_belongs_to_the_jobs_tenant_and_names_its_source_and_time(world):
    sent = world.send("Ann@a.test", tenant=42, account_tenant=42)
    one = event("complained", sent)
    world.apply(one, account_tenant=42)
    assert world.suppressed() == [(42, "complaint", "sendgrid/42")]
    assert world.rows("SELECT at FROM suppressions")[0]["at"] == one.at


def test_the_next_job_to_somebody_who_complained_is_suppressed_for_that_tenant_only(world):
    world.apply(event("complained", world.send("ann@a.test", tenant=5)))
    batch = letters_of(record_of(job_bytes("for-5", "ann@a.test", tenant=5)), record_of(job_bytes("for-6", "ann@a.test", tenant=6)))
    opened = world.open(world.claim(), batch)
    assert [letter.job.job_id for letter in batch.letters if letter.attempt_id in opened] == ["for-6"]


def test_an_unsubscribe_stops_marketing_mail_only(world):
    world.apply(event("unsubscribed", world.send("ann@a.test")))
    batch = letters_of(record_of(job_bytes("news", "ann@a.test")), record_of(job_bytes("ticket", "ann@a.test")))
    batch.letters[0].is_marketing = True
    opened = world.open(world.claim(), batch)
    assert [letter.job.job_id for letter in batch.letters if letter.attempt_id in opened] == ["ticket"]


# -- the ESP's own fault -----------------------------------------------------------------------------------------------


def refuse(world, count, name="r", account_tenant=0, at_ms=SENT_MS):
    """Hard bounces of so many recipients, as events."""
    sends = [world.send(f"{name}{n}@a.test", account_tenant=account_tenant, at_ms=at_ms) for n in range(count)]
    return [event("bounced", sent, bounce="hard", after_s=n / 10) for n, sent in enumerate(sends)]


def count(world):
    return world.count("suppressions", "reason = 'hard-bounce'")


@pytest.mark.expect_errors
def test_a_mass_of_rejections_without_any_delivery_suppresses_nobody(world):
    bounces = refuse(world, MASS)
    held = [window for bounce in bounces for window in world.apply(bounce).held]
    assert count(world) == 0
    assert [(window.provider, window.account_tenant) for window in held] == [("sendgrid", 0)]


def test_fewer_rejections_suppress_each_of_them(world):
    world.apply(*refuse(world, MASS - 1))
    assert count(world) == MASS - 1


def test_one_delivery_shows_that_the_account_works_and_the_rejections_count(world):
    bounces = refuse(world, MASS + 5)
    world.apply(*bounces)
    assert count(world) == 0
    world.apply(event("delivered", world.send("good@a.test"), after_s=5))
    assert count(world) == MASS + 5


def test_a_delivery_of_another_account_or_another_time_shows_nothing(world):
    world.apply(*refuse(world, MASS))
    world.apply(event("delivered", world.send("good@a.test", account_tenant=1), after_s=5), account_tenant=1)
    world.apply(event("delivered", world.send("good@b.test"), after_s=suppressions.WINDOW_S + 5))
    assert count(world) == 0


def test_an_incident_takes_nothing_back_that_others_had_suppressed(world):
    day_before = SENT_MS - 86_400_000
    world.apply(*refuse(world, 1, at_ms=day_before))
    world.run(lambda cursor: suppressions.add(cursor, "r1@a.test", 0, "hard-bounce", "operator", None))
    world.apply(*refuse(world, MASS))
    assert world.rows("SELECT address FROM suppressions ORDER BY 1") == [{"address": "r0@a.test"}, {"address": "r1@a.test"}]


def test_in_whatever_order_the_events_come_the_same_people_are_suppressed(world):
    dice = random.Random(7)
    for round_number, has_delivery in enumerate(itertools.islice(itertools.cycle([True, False]), 12)):
        tenant = 100 + round_number
        bounces = refuse(world, MASS + 2, f"x{round_number}-", account_tenant=tenant)
        delivery = [event("delivered", world.send(f"ok{round_number}@a.test", account_tenant=tenant), after_s=9)] * has_delivery
        stream = (bounces + delivery) * 2
        dice.shuffle(stream)
        while stream:
            size = dice.randrange(1, 6)
            world.apply(*stream[:size], account_tenant=tenant)
            del stream[:size]
        found = world.count("suppressions", f"address LIKE 'x{round_number}-%%'")
        assert found == (MASS + 2 if has_delivery else 0), f"round {round_number}"


def test_two_workers_that_see_half_of_an_incident_each_agree(world):
    """A bounce that makes it a mass, and the delivery that excuses it, in transactions side by side."""
    import threading

    from db.connection import Database
    from tests.workers.event_world import arrival_of
    from workers.callbacks import Mailbag

    bounces = refuse(world, MASS)
    delivered = event("delivered", world.send("good@a.test"), after_s=5)
    world.apply(*bounces[:-1])
    databases = [Database(world.parameters), Database(world.parameters)]
    barrier = threading.Barrier(2)

    def record(database, one):
        barrier.wait()
        database.run(lambda cursor: world.books.record(cursor, Mailbag([arrival_of(one)]), []))

    threads = [threading.Thread(target=record, args=pair) for pair in zip(databases, (bounces[-1], delivered), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for database in databases:
        database.close()
    assert count(world) == MASS


def test_old_rejections_are_swept_and_what_they_suppressed_stays(world):
    world.apply(*refuse(world, 2, at_ms=SENT_MS - 40 * 86_400_000))
    assert world.run(suppressions.sweep) == 3
    assert count(world) == 2
