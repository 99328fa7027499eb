"""What processes cost, as the kernel counts it: CPU time of a process with its children, and memory without double counting."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """CPU seconds in user and kernel mode together, of a process and of those of its children that have ended."""

    parent: int
    own_s: float
    reaped_s: float


def usage(pid: int) -> Usage | None:
    """None where the process has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, kernel, reaped_user, reaped_kernel = (int(number) / _TICKS for number in fields[11:15])
    return Usage(int(fields[1]), user + kernel, reaped_user + reaped_kernel)


def tree_cpu_s(root: int) -> float:
    """CPU seconds of a process and of all its descendants, the ended ones included."""
    found = {pid: used for pid in _pids() if (used := usage(pid))}
    return sum(used.own_s + used.reaped_s for pid, used in found.items() if _descends(pid, root, found))


def cpu_s(pid: int) -> float:
    """CPU seconds of one process alone; 0 where it has gone."""
    used = usage(pid)
    return used.own_s if used else 0.0


def pss_mib(pid: int) -> float:
    """Proportional set size: private pages, and of each shared page this process's part. Sums over processes are true."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _descends(pid: int, root: int, found: dict[int, Usage]) -> bool:
    while pid in found:
        if pid == root:
            return True
        pid = found[pid].parent
    return False
