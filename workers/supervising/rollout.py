"""A rollout: replaces processes of a pool one at a time, so that new settings never stop more than one of them.

It goes on to the next only when the newcomer has beaten. Where newcomers crash it waits, and the others stay as they are.
"""

from collections.abc import Iterable

from workers.supervising.member import Member
from workers.supervising.pool import Pool


class Rollout:
    """The members that are to be replaced; call `advance` at every turn of the supervisor's loop."""

    def __init__(self, pool: Pool):
        self._pool = pool
        self._waiting: list[tuple[Member, int]] = []
        self._current: tuple[Member, int] | None = None

    def add(self, members: Iterable[Member]) -> None:
        """Replace the processes that live in these slots now."""
        self._waiting += [
            (member, member.incarnation) for member in members if member.pid and (member, member.incarnation) not in self._waiting
        ]

    def advance(self, drain_limit_s: float) -> None:
        """Ask the next process to drain, if the one before has a successor that beats."""
        if self._current is not None and not _is_replaced(*self._current):
            return
        self._current = None
        while self._waiting and self._current is None:
            member, incarnation = self._waiting.pop(0)
            # one that died since, or that goes anyway, has been replaced already or needs no successor
            if member.is_wanted and member.incarnation == incarnation and member.pid:
                self._pool.drain(member, drain_limit_s)
                self._current = (member, incarnation)

    @property
    def is_done(self) -> bool:
        """Has every process been replaced?"""
        return self._current is None and not self._waiting

    @property
    def left(self) -> int:
        """How many processes still are to be replaced."""
        return len(self._waiting) + (self._current is not None)


def _is_replaced(member: Member, incarnation: int) -> bool:
    return not member.is_wanted or (member.incarnation != incarnation and member.has_beaten)
