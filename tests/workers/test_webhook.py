"""The loop of the webhook role: what is committed, told and tried again."""

import msgspec
import pytest

from db import watermarks
from mail.account import Account
from mail.errors import BadCallback, StoreUnavailable
from telemetry import metrics
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers import webhook
from workers.pages import ledger_gauges
from workers.roles import ROLES

ACCOUNT = Account("sendgrid", 0, "http://127.0.0.1:1", {})


def bare(*events):
    """A callback in the words of the stand-in ESP."""
    return msgspec.json.encode(list(events))


@pytest.fixture
def loop(world):
    return WebhookLoop(world, [ACCOUNT], ListeningEsp)


def counted(kind, provider="sendgrid"):
    return metrics.WEBHOOK_EVENTS.labels(provider, kind)._value.get()


def test_events_are_recorded_told_and_then_their_offsets_committed(world, loop):
    sent = world.send()
    record = loop.put(bare(event("delivered", sent), event("opened", sent, after_s=99)))
    loop.turn()
    assert world.status(sent) == "opened"
    assert [(topic, key, told["event"]) for topic, key, told in loop.broker.published] == [
        ("email-events", sent.job_id.encode(), "delivered"),
        ("email-events", sent.job_id.encode(), "opened"),
    ]
    assert loop.source.committed == [record]
    assert world.count("outbox") == 0, "what the broker has is deleted when there is time"


def test_every_kind_of_event_is_counted(world, loop):
    sent = world.send()
    one, foreign = event("delivered", sent), event("opened", recipient="nobody@a.test", message_id="x")
    before = {kind: counted(kind) for kind in ("delivered", "repeated", "unmatched", "empty")}
    loop.put(bare(one, foreign))
    loop.put(bare(one))
    loop.put(bare())
    loop.turn()
    assert {kind: counted(kind) - number for kind, number in before.items()} == dict.fromkeys(before, 1.0)


def test_a_tombstone_is_skipped_and_committed(world, loop):
    record = loop.put(None)
    loop.turn()
    assert loop.source.committed == [record]


def test_a_refused_callback_read_again_after_a_crash_is_one_dead_letter(world):
    def refuse(callback):
        raise BadCallback("no")

    loop = WebhookLoop(world, [ACCOUNT], lambda account: ListeningEsp(account, refuse))
    record = loop.put(bare())
    loop.turn()
    loop.source.waiting.append(record)
    loop.turn()
    assert world.count("dead_letters") == 1
    assert len(loop.broker.published) == 1


def test_while_the_store_is_away_nothing_is_committed_and_then_everything_is_applied(world, loop, monkeypatch):
    sent = world.send()
    loop.put(bare(event("delivered", sent)))
    real, answers = world.database.run, iter(["postponed", "suspects", *[StoreUnavailable("gone")] * 3])

    def run(work):
        answer = next(answers, None)
        if isinstance(answer, StoreUnavailable):
            assert loop.source.committed == []
            raise answer
        return real(work)

    monkeypatch.setattr(world.database, "run", run)
    loop.turn()
    assert loop.source.kept_alive == 3
    assert world.status(sent) == "delivered"
    assert len(loop.source.committed) == 1


def test_a_transaction_that_was_committed_unheard_is_repeated_without_effect(world, loop, monkeypatch):
    sent = world.send()
    loop.put(bare(event("delivered", sent)))
    real, answers = world.database.run, iter(["postponed", "suspects", "lost"])

    def run(work):
        result = real(work)
        if next(answers, "") == "lost":
            raise StoreUnavailable("the answer to COMMIT was lost")
        return result

    monkeypatch.setattr(world.database, "run", run)
    loop.turn()
    assert world.counters(sent) == {"delivered": 1}
    assert world.count("outbox") == 1, "it was not published here: the keeper finds it"


def test_events_that_waited_for_their_send_are_applied_by_the_loop(world, loop):
    loop.put(bare(event("delivered", message_id="late")))
    loop.turn()
    sent = world.send(message_id="late")
    world.run(lambda cursor: cursor.execute("UPDATE unmatched_events SET check_at = now()"))
    loop.turn()
    assert world.status(sent) == "delivered"
    assert loop.broker.published[-1][2]["event"] == "delivered"


