"""How bad the weather is in a storm: how ESPs fail, where workers die, and the settings that make it pass within minutes."""

from typing import Any, NamedTuple

from sandbox import fakes
from tests.chaos.outages import WITH_SUPERVISOR

# Chance of death at each hit: of delivery workers, and of the intake with items in hand.
WORKER_POINTS = {"after-open": 0.03, "leaving": 0.004, "answered": 0.004, "before-record": 0.03, "after-record": 0.03, "in-revoke": 0.3}
INTAKE_POINTS = {"taken": 0.3, "stored": 0.4}
OTHER_PLACES = frozenset({*INTAKE_POINTS, WITH_SUPERVISOR})  # no deaths of a single delivery worker
# 17 % of all calls, each way of failing that a fake knows.
FAULTS: dict[str, float] = {
    "throttle": 0.04,
    "error_before": 0.035,
    "error_after": 0.02,
    "hang_before": 0.004,
    "hang_after": 0.006,
    "reset_before": 0.02,
    "reset_after": 0.02,
    "drip": 0.002,
    "drip_headers": 0.002,
    "malformed": 0.01,
    "cut": 0.004,
    "huge": 0.001,
    "redirect": 0.002,
    "partial": 0.004,
}
BEHAVIOUR: dict[str, Any] = {"latency_ms": 30, "jitter_ms": 20, "huge_bytes": 8 << 20, "retry_after": "seconds"} | FAULTS
# nobody opens or bounces: the only events are those that end a doubt
NOTHING_ELSE = {"*": dict.fromkeys(("dropped", "hard", "soft", "block", "deferred", "machine", "open", "complaint"), 0.0)}
FEEDBACK: dict[str, Any] = {"speed": 1_000_000.0, "repeats": 0.05, "rates": NOTHING_ELSE, "events_per_s": 5_000.0}
SETTINGS = {
    "WORKER_BATCH_SIZE": "100",
    "EMAIL_RETRY_DELAY_SECONDS": "1",
    "ESP_TIMEOUT_SECONDS": "2",
    "ESP_CONNECT_TIMEOUT_SECONDS": "1",
    "KAFKA_CLIENT_SESSION_TIMEOUT_MS": "6000",
    "LOG_LEVEL": "info",
}
EXPECTED_ERRORS = ("crash loop", "a host is lost")


JOBS = 20_000


class Size(NamedTuple):
    """How many jobs, how many workers have to die, how many intakes with items in hand, and how often the plan's troubles come."""

    jobs: int
    kills: int
    intake_kills: int
    rounds: int


def size_for(jobs: int) -> Size:
    """Troubles grow with the number of jobs, and are never fewer than for 20,000."""
    rounds = max(1, jobs // JOBS)
    return Size(jobs, 80 * rounds, 100, rounds)


def esp_options(seed: int) -> dict[str, Any]:
    """How the fakes behave while it storms."""
    return {"seed": seed, "mails_kept": 100} | dict.fromkeys(fakes.names(), BEHAVIOUR)
