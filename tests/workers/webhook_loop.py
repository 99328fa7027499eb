"""The webhook loop over a real ledger, with records that the test puts in and Kafka left out."""

import itertools
import json

from mail.record import Record
from tests.workers.loop_world import Source
from workers.failpoints import Failpoints
from workers.feedback.callbacks import Sorter
from workers.feedback.postponed import Postponed
from workers.feedback.progress import Progress
from workers.feedback.recorder import Recorder
from workers.news.event_desk import EventDesk
from workers.steps.lag_gauge import LagGauge
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine
from workers.webhook import Tools, Webhook

_offsets = itertools.count()


class Broker:
    """Takes everything that is published, at once."""

    def __init__(self):
        self.published, self._done = [], []

    def publish(self, topic, pairs, on_done):
        self.published += [(topic, key, json.loads(value)) for key, value in pairs]
        self._done.append(on_done)
        return True

    def poll(self):
        for on_done in self._done:
            on_done(True)
        self._done = []

    def close(self):
        self.poll()


class Hand:
    """The flight log's word for what is being read: which records were named, and who is named now."""

    def __init__(self):
        self.named, self.holds = [], ""

    def take_in_hand(self, name):
        self.named.append(name)
        self.holds = name

    def let_go(self):
        self.holds = ""


class WebhookLoop:
    """One worker. `listeners` reads the callbacks of each (provider, tenant); the topic of a provider is "webhook-<provider>".
    `partitions` says of each (topic, number) up to where it is handled, and where it ends."""

    def __init__(self, world, accounts, listener_of, books=None, recorder=None):
        self.world, self.source, self.broker, self.now_s = world, Source(), Broker(), 1000.0
        self.hand, self.partitions = Hand(), {}
        patience = Patience(world.database, self.source.keep_alive, lambda s: None, lambda stage, limit: None)
        recorder = recorder or Recorder([patience], lambda: None)
        quarantine = Quarantine(recorder, lambda: self.now_s)
        providers = {f"webhook-{account.provider}": account.provider for account in accounts}
        self.loop = Webhook(
            Tools(
                source=self.source,
                quarantine=quarantine,
                sorter=Sorter(providers, accounts, listener_of, quarantine, self.hand, Failpoints({})),
                postponed=Postponed(recorder, list(providers), self.source.hold, lambda: self.now_s),
                books=books or world.books,
                recorder=recorder,
                desk=EventDesk(self.broker),
                lag=LagGauge(dict),
                progress=Progress(self._positions, lambda: {place: end for place, (_, end) in self.partitions.items()}),
                beat=lambda stage, limit: None,
                note_batch=lambda count: None,
                clock=lambda: self.now_s,
            )
        )

    def _positions(self):
        return {place: position for place, (position, _) in self.partitions.items()}

    def put(self, value, provider="sendgrid", received_at_s=None):
        """One record of a webhook topic."""
        record = Record(value, "normal", f"webhook-{provider}", 0, next(_offsets), received_at_s=received_at_s)
        self.source.waiting.append(record)
        return record

    def turn(self):
        """Everything that waits, and one idle turn after it."""
        while self.source.waiting:
            self.loop.turn()
        self.loop.finish_all()
        self.now_s += 2.0
        self.loop.turn()


def envelope(body, tenant=None, headers=None, is_raw=True):
    """What the ingress writes for a posted body (text, or parsed where not `is_raw`)."""
    text = body if isinstance(body, str) else json.dumps(body)
    content = {"headers": {name: [value] for name, value in (headers or {}).items()}, "body": text if is_raw else json.loads(text)}
    return json.dumps(content if tenant is None else content | {"tenant": tenant}).encode()
