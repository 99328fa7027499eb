"""What nobody published in time (its worker died, or it was an operator's command) goes out by the keeper, to the broker and the board."""

from types import SimpleNamespace

from db import outbox
from db.outbox import Posting
from mail.ids import new_id
from workers.keeper import Keeper


class Broker:
    """Takes what it is given, and tells of it at the next poll whether it has it."""

    def __init__(self):
        self.reports, self.is_up = [], False

    def publish(self, topic, pairs, note):
        self.reports.append(note)
        return True

    def poll(self):
        reports, self.reports = self.reports, []
        for note in reports:
            note(self.is_up)


def test_a_dead_letter_that_nobody_published_is_copied_once_the_broker_has_it(ledger):
    posting = Posting(new_id(), "email-dlq", ("j1",), ('{"jobId":"j1"}',))
    ledger.database.run(lambda cursor: outbox.insert(cursor, posting))
    ledger.database.run(lambda cursor: cursor.execute("UPDATE outbox SET created_at = now() - interval '1 hour'"))
    broker, copied = Broker(), []
    keeper = Keeper(SimpleNamespace(worker_name="w"), ledger.database, broker, None, copy=copied.extend)
    for _ in range(3):
        keeper.sweep_outbox()
    assert (copied, ledger.count("outbox")) == ([], 1)
    broker.is_up = True
    for _ in range(3):
        keeper.sweep_outbox()
    assert (copied, ledger.count("outbox")) == ([posting], 0)
