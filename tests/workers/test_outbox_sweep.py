"""The keeper and the outbox after an outage of Kafka: everything is told, page after page, and nothing is deleted before."""

from types import SimpleNamespace

from db import outbox
from db.outbox import Posting
from mail.ids import new_id
from workers.keeper import OUTBOX_PAGE, Keeper

PAGES = 7


class Broker:
    """A publisher whose broker takes everything, or nothing."""

    def __init__(self):
        self.is_up, self.told, self._waiting = False, [], []

    def publish(self, topic, pairs, on_done):
        self._waiting.append((pairs, on_done))
        return True

    def poll(self):
        waiting, self._waiting = self._waiting, []
        for pairs, on_done in waiting:
            self.told += [value for _, value in pairs] if self.is_up else []
            on_done(self.is_up)

    def flush(self, timeout_s):
        self.poll()
        return self.is_up


def store_old_postings(ledger, count):
    for number in range(count):
        ledger.database.run(lambda c, n=number: outbox.insert(c, Posting(new_id(), "email-events", ("k",), (f"event {n}",))))
    ledger.database.run(lambda c: c.execute("UPDATE outbox SET created_at = now() - interval '10 minutes'"))


def test_many_pages_are_told_in_one_turn_once_kafka_is_back_and_none_is_forgotten_before(ledger):
    broker = Broker()
    keeper = Keeper(SimpleNamespace(worker_name="w"), ledger.database, broker, None)
    count = PAGES * OUTBOX_PAGE + 3
    store_old_postings(ledger, count)
    keeper.sweep_outbox()
    assert (broker.told, ledger.count("outbox")) == ([], count)
    broker.is_up = True
    keeper.sweep_outbox()
    keeper.sweep_outbox()
    assert sorted(broker.told) == sorted(f"event {n}".encode() for n in range(count))
    assert ledger.count("outbox") == 0
