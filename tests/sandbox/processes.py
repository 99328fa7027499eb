"""Which processes are there? Read from /proc, for tests that look for survivors."""

from pathlib import Path


def descendants(pid: int) -> set[int]:
    """Every living process below that one, by parent."""
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found: set[int] = set()
    wave = {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave} - found
        found |= wave
    return found


def is_alive(pid: int) -> bool:
    """Is it there, and not merely waiting to be reaped?"""
    return _status(Path("/proc") / str(pid))[:1] not in ([], ["Z"], ["X"])


def owner(pid: int) -> int:
    """The user id that it runs as."""
    return (Path("/proc") / str(pid)).stat().st_uid


def _parent(entry: Path) -> int:
    return int((_status(entry) or ["", "0"])[1])


def _status(entry: Path) -> list[str]:
    """State letter, parent and so on: what follows the program's name, which may hold anything."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
