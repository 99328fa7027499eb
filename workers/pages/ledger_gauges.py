"""The numbers that only the ledger knows, for the metrics page: what is due, what waits, what is in doubt."""

from collections.abc import Collection, Iterator

from db import lanes
from db.connection import Database
from db.queries import sql
from telemetry.scrape import GaugeSample

LANES = ("high", "normal", "bulk")


def read(database: Database, calling_back: Collection[str]) -> Iterator[GaugeSample]:
    """One reading; raises StoreUnavailable. A lane or provider without rows counts 0, for a number that vanishes looks like a failure.

    `calling_back` names the ESPs that report what was delivered: of the others no rate can be known.
    """
    waiting = {lane: (count, age_s) for lane, count, age_s in database.read(sql("count_waiting"))}
    for lane in LANES:
        count, age_s = waiting.get(lane, (0, 0.0))
        yield GaugeSample("email_due_rows", {"lane": lane}, float(count))
        yield GaugeSample("email_oldest_unsent_seconds", {"lane": lane}, float(age_s))
    stopped = {pause.lane for pause in database.run(lanes.find)}
    for lane in LANES:
        yield GaugeSample("email_lane_stopped", {"lane": lane}, float(lane in stopped))
    for provider, count in database.read(sql("count_uncertain")):
        yield GaugeSample("email_uncertain", {"provider": provider}, float(count))
    for provider, reason, count in database.read(sql("count_held")):
        yield GaugeSample("email_uncertain_held", {"provider": provider, "reason": reason}, float(count))
    for provider, count in database.read(sql("count_duplicates")):
        yield GaugeSample("email_duplicates_confirmed_total", {"provider": provider}, float(count))
    for provider, tenant, age_s in database.read(sql("read_watermark_ages")):
        yield GaugeSample("email_webhook_watermark_seconds", {"provider": provider, "tenant": str(tenant)}, float(age_s))
    for topic, count in database.read(sql("count_postponed")):
        yield GaugeSample("email_postponed_callbacks", {"topic": topic}, float(count))
    for provider, rate in database.read(sql("read_delivery_rates")):
        if provider in calling_back:
            yield GaugeSample("email_delivery_success_rate", {"provider": provider}, float(rate))
    yield GaugeSample("email_outbox_rows", {}, float(database.read(sql("count_outbox"))[0][0]))


def find_stopped_lanes(database: Database) -> str | None:
    """Which lanes the program itself has stopped, and why; what an operator stopped is no alarm."""
    stopped = [f"{pause.lane}: {pause.reason}" for pause in database.run(lanes.find) if pause.paused_by == lanes.WATCH]
    return f"stopped through our own fault: {'; '.join(stopped)}; see manage.py lanes list" if stopped else None


def check(database: Database) -> str | None:
    """Does the database answer? Raises StoreUnavailable, which is the answer no."""
    database.read("SELECT 1")
    return None
