"""Talking to systemd: READY, STATUS, WATCHDOG, RELOADING, STOPPING and more time, by one datagram each.

Only the supervisor speaks; its children must not, so it calls `forget` before it forks. No socket is kept between two
messages, and nothing here may fail the caller: without systemd every call does nothing and returns False.
Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) on Type=notify-reload.
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_USEC = 1_000_000
_MAX_STATUS = 500


class Notifier:
    """`address` is NOTIFY_SOCKET's value ("" = not under systemd): a path, or "@" and a name in the abstract namespace.

    `watchdog_s` is how long systemd waits for a `watchdog` before it restarts us, None where it does not watch.
    """

    def __init__(self, address: str, watchdog_s: float | None = None):
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call `watchdog`: half of what systemd waits (sd_watchdog_enabled(3)); None = never."""
        return self.watchdog_s / 2 if self.watchdog_s else None

    def ready(self, status: str = "") -> bool:
        """Tell that the service is up, also after a reload."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """Show one line in `systemctl status`."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        """Tell that the loop which watches the workers goes round. Does nothing where systemd does not watch us."""
        return self.watchdog_s is not None and self._send("WATCHDOG=1")

    def reloading(self, status: str = "", monotonic_ns: int | None = None) -> bool:
        """Tell that a reload began; `ready` ends it. Without the time systemd 253 and later would wait for minutes."""
        now_ns = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """Tell that the service is on its way down."""
        return self._send("STOPPING=1", *_status(status))

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for this much more time to start, reload or stop, counted from now; repeat it before it has passed."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(1, int(seconds * _USEC))}")

    def _send(self, *lines: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError:
            return False
        return True


def from_environment(environ: Mapping[str, str], pid: int | None = None) -> Notifier:
    """The notifier for this process. The watchdog counts only where WATCHDOG_PID is absent or names `pid`."""
    address = environ.get("NOTIFY_SOCKET", "")
    is_known_kind = address.startswith(("/", "@")) and len(address) > 1
    return Notifier(address if is_known_kind else "", _watchdog_s(environ, os.getpid() if pid is None else pid))


def forget(environ: MutableMapping[str, str]) -> None:
    """Take systemd's variables out of the environment, so that no child speaks for us."""
    for name in VARIABLES:
        environ.pop(name, None)


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    usec, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or int(usec) == 0 or watched not in ("", str(pid)):
        return None
    return int(usec) / _USEC


def _status(text: str) -> list[str]:
    # a line break would start another variable
    return [f"STATUS={' '.join(text.split())[:_MAX_STATUS]}"] if text else []
