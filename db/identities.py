"""What the world calls a row of email_jobs, for those who have only its id, and what it is told when such a row ends."""

from collections.abc import Sequence
from typing import NamedTuple

from db.connection import Cursor, fetch
from db.ledger import bounded
from db.queries import sql
from mail.published import Published, event_id


class Identity(NamedTuple):
    """What the world calls a row, and where it stands."""

    row_id: str
    job_id: str
    tenant: int
    recipient: str
    campaign_id: str
    status: str
    generation: int
    is_cancelled: bool


def find(cursor: Cursor, row_ids: Sequence[str]) -> list[Identity]:
    """Who these rows are."""
    return [Identity(*row) for row in fetch(cursor, sql("find_identities"), bounded(row_ids))] if row_ids else []


def ending(identity: Identity, event: str, reason: str, at: str) -> Published:
    """The news of an end that no attempt brought; `at` is ISO 8601, UTC. Once in a generation."""
    return Published(
        event_id=event_id(identity.row_id, identity.generation, event),
        event=event,
        job_id=identity.job_id,
        recipient=identity.recipient,
        tenant=identity.tenant,
        campaign_id=identity.campaign_id,
        at=at,
        reason=reason,
    )
