"""What was sent together, counted: every number here is the number of attempts that say the same."""

from collections import Counter
from collections.abc import Iterable

from db.seed.aftermath import Fact
from db.seed.orders import Order
from db.seed.rows import Attempt, Cohort, CohortStats

EVENT_PLACE = "seed/webhook-0"
_Cell = tuple[str, str, str, str]


class Cohorts:
    """Cohorts and their counters, each in rows of the place that would have written it: senders count sent, webhooks the rest."""

    def __init__(self) -> None:
        self._cohorts: dict[str, Cohort] = {}
        self._counts: dict[_Cell, Counter[str]] = {}

    def note(self, order: Order, attempt: Attempt) -> None:
        """An attempt was opened: its cohort exists from its first one on, taken or not."""
        known = self._cohorts.get(attempt.cohort_id)
        if known is None or attempt.opened_at < known.started_at:
            self._cohorts[attempt.cohort_id] = Cohort(attempt.cohort_id, order.tenant.id, order.stream, order.batch_id, attempt.opened_at)

    def count(self, attempt: Attempt, facts: Iterable[Fact]) -> None:
        """An attempt was accepted: it and the first event of each sort count, once per message."""
        self._count(attempt, attempt.owner.rpartition("/")[0], "sent")
        for name in {name for fact in facts if (name := _counter_of(fact)) is not None}:
            self._count(attempt, EVENT_PLACE, name)

    def rows(self) -> tuple[list[Cohort], list[CohortStats]]:
        """All of them, by key."""
        cohorts = [self._cohorts[key] for key in sorted(self._cohorts)]
        return cohorts, [_stats(cell, self._counts[cell]) for cell in sorted(self._counts)]

    def _count(self, attempt: Attempt, place: str, name: str) -> None:
        cell = (attempt.cohort_id, attempt.provider, attempt.mailbox_provider, place)
        self._counts.setdefault(cell, Counter())[name] += 1


def _counter_of(fact: Fact) -> str | None:
    if fact.type == "opened":
        return "opened_machine" if fact.is_machine else "opened"
    return fact.type if fact.type in ("delivered", "clicked", "bounced", "complained") else None


def _stats(cell: _Cell, counts: Counter[str]) -> CohortStats:
    return CohortStats(
        *cell,
        sent=counts["sent"],
        delivered=counts["delivered"],
        opened=counts["opened"],
        opened_machine=counts["opened_machine"],
        clicked=counts["clicked"],
        bounced=counts["bounced"],
        complained=counts["complained"],
    )
