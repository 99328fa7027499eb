"""Due rows and Kafka records in one list: what a delivery worker polls. Neither may starve the other."""

from collections.abc import Mapping, Sequence, Set

from intake.due import DueSource
from intake.kafka import KafkaSource
from mail.job import Lane
from mail.record import Record


class CombinedSource:
    """Up to half of each batch are due rows, by their own clock; Kafka fills the rest."""

    def __init__(self, kafka: KafkaSource, due: DueSource):
        self._kafka = kafka
        self._due = due
        self._is_rows_turn = False

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """Rows first, so that an error of the database cannot cost Kafka records that were already taken."""
        rows = self._due.poll(self._share_of_rows(limit), 0.0)
        wait_s = 0.0 if rows else min(timeout_s, self._due.wait_s())
        return rows + self._kafka.poll(limit - len(rows), wait_s)

    def commit(self, records: Sequence[Record]) -> None:
        """Kafka's offsets move on; rows need nothing."""
        self._kafka.commit([record for record in records if not self._due.owns(record)])

    def owns(self, record: Record) -> bool:
        """Asks the source that the record came from."""
        return self._due.owns(record) or self._kafka.owns(record)

    def keep_alive(self) -> None:
        """Keeps the partitions; rows need nothing."""
        self._kafka.keep_alive()

    def hold_lanes(self, lanes: Set[Lane]) -> None:
        """Both hold them."""
        self._kafka.hold_lanes(lanes)
        self._due.hold_lanes(lanes)

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Records waiting per (topic, partition)."""
        return self._kafka.lag()

    def close(self) -> None:
        """Leaves the consumer group; leases run out by themselves."""
        self._kafka.close()

    def _share_of_rows(self, limit: int) -> int:
        """Half; of an odd limit the middle one by turns, so that even a limit of 1 serves both."""
        self._is_rows_turn = not self._is_rows_turn
        return (limit + self._is_rows_turn) // 2
