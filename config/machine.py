"""What the machine gives: how many processors, and which folder to keep state in. It must never change either at import."""

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mail.errors import BadSettings, SettingProblem

_ROOT = 0


def available_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use: its affinity, and a container's quota (cgroup v2: "<µs> <period µs>" or "max ...")."""
    cpus = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()[:2]
        return cpus if allowed == "max" else max(1, min(cpus, -(-int(allowed) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return cpus


def default_state_dir(environ: Mapping[str, str], values: Mapping[str, Any]) -> Path:
    """systemd's StateDirectory, else a folder per user and worker name in the temporary directory."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    worker = re.sub(r"[^A-Za-z0-9._-]", "-", str(values["WORKER_NAME"]))
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"email-worker-{os.geteuid()}-{worker}"


def ensure_state_dir(path: Path) -> Path:
    """Make the folder (0700) where it is missing; returns it.

    Raises BadSettings where it cannot be made or written, belongs to another user than us or root, or others may write in
    it: whoever owns the folder decides what a flight log says. Root's folders are let be, since containers mount those.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        link, folder = path.lstat(), path.stat()
    except OSError as error:
        raise _refused(f"cannot be made ({error.strerror}): name a folder that this user may write") from None
    if not {link.st_uid, folder.st_uid} <= {os.geteuid(), _ROOT}:
        raise _refused("belongs to another user: name a folder of this user's own")
    if folder.st_uid != _ROOT and folder.st_mode & stat.S_IWOTH:
        raise _refused("may be written by anybody: chmod 700 it")
    if not os.access(path, os.W_OK | os.X_OK):
        raise _refused("cannot be written by this user: chown it or name another")
    return path


def _refused(fix: str) -> BadSettings:
    return BadSettings([SettingProblem("STATE_DIR", fix)])
