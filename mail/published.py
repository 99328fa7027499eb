"""What other programs are told of an email: the events on `email-events`, as the wire formats spell them (section 5)."""

import msgspec


class Published(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One event; `event_id` is the same however often it is told. `at` is ISO 8601, UTC."""

    event_id: str
    event: str
    job_id: str
    message_id: str = ""
    provider: str = ""
    recipient: str
    tenant: int
    campaign_id: str = ""
    at: str
    reason: str = ""


def event_id(row_id: str, generation: int, event: str) -> str:
    """The id of what is told of a job without an attempt; a job that was replayed can end once more."""
    return f"{row_id}.{generation}:{event}" if generation else f"{row_id}:{event}"
