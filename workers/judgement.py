"""From an ESP's verdict to an email's fate. Pure: the whole policy of retries stands on this page."""

import random
from collections.abc import Callable
from datetime import datetime

from mail.outcome import Outcome, Verdict
from workers.backoff import WAITING_BUDGET_S, delay_s
from workers.letter import SENT, Fate, Letter, dead

ATTEMPT_STATES = {
    Verdict.ACCEPTED: "accepted",
    Verdict.REJECTED: "rejected",
    Verdict.UNKNOWN: "uncertain",
}
NOT_TAKEN = "not_taken"
RESUME_S = 60.0


class RetryPolicy:
    """`base_s` is EMAIL_RETRY_DELAY_SECONDS, `max_retries` the service's default for jobs that name none."""

    def __init__(self, base_s: float, max_retries: int, uniform: Callable[[float, float], float] = random.uniform):
        self._base_s = base_s
        self._max_retries = max_retries
        self._uniform = uniform

    def judge(self, letter: Letter, outcome: Outcome, now: datetime) -> Fate:
        """What becomes of a letter after its attempt was answered (or not: UNKNOWN stays uncertain until evidence or policy)."""
        if outcome.verdict is Verdict.ACCEPTED:
            return SENT
        if outcome.verdict is Verdict.UNKNOWN:
            return Fate("uncertain", reason="unknown", error=outcome.detail, keeps_payload=True, retry_count=letter.retry_count)
        if outcome.verdict is Verdict.REJECTED:
            return dead("rejected", outcome.detail)._replace(retry_count=letter.retry_count)
        if outcome.verdict is Verdict.UNSUPPORTED:
            return self.refuse(letter, outcome.detail, now)
        return self.wait(letter, outcome.verdict, outcome.detail, now, outcome.retry_after_s)

    def send_elsewhere(self, letter: Letter, outcome: Outcome) -> Fate:
        """Certainly not taken, and another ESP is there: the next attempt follows at once. Should this process die before it, a row
        whose bytes are stored is due again soon; else its record comes again from Kafka by itself."""
        reason = str(outcome.verdict)
        return Fate("pending", reason, outcome.detail, RESUME_S, retry_count=letter.retry_count, goes_elsewhere=True)

    def refuse(self, letter: Letter, detail: str, now: datetime) -> Fate:
        """A real refusal that another ESP may not share: it counts, and the job's maximum ends it."""
        count = letter.retry_count + 1
        if count > self.max_retries_of(letter):
            return dead("retries-exhausted", f"refused {count} times, last: {detail}")._replace(retry_count=count)
        return self.wait(letter, Verdict.UNSUPPORTED, detail, now)._replace(retry_count=count)

    def wait(self, letter: Letter, reason: str, detail: str, now: datetime, retry_after_s: float | None = None) -> Fate:
        """Waiting for others costs time, never retries; the job's expiry or the lane's budget ends it."""
        delay = delay_s(letter.attempt_number - 1, self._base_s, retry_after_s, self._uniform)
        if letter.job.expires_at is not None and now.timestamp() + delay >= letter.job.expires_at.timestamp():
            return Fate("expired", reason="expired", error=detail, event="expired")
        if letter.waiting_s + delay > WAITING_BUDGET_S[letter.lane]:
            return dead("retries-exhausted", f"waited {letter.waiting_s:.0f} s for a provider, last: {detail}")
        return Fate("retrying", str(reason), detail, delay, event="retrying", keeps_payload=True, retry_count=letter.retry_count)

    def max_retries_of(self, letter: Letter) -> int:
        wanted = letter.job.max_retries
        return self._max_retries if wanted is None else wanted
