"""A supervisor of toy roles as a program of its own: python -m tests.workers.toy_supervisor STATE_DIR steady=2 crasher=1 ...

Its settings are STATE_DIR/settings.json ({"drain_timeout_s", "version", "roles"}), read again at HUP; "bad" there makes them invalid.
The first role is the one that TTIN and TTOU speak of.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import telemetry.log
from mail.errors import BadSettings, SettingProblem
from telemetry.sd_notify import forget, from_environment
from workers.roles import Role
from workers.supervising.announcer import Announcer
from workers.supervising.shared import Shared
from workers.supervising.signals import block_served
from workers.supervising.state_files import take_lock
from workers.supervising.supervision import Supervisor, Surroundings


def load(state_dir: Path) -> SimpleNamespace:
    values = json.loads((state_dir / "settings.json").read_text())
    if "bad" in values:
        raise BadSettings([SettingProblem("TOY", "be good")])
    return SimpleNamespace(**values, state_dir=state_dir, log_level="info", worker_name="toy")


def table(settings: SimpleNamespace) -> list[Role]:
    def count_of(name: str):
        return lambda settings: settings.roles[name]

    def duty(settings: SimpleNamespace, slot: int, workers: int) -> bool:
        return workers >= getattr(settings, "duty_changes_at", 0)

    return [Role(name, "tests.workers.toys", count_of(name), n == 0, duty) for n, name in enumerate(settings.roles)]


def main() -> int:
    gc.disable()
    state_dir = Path(sys.argv[1])
    settings = load(state_dir)
    block_served()
    telemetry.log.configure("info", False, role="supervisor")
    if not take_lock(state_dir, patience_s=0.2):
        return 3
    notifier = from_environment(os.environ)
    forget(os.environ)
    around = Surroundings(
        load_settings=lambda: load(state_dir),
        configure_log=lambda settings: None,
        announce=lambda name: None,
        tidy=lambda death: None,
        announcer=Announcer(notifier),
    )
    supervisor = Supervisor(settings, table(settings), Shared(4096), around)
    gc.collect()
    gc.freeze()
    supervisor.run()
    return 0


if __name__ == "__main__":
    # a test may have started us with signals ignored
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.exit(main())
