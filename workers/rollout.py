"""A rollout: replaces the processes of a pool one at a time, so that new settings never stop more than one of them.

It goes on to the next only when the newcomer has beaten. Where newcomers crash it waits, and the others keep their old settings.
"""

from workers.member import Member
from workers.pool import Pool


class Rollout:
    """One pass over all members that lived when it began; call `advance` at every turn of the supervisor's loop."""

    def __init__(self, pool: Pool, drain_limit_s: float):
        self._pool = pool
        self._drain_limit_s = drain_limit_s
        self._waiting = [(member, member.incarnation) for member in pool.members if member.pid]
        self._current: tuple[Member, int] | None = None

    def advance(self) -> None:
        """Ask the next process to drain, if the one before has a successor that beats."""
        if self._current is not None and not _is_replaced(*self._current):
            return
        self._current = None
        while self._waiting and self._current is None:
            member, incarnation = self._waiting.pop(0)
            # one that died since, or that goes anyway, has the new settings already or needs none
            if member.is_wanted and member.incarnation == incarnation and member.pid:
                self._pool.drain(member, self._drain_limit_s)
                self._current = (member, incarnation)

    @property
    def is_done(self) -> bool:
        """Has every process been replaced?"""
        return self._current is None and not self._waiting

    @property
    def left(self) -> int:
        """How many processes still have the old settings."""
        return len(self._waiting) + (self._current is not None)


def _is_replaced(member: Member, incarnation: int) -> bool:
    return not member.is_wanted or (member.incarnation != incarnation and member.has_beaten)
