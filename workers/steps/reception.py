"""Reception: records become letters, and one read decides which of them may be sent.

The verbs `decode` and `admit` of the delivery loop. The rules themselves are in admission.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mail.decode import decode, decode_one
from mail.limits import DecodeLimits
from mail.record import Record
from mail.template import is_marketing
from workers.failpoints import Failpoints
from workers.flight.flight_log import FlightLog
from workers.steps import admission
from workers.steps.bookkeeping import Bookkeeper, Known
from workers.steps.letter import REPEAT, Batch, Fate, Letter, Misfit, dead
from workers.steps.patience import Patience
from workers.steps.quarantine import WHY_CONDEMNED, Quarantine
from workers.steps.shelf import Shelf
from workers.steps.store_clock import StoreClock


class House(NamedTuple):
    """What the settings say about every job: what may be asked for, and whom mail may reach (a staging guard)."""

    limits: DecodeLimits
    is_allowed: Callable[[str], bool]


class Reception:
    def __init__(
        self,
        house: House,
        bookkeeper: Bookkeeper,
        patience: Patience,
        shelf: Shelf,
        quarantine: Quarantine,
        flight_log: FlightLog,
        failpoints: Failpoints,
        clock: StoreClock,
    ):
        self._house = house
        self._bookkeeper = bookkeeper
        self._patience = patience
        self._shelf = shelf
        self._quarantine = quarantine
        self._flight_log = flight_log
        self._failpoints = failpoints
        self._clock = clock

    def decode(self, records: Sequence[Record]) -> Batch:
        """Bytes become letters, what is no job becomes a misfit. The record under hand is named first: it may kill us."""
        batch = Batch(list(records))
        for record in records:
            if record.value is None:
                if record.standing is not None:
                    batch.misfits.append(Misfit(record, "invalid-job", "value: the stored bytes of this row are lost"))
                continue
            if self._quarantine.is_condemned(record):
                batch.misfits.append(Misfit(record, "crashes-worker", WHY_CONDEMNED))
                continue
            self._flight_log.take_in_hand(record.name)
            self._failpoints.touch(record.value)
            self._sort_in(batch, record, record.value)
        self._flight_log.let_go()
        return batch

    def admit(self, letters: Sequence[Letter]) -> None:
        """Known? Suppressed? Expired? Not due? Letters that may not be sent now get their fate."""
        if not letters:
            return
        names = self._shelf.missing(letter.job for letter in letters)
        known = self._patience.insist("admit", lambda cursor, _: self._bookkeeper.look_up(cursor, letters, names))
        self._shelf.put(names, known.templates, known.vanished_templates)
        self._clock.set(known.now)
        for letter in letters:
            letter.fate = self._meet(letter, known) or self._check(letter, known)

    def _sort_in(self, batch: Batch, record: Record, value: bytes) -> None:
        if record.standing is not None:
            batch.add(record, decode_one(value, record.index, self._house.limits))
            return
        for item in decode(value, self._house.limits):
            batch.add(record, item)

    def _meet(self, letter: Letter, known: Known) -> Fate | None:
        """What the ledger says about this id."""
        if letter.record.standing is not None:
            return admission.meet_due(letter.record.standing)
        if letter.key not in known.keys:
            return None
        row_id, content_hash = known.keys[letter.key]
        standing = known.standings.get(row_id)
        if standing is None:  # the key outlived its row's partition: the job was over long ago
            return REPEAT
        letter.row_id, letter.standing = row_id, standing
        return admission.meet_known(letter, standing, content_hash)

    def _check(self, letter: Letter, known: Known) -> Fate | None:
        """What the time, the suppressions and the house rules say."""
        job, template = letter.job, self._shelf.take(letter.job.template)
        letter.is_marketing = is_marketing(job.type, template.type if template else "")
        letter.defaults = known.senders.get(job.tenant)
        if not self._house.is_allowed(job.recipient.email):
            return dead("not-allowed", "recipient.email: not on EMAIL_RECIPIENT_ALLOWLIST of this environment")
        return admission.check_time(job, known.now, letter.record.standing) or admission.check_suppression(letter, known.suppressions)
