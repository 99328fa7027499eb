"""Which machine a table is about. A number without it means nothing."""

import os
import platform
from datetime import date
from pathlib import Path


def describe() -> str:
    """One line: processor, cores that this process may use, kernel, Python, date."""
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, {date.today().isoformat()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
