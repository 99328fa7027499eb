"""kill -9 cannot fool the ledger: hundreds of workers die, at named points and anywhere, and no email is lost or doubled.

CHAOS_SEEDS (default 1,2,3) names the runs, CHAOS_KILLS (default 201) and CHAOS_POINT_KILLS (default 21) how many die in all of
them and at each of the five failpoints. A red run is tried again with its seed alone.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import fakes
from sandbox.kafka_jars import missing_programs
from sandbox.world import World
from tests.chaos.report import servers, table
from tests.chaos.run import COUNTED, ChaosRun, Quota, Result
from tests.conftest import postgres_programs, refuse

SEEDS = [int(seed) for seed in (os.environ.get("CHAOS_SEEDS") or "1,2,3").split(",")]
KILLS = int(os.environ.get("CHAOS_KILLS", "201"))
POINT_KILLS = int(os.environ.get("CHAOS_POINT_KILLS", "21"))
QUOTA = Quota(math.ceil(KILLS / len(SEEDS)), math.ceil(POINT_KILLS / len(SEEDS)))
LATENCY: dict[str, Any] = {"latency_ms": 40}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """What came of the runs so far; printed together at the end."""
    collected: list[Result] = []
    yield collected


def run_in_a_world(folder: Path, seed: int, quota: Quota, esps: dict[str, Any]) -> Result:
    """A world of its own for one run."""
    if missing := missing_programs():
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    began_s = time.monotonic()
    options = {"seed": seed} | dict.fromkeys(fakes.names(), esps)
    with World(folder, kafka="apache", esp_options=options, postgres_programs=postgres_programs()) as world:
        versions = servers(world)
        result = ChaosRun(world, seed, quota).run()
    print(f"\n{versions}\n" + table([result], time.monotonic() - began_s), flush=True)
    return result


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_workers_lose_nothing_and_double_nothing(seed: int, server_folder: Path, results: list[Result]) -> None:
    result = run_in_a_world(server_folder / f"chaos-{seed}", seed, QUOTA, LATENCY)
    results.append(result)
    assert not result.red, result.explain()


def test_enough_workers_died_at_every_point(results: list[Result]) -> None:
    if len(results) < len(SEEDS):
        pytest.skip("not every seed was run")
    deaths = sum((result.kills for result in results), Counter[str]())
    print("\n" + table(results, sum(result.killing_s + result.settling_s for result in results)), flush=True)
    assert deaths.total() >= KILLS
    assert {point: deaths[point] for point in COUNTED if deaths[point] < POINT_KILLS} == {}
