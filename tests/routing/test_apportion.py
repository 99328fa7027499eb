"""Sharing out mails by weights."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.apportion import Carry, apportion, normalise

NAMES = ("postmark", "sendgrid", "ses", "smtp", "socketlabs", "sparkpost")
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1000), min_size=1)
SOME_WEIGHT = WEIGHTS.filter(lambda weights: any(weights.values()))


def named(values: list[float]) -> dict[str, float]:
    return dict(zip("abcdef", values, strict=False))


@given(st.integers(0, 5000), SOME_WEIGHT)
def test_shares_sum_up_to_the_count_and_stay_within_one_of_the_quota(count: int, weights: dict[str, int]) -> None:
    shares = apportion(count, weights)
    total = sum(weights.values())
    assert sum(shares.values()) == count
    assert all(abs(shares[name] - count * weights[name] / total) < 1 for name in shares)
    assert shares.keys() == {name for name, weight in weights.items() if weight}


@given(st.lists(st.integers(0, 700), min_size=1, max_size=60), SOME_WEIGHT)
def test_running_totals_stay_within_one_mail_of_the_weights(counts: list[int], weights: dict[str, int]) -> None:
    carry, given_so_far, total = Carry(), dict.fromkeys(weights, 0), sum(weights.values())
    for number, count in enumerate(counts):
        shares = apportion(count, weights, carry)
        assert sum(shares.values()) == count
        for name, share in shares.items():
            assert share >= 0
            given_so_far[name] += share
        for name, weight in weights.items():
            assert abs(given_so_far[name] * total - sum(counts[: number + 1]) * weight) < total


def test_single_mails_do_not_drift_where_the_largest_remainder_would() -> None:
    weights = {"a": 1, "b": 133, "c": 8, "d": 1, "e": 1, "f": 78}  # found by search: the largest remainder is 1.08 mails off at mail 134
    carry, given_so_far, total = Carry(), dict.fromkeys(weights, 0), sum(weights.values())
    for number in range(1, total + 1):
        for name, share in apportion(1, weights, carry).items():
            given_so_far[name] += share
        assert all(abs(given_so_far[name] * total - number * weight) < total for name, weight in weights.items())


@given(SOME_WEIGHT)
def test_single_mails_follow_the_weights_exactly_over_a_full_round(weights: dict[str, int]) -> None:
    carry, counted, total = Carry(), dict.fromkeys(weights, 0), sum(weights.values())
    for _ in range(total):
        for name, share in apportion(1, weights, carry).items():
            counted[name] += share
    assert counted == weights


@given(st.lists(st.tuples(st.integers(0, 50), SOME_WEIGHT), min_size=1, max_size=30))
def test_changing_weights_never_break_the_sum_nor_pile_up_debts(rounds: list[tuple[int, dict[str, int]]]) -> None:
    carry = Carry()
    for count, weights in rounds:
        shares = apportion(count, weights, carry)
        assert sum(shares.values()) == count
        assert min(shares.values()) >= 0
        assert sum(carry.owed.values()) == 0
        assert all(abs(owed) < len(NAMES) * carry.denominator for owed in carry.owed.values())


def test_a_weight_of_zero_never_gets_a_mail_whatever_it_was_owed() -> None:
    carry = Carry()
    apportion(1, {"a": 600, "b": 400}, carry)
    assert apportion(1, {"a": 1000, "b": 0}, carry) == {"a": 1}


def test_all_zero_weights_mean_nobody() -> None:
    assert apportion(10, {"a": 0, "b": 0}) == {}
    assert apportion(10, {}) == {}


def test_ties_are_settled_by_name_not_by_order() -> None:
    assert apportion(1, {"b": 1, "a": 1}) == apportion(1, {"a": 1, "b": 1}) == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 1, 1], [334, 333, 333]),
        ([1, 1, 1, 1, 1, 1], [167, 167, 167, 167, 166, 166]),
        ([0.6, 0, 0.3], [667, 0, 333]),
        ([math.nan, 1, 3], [0, 250, 750]),
        ([math.inf, -1, 3], [0, 0, 1000]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
def test_normalised_weights_match_the_golden_vectors(scores: list[float], expected: list[int]) -> None:
    assert normalise(named(scores)) == named([float(weight) for weight in expected])


def test_a_group_of_seven_matches_the_golden_vector() -> None:
    assert apportion(7, {"a": 50, "b": 30, "c": 20}) == {"a": 4, "b": 2, "c": 1}


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e6, allow_subnormal=False), min_size=1), st.sampled_from([1e-3, 2.0, 1024.0]))
def test_normalised_weights_sum_up_to_one_thousand(scores: dict[str, float], scale: float) -> None:
    weights = normalise(scores)
    assert weights.keys() == scores.keys()
    assert sum(weights.values()) == (1000 if any(scores.values()) else 0)
    assert all(weights[name] <= weights[other] for name in scores for other in scores if scores[name] < scores[other])
