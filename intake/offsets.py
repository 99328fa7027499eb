"""Which records of one partition are in hand, and up to where they may be committed. Pure bookkeeping.

An offset may only be committed when every record before it is handled; a gap in the offsets themselves (a compacted or
transactional topic) is none.
"""

from collections import deque
from collections.abc import Iterable

IN_HAND_MOST = 100_000


class Offsets:
    """One partition during one assignment: made when the partition comes, thrown away when it goes.

    More than IN_HAND_MOST records in hand mean that somebody forgot to commit one: that is a bug, and RuntimeError ends the
    worker, whose successor gets them all again.
    """

    __slots__ = ("_end", "_handled", "_in_hand", "first", "last", "next_to_commit")

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = -1
        self.next_to_commit: int | None = None
        self._end: int | None = None
        self._in_hand: deque[int] = deque()
        self._handled: set[int] = set()

    @property
    def position(self) -> int | None:
        """Before it everything is handled, by us or by who had the partition before; None = not known."""
        if self._in_hand:
            return self._in_hand[0]
        return max((offset for offset in (self.next_to_commit, self._end) if offset is not None), default=None)

    def note_end(self, offset: int) -> None:
        """The partition ends here, behind what was handed out: there may be a gap, and there is nothing more."""
        self._end = offset

    def note_delivered(self, offset: int) -> None:
        """This record was handed out; offsets come in ascending order."""
        if self.first is None:
            self.first = offset
        self.last = offset
        self._in_hand.append(offset)
        if len(self._in_hand) > IN_HAND_MOST:
            raise RuntimeError("a record was handed out and never committed")

    def has_delivered(self, offset: int) -> bool:
        """Was this record handed out during this assignment? One from before was not: it will come again."""
        return self.first is not None and self.first <= offset <= self.last

    def note_handled(self, offsets: Iterable[int]) -> bool:
        """These records are handled. True where `next_to_commit` moved; it never moves back."""
        self._handled.update(offset for offset in offsets if self.has_delivered(offset))
        before = self.next_to_commit
        while self._in_hand and self._in_hand[0] in self._handled:
            offset = self._in_hand.popleft()
            self._handled.discard(offset)
            self.next_to_commit = offset + 1
        return self.next_to_commit != before
