"""The story into the database: one transaction, so that it is told whole or not at all."""

from collections import Counter
from datetime import timedelta

from db import default_templates, partitions, templates
from db.connection import Cursor
from db.seed.cast import TENANTS
from db.seed.copying import copy_rows
from db.seed.guard import ACTION
from db.seed.history import History, starting_weights
from db.seed.plan import Plan, midnight
from db.seed.rows import Audit, Provider, Suppression, User

_TABLES = (
    *("users", "email_service_providers", "email_jobs", "email_job_keys", "email_attempts", "email_tracking"),
    *("send_cohorts", "esp_cohort_stats", "suppressions", "dead_letters", "esp_weights"),
)


def fill(cursor: Cursor, plan: Plan) -> dict[str, int]:
    """Put the whole story into an empty, migrated database; returns how many rows each table got."""
    counts: Counter[str] = Counter()
    counts["email_templates"] = templates.insert_missing(cursor, [template for template, _ in default_templates.load()])
    partitions.make(cursor, plan.dates[0], plan.dates[-1])
    counts["users"] = copy_rows(cursor, "users", _users(plan))
    counts["email_service_providers"] = copy_rows(cursor, "email_service_providers", _providers(plan))
    history = History(plan)
    for day in history.days():
        for table, rows in day.tables():
            counts[table] += copy_rows(cursor, table, rows)
    counts.update(_sum_up(cursor, plan, history))
    _note(cursor, plan, counts["email_jobs"])
    cursor.execute(f"ANALYZE {', '.join(_TABLES)}")
    return dict(counts)


def _sum_up(cursor: Cursor, plan: Plan, history: History) -> dict[str, int]:
    """What only the whole month tells."""
    cohorts, stats = history.cohorts.rows()
    begin = midnight(plan.dates[0])
    manual = [Suppression(f"please-never-{n}@example.org", TENANTS[0].id, "manual", "seed", begin) for n in (1, 2)]
    return {
        "send_cohorts": copy_rows(cursor, "send_cohorts", cohorts),
        "esp_cohort_stats": copy_rows(cursor, "esp_cohort_stats", stats),
        "suppressions": copy_rows(cursor, "suppressions", [*history.suppressions, *manual]),
        "campaigns": copy_rows(cursor, "campaigns", [history.campaign]),
        "email_batches": copy_rows(cursor, "email_batches", [history.batch] if history.batch else []),
        "esp_weights": copy_rows(cursor, "esp_weights", [history.weights]),
    }


def _users(plan: Plan) -> list[User]:
    since = midnight(plan.dates[0]) - timedelta(days=200)
    return [User(t.id, t.name, t.from_email, t.from_name, t.reply_to, since, since) for t in TENANTS]


def _providers(plan: Plan) -> list[Provider]:
    since = midnight(plan.dates[0]) - timedelta(days=200)
    starting = starting_weights(plan)
    return [
        Provider(t.id, esp.provider, [t.sending_domain], esp.weight, esp.provider in starting[t.id], since, since)
        for t in TENANTS
        for esp in plan.esps
    ]


def _note(cursor: Cursor, plan: Plan, emails: int) -> None:
    """The mark by which a second seeding, and everybody else, knows that this database is made up."""
    details: dict[str, object] = {"seed": plan.seed, "days": plan.days, "emails": emails, "first_day": plan.dates[0].isoformat()}
    copy_rows(cursor, "audit_log", [Audit(plan.now, "seed", ACTION, "the whole database", details)])
