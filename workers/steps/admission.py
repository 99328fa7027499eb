"""Whether a job may be sent now: known? suppressed? expired? not due? The rules, as pure functions over what one read brought.

The read that feeds them is bookkeeping.py's; nothing here touches the database. The table of all cases is docs/truth-table.md.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from db.suppressions import Stop
from mail.job import Job
from mail.record import Standing
from workers.steps.letter import CANCELLED, EXPIRED, REPEAT, STORED, Fate, Letter, refused

# A row that waits for its time or for its bytes: whoever opens the next attempt by compare and set may send it.
WAITING = frozenset({"pending", "scheduled", "retrying"})
# Not finished, and not ours to touch: only its bytes are of use.
UNDER_WAY = frozenset({"sending", "uncertain"})
# Without an unsubscribe: these reasons stop every mail to the address.
_STOPS_ALL = frozenset({"hard-bounce", "complaint", "manual"})

Suppressions = Mapping[str, list[Stop]]


def settle_repeats(letters: Iterable[Letter]) -> None:
    """Of letters with the same key in one batch only the first goes on."""
    first: dict[str, Letter] = {}
    for letter in letters:
        winner = first.setdefault(letter.key, letter)
        if winner is not letter:
            letter.fate = REPEAT if winner.job.content_hash == letter.job.content_hash else _id_reused(letter.job)


def meet_known(letter: Letter, standing: Standing, content_hash: bytes) -> Fate | None:
    """The fate of a letter from Kafka whose id is known; None = it may be sent (its row waits for exactly this)."""
    if standing.status == "cancelled":
        return REPEAT
    if content_hash != letter.job.content_hash:
        return _id_reused(letter.job)
    if standing.status == "pending":
        return CANCELLED if standing.is_cancelled else None
    if standing.status in WAITING | UNDER_WAY and not standing.has_payload:
        return STORED
    return REPEAT


def meet_due(standing: Standing) -> Fate | None:
    """The fate of a due row; None = it may be sent. Another status means that it was decided since the lease."""
    if standing.status not in WAITING:
        return REPEAT
    return CANCELLED if standing.is_cancelled else None


def check_time(job: Job, now: datetime, due: Standing | None = None) -> Fate | None:
    """Expired jobs end; jobs for later wait as rows. A row that was leased because it is `due` is not put off again."""
    if job.expires_at is not None and job.expires_at <= now:
        return EXPIRED
    if due is None and job.scheduled_at is not None and job.scheduled_at > now:
        delay = (job.scheduled_at - now).total_seconds()
        return Fate("scheduled", reason="scheduled", delay_s=delay, keeps_payload=True)
    return None


def check_suppression(letter: Letter, suppressions: Suppressions) -> Fate | None:
    """Suppressed recipients get nothing of the tenant; of nobody, where the entry is for everybody."""
    for stop in suppressions.get(letter.job.recipient.email.lower(), ()):
        if (stop.is_global or stop.tenant == letter.job.tenant) and _stops(stop, letter.is_marketing):
            return Fate("suppressed", reason=stop.reason, error=f"the recipient is suppressed: {stop.reason}", event="suppressed")
    return None


def allowlist(entries: Iterable[str]) -> Callable[[str], bool]:
    """A test for staging guards: entries are addresses or domains ("@example.com" or "example.com"); none = everybody."""
    allowed = frozenset(entry.strip().lower().lstrip("@") for entry in entries if entry.strip())

    def is_allowed(address: str) -> bool:
        address = address.lower()
        return not allowed or address in allowed or address.rpartition("@")[2] in allowed

    return is_allowed


def _stops(stop: Stop, is_marketing: bool) -> bool:
    """An unsubscribe, in whichever mail it was made, stops marketing mail and nothing else: receipts still come."""
    return stop.reason in _STOPS_ALL or is_marketing


def _id_reused(job: Job) -> Fate:
    return refused("id-reused", f"id: {job.job_id} was used before with other content; give every email its own id")
