"""The policy of retries: when an email comes again, what counts against it, and what ends it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.account import Account
from mail.outcome import Outcome, Verdict
from mail.record import Standing
from tests.workers.ledger_world import ACCOUNT, job_bytes, letters_of, record_of
from workers.steps.backoff import MAX_DELAY_S, WAITING_BUDGET_S, delay_s
from workers.steps.judgement import LOOK_AGAIN_S, RetryPolicy

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
BASE_S = 60.0
WAITING_VERDICTS = (Verdict.THROTTLED, Verdict.UNAVAILABLE, Verdict.MISCONFIGURED)


def letter_of(waits=0, refused=0, waiting_s=0.0, **job):
    (letter,) = letters_of(record_of(job_bytes("j1", **job))).letters
    letter.standing = Standing(letter.row_id, "retrying", "", 9, refused, 0, b"", True, "postmark", waiting_s, waits=waits)
    return letter


def judge(letter, verdict, retry_after_s=None, uniform=lambda low, high: high):
    outcome = Outcome(letter.attempt_id, verdict, retry_after_s=retry_after_s)
    return RetryPolicy(BASE_S, 3, uniform).judge(letter, outcome, NOW)


@given(st.integers(0, 60), st.floats(0, 3600), st.floats(0, 1))
def test_a_wait_is_between_half_and_all_of_its_doubled_delay_and_never_below_what_the_esp_asked_for(retry, asked_s, chance):
    full_s = min(BASE_S * 2**retry, MAX_DELAY_S)
    found_s = delay_s(retry, BASE_S, asked_s, uniform=lambda low, high: low + chance * (high - low))
    assert max(asked_s, full_s / 2) <= found_s <= max(asked_s, full_s) + 1e-6


def test_the_delay_doubles_with_every_wait_and_not_with_every_attempt():
    # the ninth attempt of each: failovers within a round do not make anybody wait longer
    assert [judge(letter_of(waits=n), Verdict.UNAVAILABLE).delay_s for n in range(5)] == [60, 120, 240, 480, 960]


def test_an_email_that_no_esp_could_even_be_asked_about_looks_again_within_minutes():
    policy = RetryPolicy(BASE_S, 3, uniform=lambda low, high: high)
    assert [policy.wait_for_an_esp(letter_of(waits=n), "", NOW).delay_s for n in (0, 1, 3, 9)] == [60, 120, LOOK_AGAIN_S, LOOK_AGAIN_S]


@pytest.mark.parametrize("verdict", WAITING_VERDICTS)
def test_waiting_for_others_never_counts_as_a_refusal(verdict):
    fate = judge(letter_of(refused=3), verdict)
    assert (fate.status, fate.retry_count) == ("retrying", 3)


def test_a_refusal_counts_and_the_one_after_the_jobs_maximum_is_the_end():
    assert (judge(letter_of(refused=2), Verdict.UNSUPPORTED).status, judge(letter_of(refused=3), Verdict.UNSUPPORTED).status) == (
        "retrying",
        "dead",
    )
    own = letter_of(refused=1, maxRetries=1)
    assert judge(own, Verdict.UNSUPPORTED).reason == "retries-exhausted"
    assert judge(letter_of(refused=1, maxRetries=2), Verdict.UNSUPPORTED).retry_count == 2


def test_refusals_count_on_the_way_to_another_esp_too():
    policy = RetryPolicy(BASE_S, 3)
    letter = letter_of(refused=2)
    outcome = Outcome(letter.attempt_id, Verdict.UNSUPPORTED)
    letter.fate = policy.send_elsewhere(letter, outcome, policy.judge(letter, outcome, NOW))
    assert (letter.fate.goes_elsewhere, letter.fate.retry_count) == (True, 3)
    again = letter.for_another_attempt()
    assert (again.retry_count, again.waits, again.last_provider) == (3, 0, "postmark")
    outcome = Outcome(again.attempt_id, Verdict.UNSUPPORTED)
    again.account = ACCOUNT
    assert policy.send_elsewhere(again, outcome, policy.judge(again, outcome, NOW)).status == "dead"


@pytest.mark.parametrize(("priority", "lane"), [("high", "high"), ("normal", "normal"), ("low", "bulk")])
def test_the_lanes_budget_ends_the_waiting_and_not_a_moment_before(priority, lane):
    budget_s = WAITING_BUDGET_S[lane]
    nearly = judge(letter_of(waits=20, waiting_s=budget_s - 1000, priority=priority), Verdict.UNAVAILABLE)
    assert (nearly.status, nearly.delay_s) == ("retrying", 500)
    over = judge(letter_of(waits=20, waiting_s=budget_s - BASE_S, priority=priority), Verdict.UNAVAILABLE)
    assert (over.status, over.reason) == ("dead", "retries-exhausted")


def test_a_job_that_expires_is_tried_until_shortly_before_it_does():
    expires_at = NOW + timedelta(minutes=10)
    letter = letter_of(waits=6, expiresAt=expires_at.isoformat())
    assert (judge(letter, Verdict.UNAVAILABLE).status, judge(letter, Verdict.UNAVAILABLE).delay_s) == ("retrying", 300)
    assert judge(letter, Verdict.THROTTLED, retry_after_s=900).status == "expired"
    letter.job = msgspec.structs.replace(letter.job, expires_at=NOW + timedelta(seconds=BASE_S))
    assert judge(letter, Verdict.UNAVAILABLE).status == "expired"


def test_only_the_services_own_wrong_credentials_are_our_fault():
    letter = letter_of()
    assert judge(letter, Verdict.MISCONFIGURED).is_our_fault
    assert not judge(letter, Verdict.UNAVAILABLE).is_our_fault
    letter.account = Account("postmark", 42, "http://127.0.0.1:1", {})
    assert not judge(letter, Verdict.MISCONFIGURED).is_our_fault


def test_what_waits_for_us_fails_by_its_own_reason_when_time_is_up():
    policy = RetryPolicy(BASE_S, 3)
    waiting = policy.wait_for_us(letter_of(), "render-error", "template t, html: line 3", NOW)
    assert (waiting.status, waiting.reason, waiting.is_our_fault) == ("retrying", "render-error", True)
    late = policy.wait_for_us(letter_of(waiting_s=WAITING_BUDGET_S["normal"]), "render-error", "template t, html: line 3", NOW)
    assert (late.status, late.reason, late.is_our_fault) == ("dead", "render-error", False)
