"""How long a refused or waiting email waits: delay x 2^n with equal jitter, at least what the ESP asked for, at most 6 hours."""

import random
from collections.abc import Callable

MAX_DELAY_S = 6 * 3600.0
# How long an email may wait for others (an ESP, a rate, a dependency) before it is given up, where the job does not say.
WAITING_BUDGET_S = {"high": 24 * 3600.0, "normal": 72 * 3600.0, "bulk": 72 * 3600.0}


Uniform = Callable[[float, float], float]


def delay_s(
    retry: int,
    base_s: float,
    retry_after_s: float | None = None,
    uniform: Uniform = random.uniform,
    longest_s: float = MAX_DELAY_S,
) -> float:
    """Seconds until retry number `retry` (0 = the first). Equal jitter: half of the wait is certain, half is random,
    so that throttled mail neither returns at once nor all together."""
    full = min(base_s * 2.0 ** min(retry, 40), longest_s)
    return max(retry_after_s or 0.0, full / 2 + uniform(0, full / 2))
