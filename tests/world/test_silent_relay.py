"""A relay that takes a connection and then says nothing must not hold a worker up mail by mail: the breaker ends it for the rest."""

from pathlib import Path
from typing import Any

import pytest

from routing.breaker import CALLS_LEAST, open_breakers
from tests.workers.ledger_world import job_bytes
from tests.world.wired_loop import CONNECTIONS, WiredLoop, running_fakes

MAILS = 200

pytestmark = pytest.mark.world


def test_a_silent_relay_costs_a_few_time_outs_not_one_for_every_mail(database: dict[str, Any], tmp_path: Path) -> None:
    with running_fakes(tmp_path) as fakes:
        fakes.behave("smtp", hang_after=1)
        loop = WiredLoop(database, tmp_path, fakes, "smtp", breakers=open_breakers(tmp_path / "breakers"))
        loop.wire.timeout_s = 0.3
        try:
            loop.deliver(*[job_bytes(f"j{n}", f"r{n}@silent.example") for n in range(MAILS)])
            statuses = dict(loop.ledger.database.read("SELECT status, count(*) FROM email_jobs GROUP BY status"))
        finally:
            loop.close()
        met = fakes.done("smtp").total()
    # those that were under way when it opened are answered, too
    assert CALLS_LEAST <= met <= CALLS_LEAST + 2 * CONNECTIONS
    assert statuses["uncertain"] + statuses["retrying"] == MAILS
    assert statuses["uncertain"] <= met
