"""How what one poll brought is cut: by size, since one record can ask for a thousand emails."""

from collections.abc import Iterator, Sequence

from mail.record import Record

PORTION_BYTES = 1 << 20  # a thousand personalizations need about 60 KB at least


def portions(records: Sequence[Record], most_bytes: int = PORTION_BYTES) -> Iterator[list[Record]]:
    """The records in their order, as batches of which none is too large for its time; a record larger than that is one alone."""
    portion: list[Record] = []
    size = 0
    for record in records:
        length = len(record.value or b"")
        if portion and size + length > most_bytes:
            yield portion
            portion, size = [], 0
        portion.append(record)
        size += length
    if portion:
        yield portion
