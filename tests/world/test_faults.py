"""Whatever an ESP does wrong, none of its mails is lost or doubled, and each doubt says which fault it is about.

FAULT_MAILS (default: one round) says how many mails meet the faults of each ESP; `make faults` takes 2,000.
"""

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import fakes as all_fakes
from tests.world.faults import EMAILS_A_ROUND, FAULTS, TENANTS, Run, run, table
from tests.world.wired_loop import Fakes, WiredLoop, running_fakes

ROUNDS = max(1, math.ceil(int(os.environ.get("FAULT_MAILS", "0")) / EMAILS_A_ROUND))

pytestmark = [pytest.mark.thorough, pytest.mark.world, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fakes() -> Iterator[Fakes]:
    with tempfile.TemporaryDirectory(prefix="email-worker-fakes-") as folder, running_fakes(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def runs() -> Iterator[list[Run]]:
    """What came of the runs so far; printed together at the end."""
    collected: list[Run] = []
    yield collected
    if collected:
        print("\n" + table(collected), flush=True)


@pytest.mark.parametrize("provider", all_fakes.names())
def test_no_fault_loses_or_doubles_a_mail_and_every_doubt_names_its_fault(
    provider: str, fakes: Fakes, database: dict[str, Any], tmp_path: Path, runs: list[Run]
) -> None:
    loop = WiredLoop(database, tmp_path, fakes, provider, TENANTS)
    try:
        runs.append(run(loop, ROUNDS))
    finally:
        loop.close()
    assert runs[-1].red == []
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
