"""One intake process over a real ledger and a real Redis, held in the test's hands."""

import redis

from db import due
from db.payloads import Vault
from intake.redis_list import IN_HAND, QUEUE, RedisList
from mail.limits import DecodeLimits
from tests.workers.ledger_world import BOOT, Ledger
from tests.workers.loop_world import Desk
from workers.failpoints import Failpoints
from workers.flight.flight_log import FlightLog
from workers.intake import Intake, Tools
from workers.news.redis_link import RedisLink
from workers.news.status_board import StatusBoard
from workers.steps.patience import Patience
from workers.steps.quarantine import Quarantine
from workers.steps.reception import House, Reception
from workers.steps.shelf import Shelf
from workers.steps.store_clock import StoreClock

LANES = ["high", "normal", "bulk"]


class Office:
    """`client` is the producer's side."""

    def __init__(self, parameters, folder, server):
        self.client = redis.Redis.from_url(server.url)
        self.client.flushdb()
        self.queue = RedisList(server.url, "host/intake-0", "boot-1", lambda: self.now_s)
        self._open(parameters, folder, StatusBoard(RedisLink(server.url), "email-dlq"), Failpoints({}, None))

    def _open(self, parameters, folder, board, failpoints):
        self.ledger, self.board, self.failpoints = Ledger(parameters), board, failpoints
        self.now_s, self.batches, self.desk = 1_000.0, 0, Desk()
        self.hand = FlightLog(folder / "intake-0.flight", BOOT, 1)
        self.books = self.ledger.keeper_of(self.ledger.claim(9))
        self.intake = Intake(self._tools())

    def _tools(self):
        points = self.failpoints
        patience = Patience(self.ledger.database, self.queue.keep_alive, self.wait, lambda stage, s: None)
        quarantine = Quarantine(patience)
        house = House(DecodeLimits(), lambda address: not address.startswith("stranger"))
        return Tools(
            queue=self.queue,
            reception=Reception(house, self.books, patience, Shelf(), quarantine, self.hand, points, StoreClock()),
            bookkeeper=self.books,
            patience=patience,
            quarantine=quarantine,
            desk=self.desk,
            board=self.board,
            failpoints=points,
            beat=lambda stage, s: None,
            wait=self.wait,
            note_batch=self.note_batch,
        )

    def wait(self, timeout_s):
        self.now_s += timeout_s

    def note_batch(self, messages):
        self.batches += 1

    def push(self, *values):
        self.client.rpush(QUEUE, *values)
        return self.intake.turn()

    def rows_due(self):
        return self.ledger.database.run(lambda c: due.lease(c, "host/0", LANES, 100, 300, Vault()))

    def left(self):
        return sum(self.client.llen(key) for key in [QUEUE, *self.client.keys(IN_HAND + "*")])

    def status(self, job_id):
        return self.ledger.job(job_id)["status"]

    def reasons(self):
        return sorted(row[0] for row in self.ledger.database.read("SELECT reason FROM dead_letters"))

    def shown(self, job_id):
        self.board.close()
        status = self.client.get(f"email:status:0:{job_id}")
        return status and status.decode()

    def close(self):
        self.board.close()
        self.queue.close()
        self.hand.close()
        self.client.close()
        self.ledger.database.close()
