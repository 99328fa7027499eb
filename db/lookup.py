"""Which email somebody means: by a producer's job id, an id of ours in either spelling, or an ESP's message id. Only reads."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from db import ledger
from db.connection import Cursor, fetch
from db.queries import sql
from mail.ids import bounds_of_day, from_wire, job_key

_WIRE_IN_MESSAGE_ID = re.compile(r"<?([0-9A-Za-z]{26})(?:@[^\s@]+)?>?")  # as the ESPs that let us choose it have it


class Match(NamedTuple):
    """One email that is meant, and as what the id was found. `row_id` None: only a dead letter is left of it, `letter_id` or
    all those under the job id."""

    found_as: str
    row_id: str | None
    tenant: int | None = None
    letter_id: str | None = None


def find(cursor: Cursor, text: str, tenant: int | None, days: float) -> list[Match]:
    """The emails that this id may mean, of one tenant or (None) of every known one: an id of ours first, else a job id, else dead
    letters of the last `days` that never became an email."""
    own = own_id(text)
    if own and (found := fetch(cursor, sql("find_by_own_id"), {"id": own})):
        return [Match(kind, row_id, None, letter_id) for kind, row_id, letter_id in found]
    if found_by_name := _find_by_job_id(cursor, text, tenant):
        return found_by_name
    letters = fetch(cursor, sql("find_nameless_letters"), {"job_id": text, "tenant": tenant, "days": days})
    return [Match("job id of a dead letter", None, row[0]) for row in letters]


def find_by_message_id(cursor: Cursor, message_id: str, tenant: int | None, days_ago: int) -> list[Match]:
    """The emails of one day that an ESP knows under this id. Reads all attempts of that day: there is no index."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
    low, high = bounds_of_day(int(day.timestamp() * 1000), int((day + timedelta(days=1)).timestamp() * 1000))
    values = {"message_id": message_id, "tenant": tenant, "low": low, "high": high}
    found = dict(fetch(cursor, sql("find_by_message_id"), values))
    return [Match("message id", row_id, whose) for row_id, whose in sorted(found.items())]


def own_id(text: str) -> str | None:
    """The UUID that a text spells, plainly, as a wire id, or as a message id made of one; None = it spells none."""
    wire = _WIRE_IN_MESSAGE_ID.fullmatch(text)
    try:
        return from_wire(wire[1]) if wire else str(UUID(text))
    except ValueError:
        return None


def known_tenants(cursor: Cursor) -> list[int]:
    """Every tenant that is set up or has ever sent."""
    return sorted(row[0] for row in fetch(cursor, sql("find_tenant_ids"), {}))


def _find_by_job_id(cursor: Cursor, job_id: str, tenant: int | None) -> list[Match]:
    whose = {job_key(t, job_id): t for t in (known_tenants(cursor) if tenant is None else [tenant])}
    known = ledger.find_keys(cursor, list(whose))
    return sorted((Match("job id", row_id, whose[key]) for key, (row_id, _) in known.items()), key=lambda match: match.tenant or 0)
