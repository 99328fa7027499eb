"""The promise, proved: thousands of jobs by every way in, everything killed that can be, and the fakes' ledgers have each mail once.

CHAOS_JOBS (default 20,000) says how many jobs, CHAOS_STORM_SEEDS (default 1) names the runs. The plan of a run follows from its seed.
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
from tests.chaos.weather import Size
from tests.conftest import postgres_programs, refuse

JOBS = int(os.environ.get("CHAOS_JOBS") or "20000")
SEEDS = [int(seed) for seed in (os.environ.get("CHAOS_STORM_SEEDS") or "1").split(",")]
KILLS, INTAKE_KILLS = 80, 100

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


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
        storm = StormRun(world, seed, Size(JOBS, KILLS, INTAKE_KILLS)).run()
    print(storm_table(storm, time.monotonic() - began_s), flush=True)
    assert not storm.red, storm.explain()
