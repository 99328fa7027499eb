"""The supervisor: `python supervisor.py --workers 8`.

Checks the settings, makes the shared memory, lets a short-lived child check the database, forks the roles and looks after them.
It must never own a thread, a socket, a database or a Kafka handle: they would be broken in every child.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from setproctitle import setproctitle

import telemetry.log
from config.machine import ensure_state_dir
from config.settings import load_settings
from mail.errors import BadSettings
from routing.snapshot import SIZE_BYTES as SNAPSHOT_BYTES
from telemetry import metric_files, sd_notify
from workers.base import EXIT_BAD_SETTINGS, EXIT_CANNOT_START, EXIT_CRASH, EXIT_DONE
from workers.roles import ROLES, Role
from workers.supervising import preload
from workers.supervising.announcer import Announcer
from workers.supervising.pool import Death
from workers.supervising.shared import Shared
from workers.supervising.short_child import STOPPED_BY_SIGNAL, run_in_child
from workers.supervising.signals import block_served
from workers.supervising.state_files import take_lock
from workers.supervising.supervision import Supervisor, Surroundings

if TYPE_CHECKING:
    from config.settings import Settings

log = telemetry.log.get("supervisor")

BOOT_CHECK_LIMIT_S = 60.0
SEED_LIMIT_S = 600.0

DESCRIPTION = "Deliver email through many providers: fork the worker processes and keep them running."
EPILOG = """\
settings:
  From the environment, then from the file that --env-file names. All problems are listed at once.

signals (to this process only; its children die with it):
  TERM, INT    finish what is in hand, then leave; a second one: leave at once
  QUIT         leave at once; what was on the wire is settled at the next start
  HUP          read the settings again; where they are good, replace the processes one by one, else keep the old ones.
               Code, STATE_DIR and the environment itself are only read at a start.
  TTIN, TTOU   one delivery worker more, one less
  USR1         write what every process does now to the log

exit codes:
  0  stopped as asked
  1  the supervisor crashed
  3  could not start: the database is away or not migrated, or another supervisor runs with this STATE_DIR
  4  bad settings, bad arguments or a STATE_DIR that cannot be used; nothing was started
"""


class Parser(argparse.ArgumentParser):
    """argparse, but bad arguments end with the exit code of bad settings: systemd must not try them again."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_BAD_SETTINGS, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None, roles: Sequence[Role] = ROLES) -> int:
    """Run the supervisor with these arguments; returns its exit code."""
    # collecting now would leave holes in the pages that the children are to share
    gc.disable()
    arguments = _parser().parse_args(argv)
    try:
        settings = _load(arguments)
    except BadSettings as bad:
        _print_problems(bad)
        return EXIT_BAD_SETTINGS
    block_served()
    _configure_log(settings)
    for notice in settings.notices():
        log.warning("settings", notice=notice)
    setproctitle(f"email-worker: supervisor {settings.worker_name}")
    try:
        return _start(arguments, settings, roles)
    except Exception:
        log.exception("the supervisor crashed")
        return EXIT_CRASH


def _parser() -> Parser:
    parser = Parser("supervisor.py", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", metavar="N", help="delivery processes; wins over WORKER_CONCURRENCY (default: one per CPU)")
    parser.add_argument(
        "--env-file", type=Path, default=Path(".env"), metavar="FILE", help="more settings, NAME=value lines (default: .env)"
    )
    once = parser.add_mutually_exclusive_group()
    once.add_argument("--check", action="store_true", help="check settings, database and migrations, then leave; starts no worker")
    once.add_argument("--seed", action="store_true", help="put example templates and users into the database, then leave")
    return parser


def _load(arguments: argparse.Namespace) -> Settings:
    """Settings and their folder; raises BadSettings with every problem."""
    given = {} if arguments.workers is None else {"WORKER_CONCURRENCY": arguments.workers}
    settings = load_settings({**os.environ, **given}, arguments.env_file)
    ensure_state_dir(settings.state_dir)
    return settings


def _print_problems(bad: BadSettings) -> None:
    print(f"email-worker cannot start, {len(bad.problems)} setting(s) to mend:", file=sys.stderr)
    for problem in bad.problems:
        print(f"  {problem.name}: {problem.fix}", file=sys.stderr)


def _configure_log(settings: Settings) -> None:
    telemetry.log.configure(settings.log_level, sys.stderr.isatty(), worker=settings.worker_name, role="supervisor", pid=os.getpid())
    telemetry.log.hide(settings.secrets())


# -- the steps of a start ----------------------------------------------------------------------------------------------


def _start(arguments: argparse.Namespace, settings: Settings, roles: Sequence[Role]) -> int:
    if arguments.check:
        return _finish(_check(settings))
    if arguments.seed:
        return _finish(_check(settings) or _seed(settings))
    if not take_lock(settings.state_dir):
        log.error("could not start: another supervisor runs with this STATE_DIR", folder=str(settings.state_dir))
        return EXIT_CANNOT_START
    code = _check(settings)
    return _supervise(arguments, settings, roles) if code == EXIT_DONE else _finish(code)


def _supervise(arguments: argparse.Namespace, settings: Settings, roles: Sequence[Role]) -> int:
    folder = metric_files.directory_in(settings.state_dir)
    metric_files.use_directory(folder)
    notifier = sd_notify.from_environment(os.environ)
    sd_notify.forget(os.environ)
    around = Surroundings(
        load_settings=lambda: _load(arguments),
        configure_log=_configure_log,
        announce=metric_files.name_process,
        tidy=lambda death: _tidy(folder, death),
        announcer=Announcer(notifier),
    )
    supervisor = Supervisor(settings, roles, Shared(SNAPSHOT_BYTES), around)
    preload.share(settings.accounts)
    supervisor.run()
    log.info("stopped")
    return EXIT_DONE


def _check(settings: Settings) -> int:
    return run_in_child(lambda: _find_problem(settings), "database check", BOOT_CHECK_LIMIT_S)


def _find_problem(settings: Settings) -> str | None:
    # imported in the child: what it opens and keeps is its own
    from workers.supervising import boot_check

    return boot_check.find_problem(settings)


def _seed(settings: Settings) -> int:
    return run_in_child(lambda: _seed_database(settings), "seed", SEED_LIMIT_S)


def _seed_database(settings: Settings) -> None:
    from operations import seed

    seed.run(settings)


def _finish(code: int) -> int:
    """A start that a signal ended was stopped as asked."""
    return EXIT_DONE if code == STOPPED_BY_SIGNAL else code


def _tidy(folder: Path, death: Death) -> None:
    """Clear up what a dead process left; restarts are counted in its heartbeat cell, which the exporter reads."""
    try:
        metric_files.clean_up(folder, death.member.name)
    except OSError as error:
        log.error("metric files could not be cleaned up", member=death.member.name, problem=str(error))


if __name__ == "__main__":
    sys.exit(main())
