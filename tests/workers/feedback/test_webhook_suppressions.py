"""Whom events suppress, and when an ESP's own fault suppresses nobody."""

import itertools
import random

import pytest

from db import suppressions
from db.suppressions import MASS
from tests.workers.event_world import SENT_MS, event
from tests.workers.ledger_world import job_bytes, letters_of, record_of

pytestmark = pytest.mark.thorough


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


def test_a_dead_address_that_the_esp_knew_is_counted_as_one_like_a_bounce(world):
    """The weights leave hard refusals out: they are the list's fault, and not the ESP's that knows its lists best."""
    dropped, other = world.send("ann@a.test"), world.send("bob@a.test")
    world.apply(event("dropped", dropped, bounce="hard"), event("dropped", other))
    assert (world.counters(dropped), world.counters(other)) == ({"bounced_hard": 1}, {})
    assert (world.status(dropped), world.attempt(dropped)["bounced_at"]) == ("dropped", None)


def test_a_suppression_belongs_to_the_jobs_tenant_and_names_its_source_and_time(world):
    sent = world.send("Ann@a.test", tenant=42, account_tenant=42)
    one = event("complained", sent)
    world.apply(one, account_tenant=42)
    assert world.suppressed() == [(42, "complaint", "sendgrid/42")]
    assert world.rows("SELECT at FROM suppressions")[0]["at"] == one.at


def sendable(world, tenants, address="ann@a.test"):
    """Of one marketing and one other job of each tenant: those that would be sent, as "<tenant> <stream>"."""
    names = [f"{tenant} {stream}" for tenant in tenants for stream in ("marketing", "transactional")]
    batch = letters_of(*(record_of(job_bytes(name, address, tenant=int(name.split()[0]))) for name in names))
    for letter in batch.letters:
        letter.is_marketing = letter.job.job_id.endswith("marketing")
    opened = world.open(world.claim(), batch)
    return [letter.job.job_id for letter in batch.letters if letter.attempt_id in opened]


@pytest.mark.parametrize(("kind", "bounce"), [("complained", ""), ("bounced", "hard")])
@pytest.mark.parametrize("tenant", [0, 5])
def test_who_complained_or_is_not_there_gets_no_mail_of_that_tenant_only(world, tenant, kind, bounce):
    world.apply(event(kind, world.send("ann@a.test", tenant=tenant), bounce=bounce))
    others = [t for t in (0, 5, 6) if t != tenant]
    assert sendable(world, (0, 5, 6)) == [f"{t} {stream}" for t in others for stream in ("marketing", "transactional")]


@pytest.mark.parametrize("tenant", [0, 5])
def test_an_unsubscribe_from_marketing_mail_stops_that_tenants_marketing_mail_only(world, tenant):
    world.apply(event("unsubscribed", world.send("ann@a.test", tenant=tenant, stream="marketing")))
    assert f"{tenant} marketing" not in sendable(world, (0, 5))
    assert len(sendable(world, (10, 11))) == 4
    assert world.rows("SELECT stream FROM suppressions") == [{"stream": "marketing"}]


def test_an_unsubscribe_from_another_stream_stops_marketing_mail_too_and_nothing_else(world):
    world.apply(event("unsubscribed", world.send("ann@a.test", stream="transactional")))
    assert world.rows("SELECT reason, stream FROM suppressions") == [{"reason": "unsubscribe", "stream": "transactional"}]
    assert sendable(world, (0, 5)) == ["0 transactional", "5 marketing", "5 transactional"]


def test_where_nobody_knows_the_stream_marketing_mail_is_stopped(world):
    world.apply(event("unsubscribed", world.send("ann@a.test")))
    assert sendable(world, (0,)) == ["0 transactional"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_several_unsubscribes_the_one_from_marketing_mail_counts_in_whatever_order(world, order):
    sends = [world.send("ann@a.test", stream=stream) for stream in ("transactional", "marketing", "marketing")]
    events = [event("unsubscribed", sent, after_s=after_s) for sent, after_s in zip(sends, (5, 90, 30), strict=True)]
    for number in order:
        world.apply(events[number])
    assert world.rows("SELECT stream, at FROM suppressions") == [{"stream": "marketing", "at": events[2].at}]


def test_several_unsubscribes_in_one_batch_are_one_entry(world):
    sends = [world.send("ann@a.test", stream=stream) for stream in ("transactional", "marketing")]
    world.apply(*(event("unsubscribed", sent) for sent in sends))
    assert world.rows("SELECT stream FROM suppressions") == [{"stream": "marketing"}]


def test_events_change_nothing_about_an_entry_for_everybody(world):
    world.run(lambda cursor: suppressions.add(cursor, "ann@a.test", None, "hard-bounce", "operator ann", None))
    world.apply(event("bounced", world.send("ann@a.test"), bounce="hard"))
    assert world.suppressed() == [(0, "hard-bounce", "operator ann")]
    assert sendable(world, (0, 5)) == []


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
    world.run(lambda cursor: suppressions.add(cursor, "r1@a.test", None, "hard-bounce", "operator", None))
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
    from workers.feedback.callbacks import Mailbag

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
