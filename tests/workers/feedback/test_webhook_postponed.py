"""Callbacks that cannot be verified just now: kept until they can, and nobody else waits for them."""

import msgspec
import pytest

from mail.account import Account
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers.feedback import postponed
from workers.webhook import RECORDS_MOST

ACCOUNTS = [Account("sendgrid", 0, "http://127.0.0.1:1", {}), Account("postmark", 0, "http://127.0.0.1:1", {})]


def bare(*events):
    return msgspec.json.encode(list(events))


class Certificate:
    """Cannot be fetched until it is there."""

    def __init__(self):
        self.is_there, self.asked = False, 0

    def verify(self, callback):
        self.asked += 1
        if not self.is_there:
            raise ConnectionError("no certificate")


@pytest.fixture
def certificate():
    return Certificate()


@pytest.fixture
def loop(world, certificate):
    verify = {"sendgrid": certificate.verify, "postmark": lambda callback: None}
    return WebhookLoop(world, ACCOUNTS, lambda account: ListeningEsp(account, verify[account.provider]))


def turn_later(loop):
    loop.now_s += postponed.RETRY_S
    loop.loop.turn()
    loop.loop.finish_all()


def test_it_stops_nobody_is_no_dead_letter_and_is_applied_when_it_can_be_verified(world, loop, certificate):
    sent, other = world.send(), world.send("bob@a.test", provider="postmark")
    late = loop.put(bare(event("delivered", sent)))
    prompt = loop.put(bare(event("delivered", other, provider="postmark")), "postmark")
    loop.turn()
    assert (world.status(sent), world.status(other)) == ("sent", "delivered")
    assert loop.source.committed == [prompt]
    for _ in range(20):
        turn_later(loop)
    assert world.count("dead_letters") == 0
    certificate.is_there = True
    turn_later(loop)
    assert world.status(sent) == "delivered"
    assert loop.source.committed == [prompt, late]


def test_it_is_tried_again_after_a_while_only_also_while_others_join_it(loop, certificate):
    loop.put(bare())
    loop.loop.turn()
    for _ in range(4):
        loop.now_s += postponed.RETRY_S / 4 - 0.01
        loop.put(bare())
        loop.loop.turn()
    assert certificate.asked == 5
    loop.now_s += 0.04
    loop.loop.turn()
    assert certificate.asked == 10, "all five, five seconds after the first"


def test_where_too_many_wait_no_more_of_their_topic_is_taken_but_all_of_the_others(world, loop, certificate):
    sent = world.send(provider="postmark")
    for _ in range(3 * RECORDS_MOST):
        loop.put(bare())
    for _ in range(10):
        turn_later(loop)
    assert len(loop.source.waiting) == 2 * RECORDS_MOST, "one poll brought more than enough"
    loop.put(bare(event("delivered", sent, provider="postmark")), "postmark")
    turn_later(loop)
    assert world.status(sent) == "delivered"
    assert len(loop.source.waiting) == 2 * RECORDS_MOST
    certificate.is_there = True
    for _ in range(5):
        turn_later(loop)
    assert loop.source.waiting == []
    assert len(loop.source.committed) == 3 * RECORDS_MOST + 1


def test_a_few_large_ones_are_too_many_as_well(loop, monkeypatch):
    monkeypatch.setattr(postponed, "BYTES_MOST", 1_000)
    loop.put(bare() + b" " * 1_000)
    loop.loop.turn()
    loop.put(bare())
    loop.loop.turn()
    assert len(loop.source.waiting) == 1


def test_what_was_taken_from_us_meanwhile_is_left_to_its_new_owner(loop, certificate):
    record = loop.put(bare())
    loop.loop.turn()
    loop.source.lost.add(record.name)
    certificate.is_there = True
    turn_later(loop)
    assert loop.source.committed == []
    assert certificate.asked == 1


def test_one_line_tells_of_all_of_them(loop, caplog):
    for _ in range(30):
        loop.put(bare())
    loop.loop.turn()
    (line,) = [record for record in caplog.records if "cannot be verified" in record.getMessage()]
    assert line.levelname == "WARNING"
