"""What the supervisor loads before it forks, looked at in a fresh interpreter: all is there, and nothing that would not live through a fork."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHARE = """
import gc, os, sys
from mail.account import Account
from workers.supervising import preload

def sockets():
    paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [path for path in paths if os.path.lexists(path) and os.readlink(path).startswith("socket:")]

def anonymous_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) >> 10

preload.share([Account("postmark", 0, "https://api.example.com", {"server_token": "t"})])
"""
# where the large blocks are on the heap, the smaller one comes to lie behind them, and no hole is large enough for it
LARGE_BLOCKS = """
before, pins = anonymous_mib(), []
for _ in range(3):
    blocks = [b"x" * (1 << 20) for _ in range(40)]
    pins.append(bytes(100_000))
    del blocks
print(anonymous_mib() - before < 20)
"""


def answer(program: str) -> str:
    """What a fresh interpreter that has shared prints in the end."""
    asked = subprocess.run([sys.executable, "-c", SHARE + program], cwd=ROOT, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("'esp.postmark' in sys.modules and 'esp.sparkpost' not in sys.modules", "True"),
        ("gc.get_freeze_count() > 10_000", "True"),
        ("len(os.listdir('/proc/self/task'))", "1"),
        ("sockets()", "[]"),
    ],
    ids=["the adapters of the accounts and no others", "frozen", "one thread", "no socket"],
)
def test_before_the_first_fork_there_is(question: str, expected: str) -> None:
    assert answer(f"print({question})") == expected


def test_large_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    """By default glibc takes the size of the first large block that is freed as its new idea of small."""
    assert answer(LARGE_BLOCKS) == "True"
