"""What all processes share: loaded and set up once, before the first fork, so that its pages exist once for all of them.

Whatever a process imports or sets up after its fork is its own memory, eight times for eight workers. Nothing here may start a
thread, open a socket or leave a client behind: none of them lives through a fork.
"""

import ctypes
import gc
from collections.abc import Iterable

from esp import base as esp_base
from esp import http as esp_http
from mail.account import Account
from workers.news import publisher

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 128 << 10


def share(accounts: Iterable[Account]) -> None:
    """Load the adapters of these accounts and what the libraries need but once, then take it all out of the collector's sight: a
    collection in a child would write to every page of it (120 instead of 218 MiB for eight workers, measured 2026)."""
    for account in accounts:
        esp_base.load(account)
    esp_http.trust(esp_http.PUBLIC_AUTHORITIES)
    publisher.set_up_client_library()
    keep_memory_small()
    gc.collect()
    gc.freeze()


def keep_memory_small() -> None:
    """Give freed memory back, in this process and its children. A batch makes megabytes of bodies and drops them; by default glibc
    keeps these, and once more for each thread that made some. Another C library goes its own way."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_ARENA_MAX, 1)
    # naming them also ends their growth: the first large body that is freed would raise both to its size
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
