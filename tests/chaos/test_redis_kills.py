"""The intake is killed a hundred times with items in hand, before and after they became rows: no email is lost or doubled.

CHAOS_REDIS_KILLS (default 100) says how many die, half of them before their items are rows and half before the acknowledgement.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from sandbox.children import wait_until
from sandbox.fakes.ledger import read_ledger
from sandbox.product import Product
from sandbox.world import World
from tests.chaos.killing import KillLog
from tests.chaos.report import servers
from tests.conftest import postgres_programs, refuse

KILLS = int(os.environ.get("CHAOS_REDIS_KILLS", "100"))
POINTS = ("taken", "stored")
CHANCES = {"taken": 0.2, "stored": 0.35}
SEED = 1
QUEUE = "email-jobs"
FEED, WAITING_MOST = 3, 30
KILLING_LIMIT_S, SETTLING_LIMIT_S = 90.0, 60.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def address(number: int) -> str:
    return f"r{number:05}@redis-kills.example"


def job(number: int) -> bytes:
    value = {"id": f"r{number:05}", "type": "welcome-email", "recipient": {"email": address(number)}, "data": {"name": "Ada"}}
    return json.dumps(value).encode()


def values() -> Iterator[tuple[int, list[bytes]]]:
    """For each number its job, now and then followed by an earlier one again and by a bad one."""
    number = 0
    while True:
        again = [job(number // 2)] if number % 10 == 9 else []
        bad = [b"no json %d" % number] if number % 25 == 24 else []
        yield number, [job(number), *again, *bad]
        number += 1


def items(client: redis.Redis) -> int:
    keys = [QUEUE.encode(), *client.keys(f"{QUEUE}:in-hand:*")]
    return sum(int(client.llen(key)) for key in keys)  # type: ignore[arg-type]


def taken(world: World) -> Counter[str]:
    return Counter(line["recipient"] for esp in world.esp_addresses for line in read_ledger(world.ledger(esp)))


def kill_and_push(client: redis.Redis, kill_log: KillLog) -> int:
    """Push a few items at a time until enough have died at each point; returns how many jobs were asked for."""
    kill_log.arm(*POINTS)
    until_s = time.monotonic() + KILLING_LIMIT_S
    source = values()
    asked = 0
    while time.monotonic() < until_s:
        deaths = kill_log.counts()
        kill_log.disarm(*(point for point in POINTS if deaths[point] >= KILLS / 2))
        if all(deaths[point] >= KILLS / 2 for point in POINTS):
            break
        wait_until(lambda: items(client) < WAITING_MOST, 30, "the intake to take")
        for _ in range(FEED):
            number, pushed = next(source)
            asked = number + 1
            client.rpush(QUEUE, *pushed)
    kill_log.disarm(*POINTS)
    return asked


def test_an_intake_that_dies_with_items_in_hand_loses_nothing_and_doubles_nothing(server_folder: Path) -> None:
    with World(server_folder / "redis-kills", postgres_programs=postgres_programs()) as world:
        if world.redis.kind == "fake":
            refuse("a real Redis is needed")
        print(f"\n{servers(world)}", flush=True)
        kill_log = KillLog(world.folder / "kills")
        points = ",".join(f"{point}:{chance}" for point, chance in CHANCES.items())
        product = Product(world, 2, {"FAILPOINTS": f"{points};{kill_log.folder};{SEED}", "LOG_LEVEL": "info"})
        product.prepare()
        product.start()
        with redis.Redis.from_url(world.redis.url) as client:
            began_s = time.monotonic()
            asked = kill_and_push(client, kill_log)
            deaths, killing_s = kill_log.counts(), time.monotonic() - began_s
            wanted = Counter(map(address, range(asked)))
            wait_until(
                lambda: items(client) == 0 and wanted <= taken(world), SETTLING_LIMIT_S, "every email", lambda: str(product.counts())
            )
        with closing(product.database()) as database:
            statuses = dict(database.read("SELECT status, count(*) FROM email_jobs GROUP BY status"))
            [(dead,)] = database.read("SELECT count(*) FROM dead_letters")
        assert product.stop() == 0
        got = taken(world)
    lost, doubled = wanted - got, got - wanted
    print(f"\nkilled {dict(deaths)} in {killing_s:.0f} s; asked {asked}, lost {lost.total()}, doubled {doubled.total()}")
    assert not lost and not doubled
    assert statuses == {"sent": asked}
    assert dead == asked // 25
    assert min(deaths[point] for point in POINTS) >= KILLS / 2
