"""Callbacks that were refused while a secret was wrong: brought back, verified once more, and applied, each once."""

import msgspec
import pytest

from mail.account import Account
from mail.errors import BadCallback
from tests.operations.console import Console
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers.feedback import postponed

pytestmark = pytest.mark.thorough


@pytest.fixture
def dlq(database, tmp_path):
    return lambda *words: Console(database, tmp_path).call("dlq", *words)


class Secret:
    """What callbacks are verified with; the times are those that each was judged by."""

    def __init__(self):
        self.is_right, self.times = False, []

    def verify(self, callback):
        self.times.append(callback.received_at_s)
        if not self.is_right:
            raise BadCallback("the callback's signature is wrong")


@pytest.fixture
def secret():
    return Secret()


@pytest.fixture
def loop(world, secret):
    return WebhookLoop(world, [Account("sendgrid", 0, "http://127.0.0.1:1", {})], lambda account: ListeningEsp(account, secret.verify))


def turn_later(loop):
    loop.world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET check_at = now()"))
    loop.now_s += postponed.RETRY_S
    loop.turn()


def letters(world, state):
    return world.count("dead_letters", f"replayed_at IS {'' if state == 'waiting' else 'NOT '}NULL")


def test_what_was_refused_while_a_secret_was_wrong_is_applied_once(world, loop, secret, dlq):
    sent = world.send()
    loop.put(msgspec.json.encode([event("delivered", sent), event("opened", sent, after_s=60)]))
    loop.turn()
    assert (letters(world, "waiting"), world.status(sent)) == (1, "sent")
    secret.is_right = True
    assert "1 replayed" in dlq("replay", "--reason", "bad-callback").text
    assert "no dead letter fits" in dlq("replay", "--reason", "bad-callback").text
    turn_later(loop)
    turn_later(loop)
    assert (world.status(sent), world.counters(sent)) == ("opened", {"delivered": 1, "opened": 1})
    assert (letters(world, "waiting"), letters(world, "settled"), world.count("postponed_callbacks")) == (0, 1, 0)
    (row,) = world.rows("SELECT EXTRACT(EPOCH FROM created_at)::float8 AS s FROM dead_letters")
    assert secret.times == [None, pytest.approx(row["s"], abs=0.01)], "a signature is as old as it was when it was refused"


def test_what_is_refused_again_waits_as_a_letter_of_its_own(world, loop, secret, dlq):
    loop.put(msgspec.json.encode([event("delivered", world.send())]))
    loop.turn()
    for times in (1, 2):
        dlq("replay", "--all")
        turn_later(loop)
        assert (letters(world, "waiting"), letters(world, "settled")) == (1, times)
    assert {row["topic"] for row in world.rows("SELECT source->>'topic' AS topic FROM dead_letters")} == {"webhook-sendgrid"}
