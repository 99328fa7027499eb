"""The promise, proved: thousands of jobs by every way in, everything killed that can be, and the fakes' ledgers have each mail once.

`make chaos N=100000 SEEDS=4,5` chooses how many jobs (CHAOS_JOBS, 20,000) and which runs (CHAOS_SEEDS, 1). The plan of a run follows
from its seed, and is printed.
"""

import os
import time
from pathlib import Path

import pytest

from sandbox.kafka_jars import missing_programs
from sandbox.world import World
from tests.chaos import weather
from tests.chaos.report import servers, storm_table
from tests.chaos.storm import StormRun
from tests.conftest import postgres_programs, refuse

SIZE = weather.size_for(int(os.environ.get("CHAOS_JOBS") or weather.JOBS))
SEEDS = [int(seed) for seed in (os.environ.get("CHAOS_SEEDS") or "1").split(",")]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900 + SIZE.jobs // 10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_loses_nothing_and_doubles_nothing(seed: int, server_folder: Path) -> None:
    if missing := missing_programs():
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    began_s = time.monotonic()
    with World(
        server_folder / f"storm-{seed}",
        kafka="apache",
        esp_options=weather.esp_options(seed),
        feedback=weather.FEEDBACK,
        postgres_programs=postgres_programs(),
    ) as world:
        if world.redis.kind == "fake":
            refuse("a real Redis is needed")
        print(f"\n{servers(world)}", flush=True)
        storm = StormRun(world, seed, SIZE).run()
    print(storm_table(storm, time.monotonic() - began_s), flush=True)
    assert not storm.red, storm.explain()
