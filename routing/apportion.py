"""Sharing out whole mails by weights: exact sums, no luck, and no mail's worth of drift over time.

Everything is integer arithmetic; no random numbers, no comparison of floats. It must never hand anything to a weight of 0.
"""

import math
from collections.abc import Callable, Mapping

WHOLE = 1000
Rank = tuple[bool, int, int, str]


class Carry:
    """What each name is still owed (or has had too much) after the batches so far, in parts of one mail.

    One object per worker and routing key. `owed` counts in 1/`denominator` of a mail and sums up to 0.
    """

    __slots__ = ("denominator", "owed", "weights")

    def __init__(self) -> None:
        self.denominator = 1
        self.owed: dict[str, int] = {}
        self.weights: dict[str, int] = {}

    def align(self, weights: dict[str, int]) -> None:
        """Restates the debts in parts of the new weights' sum; who left takes its debt along, shared by those who stay."""
        if weights == self.weights:
            return
        total = sum(weights.values())
        owed = {name: self.owed.get(name, 0) * total // self.denominator for name in weights}
        surplus = sum(owed.values())
        for name, weight in weights.items():
            owed[name] -= surplus * weight // total
        owed[_heaviest(weights)] -= sum(owed.values())
        self.denominator, self.owed, self.weights = total, owed, dict(weights)


def apportion(count: int, weights: Mapping[str, int], carry: Carry | None = None) -> dict[str, int]:
    """How many of `count` mails each name gets: {name: mails}, only names with a positive weight, summing up to `count` exactly.

    Without a carry each share is within one mail of its quota (largest remainder). With one, the fractions are remembered,
    so that the running totals of single mails stay within one mail of the weights for as long as the weights stay.
    All weights 0 means nobody: the answer is empty.
    """
    positive = {name: weight for name, weight in weights.items() if weight > 0}
    if not positive:
        return {}
    rank = _by_remainder if carry is None else _by_deadline
    carry = Carry() if carry is None else carry
    carry.align(positive)
    total = carry.denominator
    due = {name: count * weight + carry.owed[name] for name, weight in positive.items()}
    shares = {name: max(0, parts // total) for name, parts in due.items()}
    _give_back(shares, due, total, sum(shares.values()) - count)
    _hand_out(shares, due, lambda name, owed: rank(name, owed, positive[name], total), total, count - sum(shares.values()))
    carry.owed = {name: due[name] - shares[name] * total for name in due}
    return shares


def normalise(weights: Mapping[str, float]) -> dict[str, int]:
    """The same proportions as integers that sum up to exactly 1000, every name kept.

    Negative, infinite and NaN weights count as 0. All of them 0 means that nobody may send: all stay 0.
    """
    sound = {name: weight if math.isfinite(weight) and weight > 0 else 0 for name, weight in weights.items()}
    heaviest = max(sound.values(), default=0)
    if not heaviest:
        return dict.fromkeys(weights, 0)
    scaled = {name: round(weight / heaviest * 2**32) for name, weight in sound.items()}
    return dict.fromkeys(weights, 0) | apportion(WHOLE, scaled)


def _give_back(shares: dict[str, int], due: Mapping[str, int], total: int, surplus: int) -> None:
    """Only after a change of weights: old debts can promise more whole mails than there are."""
    for _ in range(surplus):
        holders = [name for name in shares if shares[name]]
        shares[min(holders, key=lambda name: (due[name] - shares[name] * total, name))] -= 1


def _hand_out(shares: dict[str, int], due: Mapping[str, int], rank: Callable[[str, int], Rank], total: int, left: int) -> None:
    for _ in range(left):
        shares[min(shares, key=lambda name: rank(name, due[name] - shares[name] * total))] += 1


def _by_remainder(name: str, owed: int, weight: int, total: int) -> Rank:
    """Hamilton: the largest remainder first; ties go to the larger weight, then to the name."""
    return False, -owed, -weight, name


def _by_deadline(name: str, owed: int, weight: int, total: int) -> Rank:
    """Who would be owed a whole mail soonest comes first; nobody gets one in advance.

    The largest remainder alone drifts by more than one mail with three names or more; the earliest deadline does not.
    """
    mails_until_owed_one = -(-(total - owed) // weight)
    return owed <= 0, mails_until_owed_one, -owed, name


def _heaviest(weights: Mapping[str, int]) -> str:
    return min(weights, key=lambda name: (-weights[name], name))
