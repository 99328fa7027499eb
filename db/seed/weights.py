"""What the history teaches about the ESPs: weights per tenant and mailbox provider, more for whom more mail is read through.

Far simpler than what the balancer does with real mail; enough for weights that fit the counts beside them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from db.seed.rows import Attempt, Weights

ANY, SERVICE = "*", 0
_PRIOR_SENT, _PRIOR_DELIVERED = 50, 40
_SHARPNESS = 8
_FLOOR = 0.02  # of the best one's score: whoever gets nothing teaches nothing
_EVIDENCE = 150  # emails below which a tenant's row for a mailbox provider is not worth having

Row = Mapping[str, int]


class Rates(NamedTuple):
    """Delivered of what was sent to mailboxes that exist, and opened by people of what was delivered."""

    delivered: float
    opened: float

    @property
    def score(self) -> float:
        return self.delivered * self.opened


@dataclass(slots=True)
class Tally:
    """Attempts of one ESP that were accepted, and what became of them."""

    sent: int = 0
    gone: int = 0
    delivered: int = 0
    opened: int = 0

    def add(self, attempt: Attempt, is_gone: bool) -> None:
        self.sent += 1
        self.gone += is_gone
        self.delivered += attempt.delivered_at is not None
        self.opened += attempt.opened_first_at is not None

    def rates(self, prior: Rates) -> Rates:
        """What these counts say, leaning on the prior where they are few."""
        delivered = (self.delivered + _PRIOR_SENT * prior.delivered) / (self.sent - self.gone + _PRIOR_SENT)
        return Rates(delivered, (self.opened + _PRIOR_DELIVERED * prior.opened) / (self.delivered + _PRIOR_DELIVERED))


_Cell = dict[str, Tally]  # by provider


class Learner:
    """Counts by tenant (0 = the whole service), mailbox provider ("*" = all) and ESP, and the weights that follow from them.

    `starting` are the weights before there is evidence, by tenant; an ESP that is not in them is never used by that tenant.
    """

    def __init__(self, starting: Mapping[int, Row], silent: Iterable[str], normalise: Callable[[Mapping[str, float]], dict[str, int]]):
        self._starting = starting
        self._silent = frozenset(silent)
        self._normalise = normalise
        self._cells: defaultdict[tuple[int, str], _Cell] = defaultdict(lambda: defaultdict(Tally))
        self._weights: dict[int, dict[str, dict[str, int]]] = {tenant: {ANY: normalise(weights)} for tenant, weights in starting.items()}

    def count(self, attempt: Attempt, is_gone: bool) -> None:
        """One accepted attempt, with all that became of it."""
        for tenant in (SERVICE, attempt.tenant_id):
            for mailbox in (ANY, attempt.mailbox_provider):
                self._cells[tenant, mailbox][attempt.provider].add(attempt, is_gone)

    def learn(self) -> None:
        """Work out the weights anew from all counts."""
        for tenant, mailbox in sorted(self._cells):
            is_worth_a_row = mailbox == ANY or sum(tally.sent for tally in self._cells[tenant, mailbox].values()) >= _EVIDENCE
            if is_worth_a_row:
                self._weights[tenant][mailbox] = self._row(tenant, mailbox)

    def row(self, tenant: int, mailbox: str) -> Row:
        """{provider: permille} by which mail of this tenant to this mailbox provider goes out."""
        rows = self._weights[tenant]
        return rows.get(mailbox) or rows[ANY]

    def rows_of(self, tenant: int) -> dict[str, object]:
        """All rows of a tenant, as a batch pins them."""
        return dict(self._weights[tenant])

    def snapshot(self, now: datetime, days: int) -> Weights:
        """The weights as they stand, with the counts and scores that they come from."""
        weights = {str(tenant): {mailbox: dict(row) for mailbox, row in rows.items()} for tenant, rows in self._weights.items()}
        cells = {tenant: {mailbox: self._explain(int(tenant), mailbox) for mailbox in rows} for tenant, rows in weights.items()}
        return Weights(now, weights, {"days": days, "cells": cells}, f"seed: what {days} days of made-up history came to")

    def _row(self, tenant: int, mailbox: str) -> dict[str, int]:
        """An ESP that never reports has no score; it keeps what is left for learning nothing: the floor."""
        scores = {provider: self._rates(tenant, mailbox, provider).score for provider in self._starting[tenant]}
        telling = [score for provider, score in scores.items() if provider not in self._silent]
        best = max(telling, default=0.0)
        if not best:
            return self._normalise(self._starting[tenant])
        return self._normalise({p: _FLOOR if p in self._silent else max(_FLOOR, (s / best) ** _SHARPNESS) for p, s in scores.items()})

    def _rates(self, tenant: int, mailbox: str, provider: str) -> Rates:
        """A tenant's own counts lean on the service's for the same cell, and those on all ESPs together."""
        tally = self._cells[tenant, mailbox][provider]
        return tally.rates(self._pooled(mailbox) if tenant == SERVICE else self._rates(SERVICE, mailbox, provider))

    def _pooled(self, mailbox: str) -> Rates:
        told = [tally for provider, tally in self._cells[SERVICE, mailbox].items() if provider not in self._silent]
        reached, delivered = sum(t.sent - t.gone for t in told), sum(t.delivered for t in told)
        return Rates(delivered / reached if reached else 0.0, sum(t.opened for t in told) / delivered if delivered else 0.0)

    def _explain(self, tenant: int, mailbox: str) -> dict[str, dict[str, float]]:
        cell = self._cells[tenant, mailbox]
        return {
            provider: {
                "sent": cell[provider].sent,
                "delivered": cell[provider].delivered,
                "opened": cell[provider].opened,
                "score": round(self._rates(tenant, mailbox, provider).score, 5),
            }
            for provider in sorted(self._starting[tenant])
        }
