"""The unit file agrees with the code, and shuts out what it can."""

import shutil
import subprocess
from pathlib import Path

import pytest

from config.settings import load_settings
from supervisor import BOOT_CHECK_LIMIT_S
from workers.base import EXIT_BAD_SETTINGS
from workers.supervising.announcer import EVERY_S
from workers.supervising.member import QUIT_GRACE_S
from workers.supervising.supervision import TURN_S

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "email-worker.service"


@pytest.fixture(scope="module")
def unit() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def default_drain_s() -> float:
    settings = load_settings({"DB_PASSWORD": "none", "EMAIL_FROM_ADDRESS": "shop@example.com"}, None)
    return settings.drain_timeout_s


def test_systemd_waits_longer_than_the_longest_drain(unit):
    assert float(unit["TimeoutStopSec"]) > default_drain_s() + QUIT_GRACE_S + 5


def test_systemd_waits_longer_than_the_database_check(unit):
    assert float(unit["TimeoutStartSec"]) > BOOT_CHECK_LIMIT_S


def test_the_watchdog_is_fed_many_times_before_it_bites(unit):
    assert float(unit["WatchdogSec"]) >= 10 * max(EVERY_S, TURN_S)


def test_bad_settings_are_not_tried_again(unit):
    assert unit["Restart"] == "on-failure"
    assert unit["RestartPreventExitStatus"] == str(EXIT_BAD_SETTINGS)


def test_the_supervisor_drains_its_children_itself_and_one_that_runs_out_of_memory_is_not_the_end(unit):
    assert (unit["Type"], unit["NotifyAccess"], unit["KillMode"], unit["OOMPolicy"]) == ("notify", "main", "mixed", "continue")
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_state_outlives_a_restart(unit):
    assert unit["StateDirectory"] == "email-worker"
    assert "RuntimeDirectory" not in unit


def test_every_group_of_directives_has_its_reason():
    service = UNIT.read_text().split("[Service]\n")[1].split("[Install]")[0]
    groups = [group for group in service.split("\n\n") if group.strip()]
    assert len(groups) > 8
    assert [group for group in groups if not group.strip().startswith("#")] == []


def test_systemd_itself_finds_it_well_shut():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "Unknown option" in ended.stderr or "unrecognized option" in ended.stderr:
        pytest.skip("this systemd cannot check a unit offline")
    assert ended.returncode == 0, ended.stdout[-200:]
