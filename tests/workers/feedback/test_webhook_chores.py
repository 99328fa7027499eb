"""What the webhook loop does every so often, and which batches have to be on record before it."""

from concurrent.futures import Future

import msgspec

from mail.account import Account
from tests.workers.event_world import ListeningEsp, event
from tests.workers.webhook_loop import WebhookLoop
from workers.webhook import LATE_EVERY_S, PROGRESS_EVERY_S


class AtOnce:
    """A recorder of two transactions side by side, each of which has ended before anybody waits for it."""

    width = 2

    def __init__(self, world):
        self._world, self.stages = world, []

    def begin(self, stage, work):
        self.stages.append(stage)
        done = Future()
        done.set_result(self._world.run(lambda cursor: work(cursor, 0)))
        return done

    def finish(self, begun):
        return begun.result()

    def insist(self, stage, work):
        return self.finish(self.begin(stage, work))


def loop_of(world, recorder):
    account = Account("sendgrid", 0, "http://127.0.0.1:1", {})
    loop = WebhookLoop(world, [account], lambda account: ListeningEsp(account, lambda callback: None), recorder=recorder)
    loop.loop.turn()  # every chore is due at the start
    return loop


def test_late_events_are_settled_beside_a_batch_and_what_waits_is_counted_after_it(world):
    recorder, sent = AtOnce(world), world.send()
    loop = loop_of(world, recorder)
    record = loop.put(msgspec.json.encode([event("delivered", sent)]))
    loop.loop.turn()
    recorder.stages.clear()

    loop.now_s += LATE_EVERY_S
    loop.loop.do_chores()
    assert (recorder.stages, loop.source.committed) == (["late events"], [])

    loop.now_s += PROGRESS_EVERY_S
    loop.lag = {("webhook-sendgrid", 0): 3}
    loop.loop.do_chores()
    assert "progress" in recorder.stages
    assert loop.source.committed == [record]
    assert world.status(sent) == "delivered"


def test_what_the_broker_has_leaves_the_outbox_though_another_batch_is_under_way_and_by_one_transaction(world):
    loop = loop_of(world, AtOnce(world))
    left, deleted = [], []
    for _ in range(6):
        loop.put(msgspec.json.encode([event("delivered", world.send())]))
        loop.loop.turn()
        left.append(len(world.rows("SELECT FROM outbox")))
        deleted += loop.loop._under_way[-1].published_ids
    assert left == [1, 2, 3, 3, 3, 3]
    assert len(deleted) == len(set(deleted)) == 3
