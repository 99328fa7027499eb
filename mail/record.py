"""A record: what a source hands to the loop. Bytes as they came, and where they came from."""

from typing import Any

import msgspec

from mail.job import Lane


class Standing(msgspec.Struct, frozen=True):
    """What the ledger knows about a job whose row exists already.

    `attempt_id` is its newest attempt ("" = none yet): whoever opens the next one must still find this value (compare and set).
    `only_provider`: an earlier attempt at this ESP is in doubt, and no other may carry the email ("" = any).
    `waits` is how often it was put off.
    `is_cancelled`: a cancel came while it could not end; no further attempt may be opened.
    """

    row_id: str
    status: str
    attempt_id: str
    attempts: int
    retry_count: int
    generation: int
    content_hash: bytes
    has_payload: bool
    last_provider: str
    waiting_since_s: float
    only_provider: str = ""
    waits: int = 0
    is_cancelled: bool = False


class Record(msgspec.Struct, frozen=True):
    """`value` are the original bytes (None = a tombstone). A Kafka record names topic, partition and offset;
    a due row has topic "row:<row id>" and brings its `standing`, `index` says which email of the value it is, and
    `stored_source` where the value came from at first. `received_at_s` is the Kafka record's own time (Unix seconds), where it has one.
    """

    value: bytes | None
    lane: Lane
    topic: str
    partition: int = -1
    offset: int = -1
    index: int | None = None
    standing: Standing | None = None
    stored_source: dict[str, Any] | None = None
    received_at_s: float | None = None

    @property
    def source(self) -> dict[str, Any]:
        """Where the bytes first came from, as dead letters tell it."""
        if self.stored_source is not None:
            return self.stored_source
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}

    @property
    def name(self) -> str:
        """How the flight log and the logs call this record."""
        return self.topic if self.standing else f"{self.topic}/{self.partition}/{self.offset}"
