"""An event loop whose timers are not late: a fake that shall answer after 150 ms does not take 151.

epoll counts whole milliseconds, and asyncio rounds up to them. This module must never wake a loop early.
"""

import asyncio
import select
import selectors


class PunctualSelector(selectors.EpollSelector):
    """Waits by select(2) on epoll's own descriptor, which counts microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        select.select([self.fileno()], [], [], timeout)
        return super().select(0)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for asyncio.Runner."""
    return asyncio.SelectorEventLoop(PunctualSelector())
