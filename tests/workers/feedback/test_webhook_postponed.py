"""Callbacks that cannot be verified just now: kept until they can, and nobody else waits for them."""

import msgspec
import pytest

from db import postponed as rows
from db import watermarks
from mail.account import Account
from mail.errors import StoreUnavailable
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers.feedback import callbacks, postponed
from workers.pages import ledger_gauges

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
def open_loop(world, certificate):
    verify = {"sendgrid": certificate.verify, "postmark": lambda callback: None}
    return lambda: WebhookLoop(world, ACCOUNTS, lambda account: ListeningEsp(account, verify[account.provider]))


@pytest.fixture
def loop(open_loop):
    return open_loop()


def turn_later(loop, days=0):
    """So much later that everything may be tried again."""
    age = "UPDATE postponed_callbacks SET check_at = now(), stored_at = stored_at - %(days)s * interval '1 day' WHERE value IS NOT NULL"
    loop.world.run(lambda cursor: cursor.execute(age, {"days": days}))
    loop.now_s += postponed.RETRY_S
    loop.loop.turn()
    loop.loop.finish_all()


def lease(world, limit=10, bytes_most=1 << 20):
    """How many another worker gets."""
    return len(world.run(lambda cursor: rows.lease(cursor, ["webhook-sendgrid"], limit, bytes_most, 60.0)))


def waiting(world):
    return world.count("postponed_callbacks", "value IS NOT NULL")


def test_the_line_goes_on_and_it_is_applied_when_it_can_be_verified(world, loop, certificate):
    sent, other = world.send(), world.send("bob@a.test", provider="postmark")
    late = loop.put(bare(event("delivered", sent)), received_at_s=1_790_000_000.0)
    prompt = loop.put(bare(event("delivered", other, provider="postmark")), "postmark")
    loop.turn()
    assert (world.status(sent), world.status(other)) == ("sent", "delivered")
    assert loop.source.committed == [late, prompt], "it is a row now"
    for _ in range(5):
        turn_later(loop)
    assert (world.count("dead_letters"), waiting(world), world.status(sent)) == (0, 1, "sent")
    certificate.is_there = True
    turn_later(loop)
    assert world.status(sent) == "delivered"
    assert world.count("postponed_callbacks") == world.count("dead_letters") == 0


def test_it_is_read_as_if_it_came_now_with_its_own_time(loop, monkeypatch):
    seen = []
    loop.put(bare(), received_at_s=1_790_000_000.25)
    loop.turn()
    real = callbacks.read_envelope
    monkeypatch.setattr(callbacks, "read_envelope", lambda value, at: (seen.append((value, at)), real(value, at))[1])
    turn_later(loop)
    assert seen == [(bare(), 1_790_000_000.25)]


def test_the_longer_it_waits_the_more_seldom_it_is_tried(world, loop):
    loop.put(bare())
    loop.turn()
    delays = []
    for days in (0, 0.005, 1):
        turn_later(loop, days)
        (row,) = world.rows("SELECT EXTRACT(EPOCH FROM check_at - now())::float8 AS s FROM postponed_callbacks")
        delays.append(row["s"])
    assert 0 < delays[0] <= rows.SOONEST_S < delays[1] < delays[2] <= rows.LATEST_S


@pytest.mark.parametrize("limit", [("ROWS_MOST", 3), ("BYTES_MOST", 1_000)])
def test_where_too_many_wait_no_more_of_their_topic_is_taken_but_all_of_the_others(
    world, loop, certificate, monkeypatch, expect_errors, limit
):
    monkeypatch.setattr(rows, *limit)
    sent = world.send(provider="postmark")
    for _ in range(3):
        loop.put(bare() + b" " * 400)
    loop.turn()
    turn_later(loop)
    held = loop.put(bare())
    loop.put(bare(event("delivered", sent, provider="postmark")), "postmark")
    for _ in range(3):
        turn_later(loop)
    assert world.status(sent) == "delivered"
    assert loop.source.waiting == [held]
    certificate.is_there = True
    for _ in range(3):
        turn_later(loop)
    assert (loop.source.waiting, waiting(world)) == ([], 0)
    assert ["no more of their topic" in line.getMessage() for line in expect_errors] == [True], "it is told once"