# -- watermarks --------------------------------------------------------------------------------------------------------


def marks(world):
    found = world.run(lambda cursor: watermarks.marks(cursor, {"sendgrid": "webhook-sendgrid"}))
    return {owner: mark.at for owner, mark in found.items()}


def applied(world):
    """Is it known up to when all callbacks are applied?"""
    (mark,) = world.run(lambda cursor: watermarks.marks(cursor, {"sendgrid": "webhook-sendgrid"})).values()
    return mark.applied_until is not None


def test_a_stranger_who_shares_the_account_does_not_pile_up_what_waits_for_its_send(world, loop):
    """However many events of his mail come in a second, all whose time has come are looked at in the next."""
    pages = 3 * webhook.LATE_PAGE + 1
    for number in range(pages):
        loop.put(bare(event("delivered", recipient=f"r{number}@strange.test", message_id="theirs")))
    loop.turn()
    world.run(lambda cursor: cursor.execute("UPDATE unmatched_events SET check_at = now(), arrived_at = now() - interval '1 hour'"))
    loop.now_s += webhook.LATE_EVERY_S
    loop.loop.turn()
    assert (world.count("unmatched_events"), world.count("email_tracking")) == (0, pages)


def test_the_watermark_of_an_account_is_its_newest_events_time_and_never_goes_back(world, loop):
    sent = world.send()
    newest = event("opened", sent, after_s=500)
    loop.put(bare(newest))
    loop.put(bare(event("delivered", sent, after_s=5)))
    loop.turn()
    loop.put(bare(event("clicked", sent, after_s=50)))
    loop.turn()
    assert marks(world) == {("sendgrid", 0): newest.at}


def test_a_repeat_or_a_foreign_event_shows_as_well_that_the_account_reports(world, loop):
    newest = event("delivered", recipient="nobody@a.test", message_id="x")
    loop.put(bare(newest))
    loop.turn()
    assert marks(world) == {("sendgrid", 0): newest.at}


def test_an_event_from_the_future_says_no_more_than_the_record_that_brought_it(world, loop):
    sent = world.send()
    loop.put(bare(event("delivered", sent, after_s=80_000)), received_at_s=sent_s(sent) + 60)
    loop.turn()
    assert marks(world)["sendgrid", 0].timestamp() == pytest.approx(sent_s(sent) + 60)


def test_a_watermark_says_nothing_before_all_that_was_in_every_partition_then_is_applied(world, loop):
    sendgrid = "webhook-sendgrid"

    def note(first, second):
        """(Handled up to, ends at) of two partitions."""
        loop.partitions = {(sendgrid, 0): first, (sendgrid, 1): second}
        loop.now_s += webhook.PROGRESS_EVERY_S
        loop.turn()
        return applied(world)

    loop.put(bare(event("delivered", world.send())))
    loop.turn()
    assert not applied(world), "nobody has said anything"
    assert not note((5, 5), (None, 3)), "where the second one stands is not known"
    assert not note((7, 9), (0, 3)), "three callbacks wait that were seen"
    assert not note((7, 99), (2, 3)), "one callback is left of those that were seen"
    assert note((9, 99), (3, 50)), "all that was seen is handled, though more waits in both"


def sent_s(sent):
    from mail.ids import time_of

    return time_of(sent.attempt_id)


def test_there_are_as_many_webhook_processes_as_the_settings_say():
    from types import SimpleNamespace

    role = next(role for role in ROLES if role.name == "webhook")
    assert role.how_many(SimpleNamespace(webhook_workers=3)) == 3


def test_the_metrics_page_tells_how_old_each_accounts_newest_event_is(world, loop):
    loop.put(bare(event("delivered", world.send())))
    loop.turn()
    (sample,) = [s for s in ledger_gauges.read(world.database, ()) if s.name == "email_webhook_watermark_seconds"]
    assert sample.labels == {"provider": "sendgrid", "tenant": "0"}
    assert sample.value > 0
