"""Slots and hosts: who may send, and what the dead leave behind."""

from collections.abc import Sequence
from typing import NamedTuple

from db.connection import Cursor, fetch, uuid_array
from db.ledger import Slot
from db.queries import sql


class Claim(NamedTuple):
    """A slot taken by a new incarnation, and between which ids its predecessor's last batch lies (None = it opened nothing)."""

    slot: Slot
    first_attempt: str | None
    last_attempt: str | None


class OpenAttempt(NamedTuple):
    """An attempt that its owner never answered, with what is needed to tell of it."""

    attempt_id: str
    row_id: str
    tenant: int
    provider: str
    account_tenant: int
    mailbox_provider: str
    cohort_id: str | None
    job_id: str
    recipient: str
    campaign_id: str | None
    retry_count: int


def claim(cursor: Cursor, host: str, number: int, boot_id: str, pid: int) -> Claim:
    """Take a slot for a new incarnation; once this is committed, no transaction of an older one can open anything."""
    values = {"host": host, "slot": number, "boot_id": boot_id, "pid": pid}
    incarnation, first, last = fetch(cursor, sql("claim_slot"), values)[0]
    return Claim(Slot(host, number, incarnation), first, last)


def find(cursor: Cursor, host: str) -> list[int]:
    """The numbers of all slots that this host ever had and did not give up."""
    return [row[0] for row in fetch(cursor, sql("find_slots"), {"host": host})]


def forget(cursor: Cursor, slot: Slot) -> None:
    cursor.execute(sql("forget_slot"), {"host": slot.host, "slot": slot.number, "incarnation": slot.incarnation})


def find_open_attempts(cursor: Cursor, claim: Claim) -> list[OpenAttempt]:
    """What older incarnations of this slot left open. They never begin a batch before the last one is recorded."""
    if claim.first_attempt is None:
        return []
    values = {"first": claim.first_attempt, "last": claim.last_attempt, "owners": _like(claim.slot.place)}
    return [OpenAttempt(*row) for row in fetch(cursor, sql("find_open_attempts"), values)]


def release_jobs(cursor: Cursor, attempts: Sequence[OpenAttempt]) -> None:
    """Jobs whose attempts certainly did not leave may be sent at once. Lock the rows first (lock_jobs)."""
    if attempts:
        ids = [a.row_id for a in attempts]
        values = {"ids": uuid_array(ids), "attempt_ids": uuid_array([a.attempt_id for a in attempts]), "low": min(ids), "high": max(ids)}
        cursor.execute(sql("release_jobs"), values)


def renew_host_lease(cursor: Cursor, host: str, boot_id: str, lease_s: float) -> None:
    cursor.execute(sql("renew_host_lease"), {"host": host, "boot_id": boot_id, "lease_s": lease_s})


def find_lost_hosts(cursor: Cursor, margin_s: float) -> list[str]:
    """Hosts whose lease ran out more than `margin_s` seconds ago."""
    return [row[0] for row in fetch(cursor, sql("find_lost_hosts"), {"margin_s": margin_s})]


def forget_host(cursor: Cursor, host: str, margin_s: float) -> None:
    cursor.execute(sql("forget_host"), {"host": host, "margin_s": margin_s})


def add_suspect(cursor: Cursor, record: str) -> int:
    """A worker died with this record under its hand; returns how often that has happened."""
    return int(fetch(cursor, sql("add_suspect"), {"record": record})[0][0])


def find_suspects(cursor: Cursor) -> dict[str, int]:
    """Records under whose hand workers died lately, and how often."""
    return dict(fetch(cursor, sql("find_suspects"), {}))


def forget_suspects(cursor: Cursor, records: Sequence[str]) -> None:
    if records:
        cursor.execute(sql("forget_suspects"), {"records": list(records)})


def _like(place: str) -> str:
    escaped = place.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}/%"