def test_what_could_not_be_verified_for_days_is_a_dead_letter_and_no_silence_is_believed_since(world, loop, certificate):
    record = loop.put(bare(event("bounced", world.send("bob@a.test"))))
    loop.turn()
    turn_later(loop, rows.KEEP_DAYS - 1)
    assert world.count("dead_letters") == 0
    turn_later(loop, 2)
    (letter,) = world.rows("SELECT reason, error, value, source FROM dead_letters")
    assert (letter["reason"], bytes(letter["value"])) == ("bad-callback", record.value)
    assert "14 days: no certificate" in letter["error"]
    assert letter["source"] == record.source
    certificate.is_there = True
    asked = certificate.asked
    turn_later(loop)
    assert (certificate.asked, waiting(world), world.count("postponed_callbacks")) == (asked, 0, 1)
    loop.put(bare(event("delivered", provider="postmark")), "postmark")
    loop.put(bare(event("opened")))
    turn_later(loop)
    marks = world.run(lambda cursor: watermarks.marks(cursor, {each.provider: f"webhook-{each.provider}" for each in ACCOUNTS}))
    assert {provider: mark.unread_until is None for (provider, _), mark in marks.items()} == {"postmark": True, "sendgrid": False}
    assert world.run(lambda cursor: rows.forget_old(cursor, 2)) == 0, "a doubt as old as it may be there"
    assert world.run(lambda cursor: rows.forget_old(cursor, 0)) == 1


def test_what_one_worker_tries_again_the_others_leave_alone_until_it_is_dead(world, open_loop):
    loop = open_loop()
    loop.put(bare())
    loop.turn()
    world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET check_at = now()"))
    assert lease(world) == 1
    assert lease(world) == 0
    world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET check_at = check_at - interval '61 seconds'"))
    assert lease(world) == 1


def test_no_more_is_tried_at_once_than_a_worker_should_hold(world, loop):
    for _ in range(5):
        loop.put(bare() + b" " * 998)
    loop.turn()
    world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET check_at = now()"))
    assert [lease(world, bytes_most=2_500), lease(world, limit=1), lease(world, bytes_most=1)] == [3, 1, 1]


def test_read_anew_from_kafka_beside_its_own_row_it_is_one_and_counts_once(world, loop, certificate):
    sent = world.send()
    record = loop.put(bare(event("delivered", sent)))
    loop.turn()
    for is_there in (False, True):
        certificate.is_there = is_there
        loop.source.waiting.append(record)
        turn_later(loop)
        assert waiting(world) == (0 if is_there else 1)
    assert world.counters(sent) == {"delivered": 1}
    assert world.count("email_tracking") == 1


def test_a_store_that_goes_away_while_it_is_recorded_loses_nothing(world, loop, certificate, monkeypatch):
    sent = world.send()
    loop.put(bare(event("delivered", sent)))
    loop.turn()
    certificate.is_there = True
    real, failures = loop.loop._tools.books.record, [StoreUnavailable("away"), StoreUnavailable("away")]

    def record(cursor, *arguments):
        findings = real(cursor, *arguments)
        if failures:
            raise failures.pop()
        return findings

    monkeypatch.setattr(loop.loop._tools.books, "record", record)
    turn_later(loop)
    assert (world.status(sent), waiting(world), failures) == ("delivered", 0, [])


def test_one_that_was_postponed_and_turns_out_to_be_forged_is_a_dead_letter(world, loop, certificate):
    loop.put(b'{"no": "event"')
    loop.put(bare())
    loop.turn()
    assert (world.count("dead_letters"), waiting(world)) == (1, 1)
    world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET value = 'x'"))
    turn_later(loop)
    assert (world.count("dead_letters"), world.count("postponed_callbacks")) == (2, 0)


def test_one_line_tells_of_all_of_them(loop, caplog):
    for _ in range(30):
        loop.put(bare())
    loop.loop.turn()
    (line,) = [record for record in caplog.records if "cannot be verified" in record.getMessage()]
    assert line.levelname == "WARNING"


def test_the_metrics_page_tells_how_many_wait(world, loop):
    for _ in range(3):
        loop.put(bare())
    loop.turn()
    (sample,) = [s for s in ledger_gauges.read(world.database, ()) if s.name == "email_postponed_callbacks"]
    assert (sample.labels, sample.value) == ({"topic": "webhook-sendgrid"}, 3.0)
