"""The same events in another order, and each of them twice, come to the same end.

The streams are what each ESP documents its callbacks to be (esp/examples), and what the fakes report, read by the ESP's own file.
"""

import itertools
import json
import random
from datetime import timedelta
from typing import get_args

import msgspec
import pytest

from esp import base as esp_base
from esp.base import Listener
from mail.account import Account
from mail.event import EventType
from mail.ids import wire_id
from sandbox.fakes import callbacks
from sandbox.fakes.callbacks import Happening, Kind
from tests.workers.event_world import SENT_AT, arrival_of, event
from tests.workers.genuine import ESPS, STANZAS, examples_of
from workers.feedback.callbacks import Mailbag

pytestmark = pytest.mark.thorough

SHORT, ORDERS = 5, 200
ANSWERS = ["accepted", "open", "unknown", "throttled"]


def listener_of(provider):
    credentials = {name: "1" for name, credential in STANZAS[provider]["credentials"].items() if credential["required"]}
    esp = esp_base.load(Account(provider, 0, "http://127.0.0.1:1", credentials))
    assert isinstance(esp, Listener)
    return esp


def documented(provider):
    """All documented callbacks of an ESP as events for one mail: recipient and attempt are put in later. They begin when it was sent."""
    wire = wire_id("01900000-0000-7000-8000-000000000001")
    bodies = [json.loads(json.dumps(example["body"]).replace("WIRE", wire)) for example in examples_of(provider)]
    return _events_of(provider, bodies)


def reported(provider):
    """What the fake reports of a mail to which everything happens, some of it several times."""
    line = {"at": 0.0, "provider": provider, "attempt_id": wire_id("01900000-0000-7000-8000-000000000001"), "message_id": "m"}
    line |= {"recipient": "ann@a.test", "subject": "s", "request": 1}
    kinds = (*get_args(Kind), "deferred", "open", "machine_open", "click")
    happened = [
        Happening(kind, 1_790_000_000.0 + 7 * n, line, n, "Thunderbird", "192.0.2.1", "https://a.test/") for n, kind in enumerate(kinds)
    ]
    posts = callbacks.load(provider).posts(happened, 1_790_000_200.0)
    return _events_of(provider, [json.loads(post.body) for post in posts])


def _events_of(provider, bodies):
    listener, found = listener_of(provider), {}
    for body in bodies:
        for one in listener.parse_events(body):
            found.setdefault((one.event_id, one.type, one.at), one)
    events = [msgspec.structs.replace(one, recipient="") for one in found.values()]
    first = min(one.at for one in events if one.at)
    return [msgspec.structs.replace(one, at=one.at and SENT_AT + (one.at - first) % timedelta(days=3)) for one in events]


STREAMS = [pytest.param(provider, documented, id=f"{provider}, documented") for provider in ESPS]
STREAMS += [pytest.param(provider, reported, id=f"{provider}, the fake's") for provider in ESPS if callbacks.load(provider)]


def short_of(events):
    """At most five of them, of different types."""
    by_type = {}
    for one in events:
        by_type.setdefault(one.type, one)
    return list(by_type.values())[:SHORT]


def play(world, provider, streams, answer):
    """Each stream (a list of batches of events) for a job of its own through an account of its own, side by side; returns all ends."""
    sends = [world.send(f"r{n}@a.test", provider=provider, account_tenant=n, answer=answer, message_id="m") for n in range(len(streams))]
    for step in itertools.zip_longest(*streams, fillvalue=()):
        arrivals, newest = [], {}
        for tenant, (sent, batch) in enumerate(zip(sends, step, strict=True)):
            mine = [arrival_of(msgspec.structs.replace(one, recipient=sent.recipient, attempt_id=sent.attempt_id), tenant) for one in batch]
            arrivals += mine
            if mine:
                newest[provider, tenant] = max(a.at for a in mine)
        bag = Mailbag(arrivals, [], newest)
        world.run(lambda cursor, bag=bag: world.books.record(cursor, bag, []))
    return sends, [world.final(sent, [tenant]) for tenant, sent in enumerate(sends)]


@pytest.mark.parametrize(("provider", "recording"), STREAMS)
def test_every_permutation_of_a_short_stream_doubled_comes_to_the_same_end(world, provider, recording):
    events = short_of(recording(provider))
    streams = [[[one] for one in (*order, *order)] for order in itertools.permutations(events)]
    _, ends = play(world, provider, streams, "accepted")
    assert len(events) == SHORT
    assert [end for end in ends if end != ends[0]] == []


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("provider", "recording"), STREAMS)
def test_random_orders_of_a_long_stream_doubled_come_to_the_same_end(world, provider, recording, answer):
    dice, events = random.Random(11), recording(provider)
    streams = []
    for _ in range(ORDERS if answer == "accepted" else 40):
        doubled = events * 2
        dice.shuffle(doubled)
        sizes = itertools.cycle([1, 2, 5, 3])
        rest = iter(doubled)
        streams.append(list(itertools.takewhile(bool, (list(itertools.islice(rest, next(sizes))) for _ in itertools.count()))))
    sends, ends = play(world, provider, streams, answer)
    assert len(events) > SHORT
    assert [end for end in ends if end != ends[0]] == []
    told = {}
    for one in world.told():
        told.setdefault(one["jobId"], []).append(one["eventId"].split(":")[-1] if one["event"] == "sent" else one["event"])
    assert len({tuple(sorted(told.get(sent.job_id, []))) for sent in sends}) == 1


def test_random_orders_of_opens_around_the_delivery_come_to_the_same_end(world):
    """Two deliveries, and people and machines that are fast and slow: the judgement that looks back."""
    dice = random.Random(5)
    sent = world.send("template@a.test")
    agents = ["Mozilla/5.0", "Thunderbird"]
    events = [event("delivered", sent, after_s=s) for s in (30, 20)]
    events += [
        event(kind, sent, after_s=s, user_agent=dice.choice(agents)) for kind in ("opened", "clicked") for s in (5, 21, 21.5, 31, 60)
    ]
    streams = []
    for _ in range(ORDERS):
        order = events * 2
        dice.shuffle(order)
        streams.append([order[n : n + 2] for n in range(0, len(order), 2)])
    _, ends = play(world, "sendgrid", streams, "accepted")
    assert [end for end in ends if end != ends[0]] == []


def test_random_orders_of_two_attempts_events_come_to_the_same_end(world):
    dice = random.Random(3)
    kinds = [EventType.PROCESSED, EventType.DEFERRED, EventType.DELIVERED, EventType.BOUNCED, EventType.OPENED, EventType.DROPPED]
    for _ in range(12):
        mine = [(attempt, dice.choice(kinds), dice.randrange(100)) for attempt in (0, 1) for _ in range(dice.randrange(0, 4))]
        answers = dice.choice(["throttled", "throttled"]), dice.choice(["accepted", "throttled", "unknown", "rejected", "open"])
        ends = []
        for _ in range(12):
            sent = world.send("ann@a.test", answer=answers[0])
            world.try_again(sent, answer=answers[1])
            events = [
                event(kind, sent, attempt=attempt, after_s=s, provider=("sendgrid", "postmark")[attempt]) for attempt, kind, s in mine
            ] * 2
            dice.shuffle(events)
            for n in range(0, len(events), 3):
                world.apply(*events[n : n + 3])
            job, attempts, _, counters, *_, doubts = world.final(sent)
            ends.append((job, attempts, counters, doubts))
        assert [end for end in ends if end != ends[0]] == [], (mine, answers)
