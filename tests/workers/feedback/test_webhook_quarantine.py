"""Callbacks over which workers die: named before they are read, tried alone, set aside at the third death."""

import json
import os
import signal
from types import SimpleNamespace

import msgspec
import pytest

from db import slots
from mail.account import Account
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers.flight import flight_log
from workers.flight.flight_log import FlightLog, read_evidence
from workers.steps.quarantine import DEATHS_MOST, note_suspect

ACCOUNT = Account("sendgrid", 0, "http://127.0.0.1:1", {})
BOOT_ID = flight_log.boot_id()


def bare(*events):
    return msgspec.json.encode(list(events))


@pytest.fixture
def loop(world):
    return WebhookLoop(world, [ACCOUNT], ListeningEsp)


def accuse(world, record, times=1):
    for _ in range(times):
        world.run(lambda cursor: slots.add_suspect(cursor, record.name))


def test_each_callback_is_named_before_it_is_read_and_nobody_after_the_last(world, loop):
    named = []

    def verify(callback):
        named.append(loop.hand.holds)

    loop.loop._tools.sorter._listener_of = lambda account: ListeningEsp(account, verify)
    records = [loop.put(bare()) for _ in range(3)]
    loop.turn()
    assert named == [record.name for record in records]
    assert loop.hand.holds == ""


def test_a_suspect_is_tried_alone_and_is_none_any_more_when_nobody_died(world, loop):
    sizes = []
    real = loop.loop.handle
    loop.loop.handle = lambda records: (sizes.append(len(records)), real(records))
    sent = world.send()
    first, suspect, last = (loop.put(bare(event(kind, sent))) for kind in ("processed", "delivered", "opened"))
    accuse(world, suspect, DEATHS_MOST - 1)
    loop.turn()
    assert sizes == [2, 1]
    assert world.status(sent) == "opened"
    assert world.run(slots.find_suspects) == {}
    assert sorted(loop.source.committed, key=lambda record: record.offset) == [first, suspect, last]


def test_at_the_third_death_it_is_a_dead_letter_with_its_own_bytes_and_is_not_read(world, loop):
    sent = world.send()
    poison, good = loop.put(bare(event("delivered", sent, attempt=0))), loop.put(bare(event("deferred", sent)))
    accuse(world, poison, DEATHS_MOST)
    loop.turn()
    assert loop.hand.named == [good.name]
    (letter,) = world.rows("SELECT reason, error, value, source FROM dead_letters")
    assert (letter["reason"], bytes(letter["value"]), letter["source"]["offset"]) == ("crashes-worker", poison.value, poison.offset)
    assert "look at it by hand" in letter["error"]
    assert world.status(sent) == "deferred"
    assert [told["reason"] for topic, _, told in loop.broker.published if topic == "email-dlq"] == ["crashes-worker"]
    assert {record.name for record in loop.source.committed} == {poison.name, good.name}
    assert world.run(slots.find_suspects) == {}


def test_what_a_process_died_over_is_known_to_its_successor(world, tmp_path):
    """A real death: a child reads records, and one of them kills it in the middle."""
    path = tmp_path / "webhook-0.flight"

    def die(callback):
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        loop = WebhookLoop(world, [ACCOUNT], lambda account: ListeningEsp(account, die))
        loop.loop._tools.sorter._flight_log = FlightLog(path, BOOT_ID, 1)
        loop.loop._tools.sorter.sort([loop.put(bare())])
        os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    evidence = read_evidence(path)
    assert evidence is not None and evidence.hand.startswith("webhook-sendgrid/0/")
    context = SimpleNamespace(beat=lambda stage, limit: None, is_draining=lambda: False, wait=lambda s: None)
    note_suspect(context, world.database, path, BOOT_ID)
    assert world.run(slots.find_suspects) == {evidence.hand: 1}
    note_suspect(context, world.database, path, "00000000-0000-0000-0000-000000000000")
    assert world.run(slots.find_suspects) == {evidence.hand: 1}, "a death of the machine is nobody's fault"


def test_nobody_is_accused_where_nothing_was_in_hand_or_there_is_no_log(world, tmp_path):
    path = tmp_path / "webhook-0.flight"
    context = SimpleNamespace(beat=lambda stage, limit: None, is_draining=lambda: False, wait=lambda s: None)
    note_suspect(context, world.database, path, BOOT_ID)
    log = FlightLog(path, BOOT_ID, 1)
    log.take_in_hand("webhook-sendgrid/0/1")
    log.let_go()
    log.close()
    note_suspect(context, world.database, path, BOOT_ID)
    assert world.run(slots.find_suspects) == {}


def test_a_dead_letter_of_each_reason_is_counted_by_its_name(world, loop):
    from telemetry import metrics

    def counted():
        return {reason: metrics.DEAD_LETTERS.labels(reason)._value.get() for reason in ("bad-callback", "crashes-worker")}

    before = counted()
    loop.put(json.dumps("no callback").encode())
    accuse(world, loop.put(bare()), DEATHS_MOST)
    loop.turn()
    assert {reason: number - before[reason] for reason, number in counted().items()} == {"bad-callback": 1.0, "crashes-worker": 1.0}
