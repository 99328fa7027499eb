"""The contract of a source of records. Every source passes tests/intake/test_contract.py; nothing here has behaviour."""

from collections.abc import Sequence, Set
from typing import Protocol

from mail.job import Lane
from mail.record import Record


class Source(Protocol):
    """Where a worker's records come from. One thread uses it; every call comes back within a bounded time."""

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most `limit` records, waiting at most about `timeout_s` for the first; what is there is not kept waiting for more.

        An empty list says that there is nothing now, also while the other side is away. A record is handed out again only
        after its source was lost and came back, or by another process. A tombstone comes as a record with the value None.
        """

    def commit(self, records: Sequence[Record]) -> None:
        """All these are handled and need never come again. Does not wait, and never raises for records no longer owned.

        Records may be committed in any order: progress is kept only up to the first one that is not handled yet,
        so each record that was handed out must be committed at some time, a skipped one too.
        """

    def owns(self, record: Record) -> bool:
        """Is this record still this worker's to send? False once its partition was taken away, even if that came back since."""

    def keep_alive(self) -> None:
        """Called every now and then while a batch is in hand for long: keeps what is owned without taking more records."""

    def hold_lanes(self, lanes: Set[Lane]) -> None:
        """Hand out nothing of these lanes from now on; whatever is held and not named again goes on where it stopped."""

    def close(self) -> None:
        """Gives everything back, within seconds whatever the other side does. No other call may follow."""
