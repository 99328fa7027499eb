"""The rows of the story, one class per table; the fields of a class are the columns that it fills."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


@dataclass(slots=True)
class Job:
    """A row of email_jobs."""

    id: str
    job_id: str
    tenant_id: int
    type: str
    template: str
    recipient_email: str
    recipient_name: str
    subject: str
    priority: str
    lane: str
    status: str
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    processed_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    opened_at: datetime | None = None
    clicked_at: datetime | None = None
    retry_count: int = 0
    error_message: str | None = None
    provider: str | None = None
    message_id: str | None = None
    campaign_id: str | None = None
    batch_id: int = 0
    attempt_id: str | None = None
    attempts: int = 0


@dataclass(slots=True)
class Attempt:
    """A row of email_attempts."""

    id: str
    job_id: str
    tenant_id: int
    provider: str
    mailbox_provider: str
    cohort_id: str
    number: int
    state: str
    owner: str
    opened_at: datetime
    answered_at: datetime | None
    message_id: str | None = None
    error: str | None = None
    delivered_at: datetime | None = None
    opened_first_at: datetime | None = None
    clicked_first_at: datetime | None = None
    bounced_at: datetime | None = None
    complained_at: datetime | None = None


class JobKey(NamedTuple):
    """A row of email_job_keys."""

    key: str
    id: str
    content_hash: bytes
    seen_at: datetime


class Tracking(NamedTuple):
    """A row of email_tracking."""

    id: str
    job_id: str
    attempt_id: str
    recipient: str
    message_id: str | None
    provider: str
    event_type: str
    event_data: dict[str, object]
    ip_address: str | None
    user_agent: str | None
    occurred_at: datetime


class DeadLetter(NamedTuple):
    """A row of dead_letters."""

    id: str
    reason: str
    error: str
    job_id: str | None
    tenant_id: int
    row_id: str | None
    source: dict[str, object]
    value: bytes
    attempts: int
    created_at: datetime


class Suppression(NamedTuple):
    """A row of suppressions."""

    address: str
    tenant: int
    reason: str
    source: str
    at: datetime


class Cohort(NamedTuple):
    """A row of send_cohorts."""

    id: str
    tenant_id: int
    stream: str
    batch_id: int
    started_at: datetime


class CohortStats(NamedTuple):
    """A row of esp_cohort_stats."""

    cohort_id: str
    provider: str
    mailbox_provider: str
    slot: str
    sent: int = 0
    delivered: int = 0
    opened: int = 0
    opened_machine: int = 0
    clicked: int = 0
    bounced: int = 0
    complained: int = 0


class Weights(NamedTuple):
    """A row of esp_weights."""

    computed_at: datetime
    weights: dict[str, dict[str, dict[str, int]]]
    inputs: dict[str, object]
    reason: str


class User(NamedTuple):
    """A row of users."""

    id: int
    name: str
    from_email: str | None
    from_name: str | None
    reply_to: str | None
    created_at: datetime
    updated_at: datetime


class Provider(NamedTuple):
    """A row of email_service_providers; credentials are never made up."""

    tenant_id: int
    provider_name: str
    sending_domains: list[str]
    weight: int
    enabled: bool
    created_at: datetime
    updated_at: datetime


class Campaign(NamedTuple):
    """A row of campaigns."""

    campaign_id: str
    tenant_id: int
    template: str
    status: str
    created_at: datetime
    updated_at: datetime


class Batch(NamedTuple):
    """A row of email_batches."""

    batch_id: int
    total_messages: int
    batch_size: int
    interval_seconds: int
    current_batch: int
    total_batches: int
    start_time: datetime
    end_time: datetime
    status: str
    user_id: int
    plan: dict[str, object]
    created_at: datetime
    updated_at: datetime


class Audit(NamedTuple):
    """A row of audit_log."""

    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, object]
