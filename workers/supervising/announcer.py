"""The announcer: what the supervisor tells systemd, and how often. It never decides anything."""

import time
from collections.abc import Callable, Sequence

from telemetry.sd_notify import Notifier
from workers.supervising.pool import Pool

EVERY_S = 1.0
EXTEND_S = 10.0


class Announcer:
    """Sends READY once all have beaten, and from the turns of the loop WATCHDOG, STATUS where it changed, and pleas for time.

    The watchdog is fed only from the turn that checks the heartbeats: a supervisor that no longer looks is restarted.
    """

    def __init__(self, notifier: Notifier, clock: Callable[[], float] = time.monotonic):
        self._notifier = notifier
        self._clock = clock
        self._next_at_s = 0.0
        self._status = ""
        self.is_ready = False

    def ready(self) -> None:
        """The service does its work (again, after a reload)."""
        self.is_ready = True
        self._notifier.ready()

    def reloading(self) -> None:
        """New settings are being taken on; `ready` ends it."""
        self._notifier.reloading()

    def stopping(self) -> None:
        """The service winds up."""
        self._notifier.stopping()

    def turn(self, status: str, is_ending: bool) -> None:
        """Called at each turn of the loop; repeats itself at most once in EVERY_S."""
        if status != self._status:
            self._status = status
            self._notifier.status(status)
        now_s = self._clock()
        if now_s < self._next_at_s:
            return
        self._next_at_s = now_s + min(EVERY_S, self._notifier.watchdog_interval_s or EVERY_S)
        self._notifier.watchdog()
        if is_ending:
            self._notifier.extend_timeout(EXTEND_S)


def status_of(pool: Pool, doing: str, stopped_lanes: Sequence[str] = ()) -> str:
    """One line for `systemctl status`: what the supervisor does, how many live, which lanes are stopped, who is in a crash loop."""
    up = sum(member.has_beaten for member in pool.members)
    text = f"{doing}: {up} of {len(pool.members)} processes up"
    if stopped_lanes:
        text += f", stopped lanes: {', '.join(stopped_lanes)}"
    looping = [member.name for member in pool.members if member.is_crash_looping]
    return f"{text}, in a crash loop: {', '.join(looping)}" if looping else text
