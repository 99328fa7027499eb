"""From an ESP's verdict to an email's fate. Pure: the whole policy of retries stands on this page."""

import random
from collections.abc import Callable
from datetime import datetime

from mail.outcome import Outcome, Verdict
from workers.steps.backoff import MAX_DELAY_S, WAITING_BUDGET_S, delay_s
from workers.steps.letter import SENT, Fate, Letter, dead

ATTEMPT_STATES = {
    Verdict.ACCEPTED: "accepted",
    Verdict.REJECTED: "rejected",
    Verdict.UNKNOWN: "uncertain",
}
NOT_TAKEN = "not_taken"
RESUME_S = 10.0  # the next attempt is opened within milliseconds, and whoever comes second finds the row taken
LOOK_AGAIN_S = 300.0


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
        fate = self.wait(letter, outcome.verdict, outcome.detail, now, outcome.retry_after_s)
        return fate._replace(is_our_fault=outcome.verdict is Verdict.MISCONFIGURED and _is_the_services(letter))

    def send_elsewhere(self, letter: Letter, outcome: Outcome, fate: Fate) -> Fate:
        """Certainly not taken, and another ESP is there: the next attempt follows at once. Should this process die before it, the row
        is due again soon, where its bytes are stored; else its record comes again from Kafka. `fate` is what was judged: refusals
        that were one too many stay the end."""
        if fate.is_dead_letter and outcome.verdict is Verdict.UNSUPPORTED:
            return fate
        count = max(letter.retry_count, fate.retry_count)
        return Fate("pending", str(outcome.verdict), outcome.detail, RESUME_S, retry_count=count, goes_elsewhere=True)

    def refuse(self, letter: Letter, detail: str, now: datetime) -> Fate:
        """A real refusal that another ESP may not share: it counts, and the job's maximum ends it."""
        count = letter.retry_count + 1
        if count > self.max_retries_of(letter):
            return dead("retries-exhausted", f"refused {count} times, last: {detail}")._replace(retry_count=count)
        return self.wait(letter, Verdict.UNSUPPORTED, detail, now)._replace(retry_count=count)

    def wait_for_an_esp(self, letter: Letter, detail: str, now: datetime) -> Fate:
        """No ESP could even be asked, so no attempt was made. Asking again costs nobody anything, and mail should go out soon after
        the first of them is back."""
        return self.wait(letter, Verdict.UNAVAILABLE, detail, now, longest_s=max(LOOK_AGAIN_S, self._base_s))

    def wait_for_us(self, letter: Letter, reason: str, detail: str, now: datetime) -> Fate:
        """Our own doing keeps it from being sent: it waits until that is mended, and only then, or when time is up, it has failed."""
        fate = self.wait(letter, reason, detail, now)._replace(is_our_fault=True)
        return fate if fate.status != "dead" else dead(reason, detail)

    def wait(
        self, letter: Letter, reason: str, detail: str, now: datetime, retry_after_s: float | None = None, longest_s: float = MAX_DELAY_S
    ) -> Fate:
        """Waiting for others costs time, never retries; the job's expiry or the lane's budget ends it. A wait that would pass the end is
        cut, so that the last tries come before it."""
        delay = delay_s(letter.waits, self._base_s, retry_after_s, self._uniform, longest_s)
        left_s = self._left_s(letter, now)
        if delay >= left_s:
            delay = max(left_s / 2, retry_after_s or 0.0)
            if left_s <= self._base_s or delay >= left_s:
                return self._end(letter, detail, now)
        return Fate("retrying", str(reason), detail, delay, event="retrying", keeps_payload=True, retry_count=letter.retry_count)

    def _left_s(self, letter: Letter, now: datetime) -> float:
        """How long it may wait yet."""
        budget_s = WAITING_BUDGET_S[letter.lane] - letter.waiting_s
        expires_at = letter.job.expires_at
        return budget_s if expires_at is None else min(budget_s, expires_at.timestamp() - now.timestamp())

    def _end(self, letter: Letter, detail: str, now: datetime) -> Fate:
        budget_s = WAITING_BUDGET_S[letter.lane] - letter.waiting_s
        if self._left_s(letter, now) < budget_s:
            return Fate("expired", reason="expired", error=detail, event="expired")
        return dead("retries-exhausted", f"waited {letter.waiting_s:.0f} s for a provider, last: {detail}")

    def max_retries_of(self, letter: Letter) -> int:
        wanted = letter.job.max_retries
        return self._max_retries if wanted is None else wanted


def _is_the_services(letter: Letter) -> bool:
    """A tenant whose own credentials are wrong must not stop the others."""
    return letter.account is not None and letter.account.tenant == 0
