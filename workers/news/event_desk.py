"""The event desk: hands outbox rows to the publisher right after their commit, and remembers which the broker has.

A row that is not confirmed stays in the outbox, and the keeper publishes it later: every event goes out at least once. The
desk never waits for the broker.
"""

from collections.abc import Callable, Sequence
from functools import partial

from db.outbox import Posting
from workers.news.publisher import Publisher


class EventDesk:
    """`copy` is shown everything that is published, once, right after its commit; it must neither raise nor wait."""

    def __init__(self, publisher: Publisher, copy: Callable[[Sequence[Posting]], None] = lambda postings: None):
        self._publisher = publisher
        self._copy = copy
        self._delivered: list[str] = []

    def publish(self, postings: Sequence[Posting]) -> None:
        """Give what was just recorded to the broker; a full queue leaves it to the keeper."""
        for posting in postings:
            pairs = [(key.encode() if key else None, value.encode()) for key, value in zip(posting.keys, posting.values, strict=True)]
            self._publisher.publish(posting.topic, pairs, partial(self._note, posting.id))
        self._copy(postings)

    def serve(self) -> None:
        """Let the delivery reports in."""
        self._publisher.poll()

    def delivered(self) -> list[str]:
        """The outbox rows that the broker has and that nobody deleted yet."""
        return list(self._delivered)

    def forget(self, ids: Sequence[str]) -> None:
        """These were deleted."""
        gone = set(ids)
        self._delivered = [id_ for id_ in self._delivered if id_ not in gone]

    def close(self) -> list[str]:
        """Wait a little for the last reports; returns what is delivered and not deleted."""
        self._publisher.close()
        return self.delivered()

    def _note(self, posting_id: str, is_delivered: bool) -> None:
        if is_delivered:
            self._delivered.append(posting_id)
