"""Cancels: a producer's or an operator's word that an email must not be sent, whatever its row is doing when the word comes."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from db import identities, ledger, payloads
from db.connection import Cursor, fetch
from db.identities import Identity
from db.ledger import NewJob, bounded
from db.queries import sql
from mail.ids import job_key, new_id
from mail.job import Cancel
from mail.published import Published

WHY = "cancelled by its producer"


class Answer(NamedTuple):
    """What a cancel came to. `word`: "cancelled" (now, or its id is claimed as cancelled), "again" (it was cancelled already), "noted"
    (under way, in doubt or dead: no further attempt will follow), or "too late"; `status` is where the job stands."""

    word: str
    job: Identity
    status: str


def apply(cursor: Cursor, cancels: Sequence[Cancel]) -> list[Answer]:
    """A waiting job ends; one under way gets no further attempt; an id that has not come yet is claimed. In order of row ids."""
    claims = {claim.key: claim for claim in map(_claim, cancels)}
    if not claims:
        return []
    won = ledger.insert_jobs(cursor, list(claims.values()))
    row_ids = sorted(row_id for row_id, _ in ledger.find_keys(cursor, list(claims)).values())
    bounds = bounded(row_ids)
    fetch(cursor, sql("lock_jobs"), bounds)
    before = {identity.row_id: identity for identity in identities.find(cursor, row_ids)}
    ended = {row[0] for row in fetch(cursor, sql("cancel_jobs"), bounds | {"why": WHY})}
    cursor.execute(sql("ask_to_cancel"), bounds)
    payloads.delete(cursor, sorted(ended))
    return [_answer(before[row_id], row_id in won | ended) for row_id in row_ids if row_id in before]


def news(answers: Sequence[Answer], now: datetime) -> list[Published]:
    """One event for each job that ended by this."""
    return [identities.ending(a.job, "cancelled", "cancelled", now.isoformat()) for a in answers if a.word == "cancelled"]


def _answer(was: Identity, is_ended_now: bool) -> Answer:
    if is_ended_now:
        return Answer("cancelled", was, "cancelled")
    word = {"cancelled": "again", "sending": "noted", "uncertain": "noted", "dead": "noted"}.get(was.status, "too late")
    return Answer(word, was, was.status)


def _claim(cancel: Cancel) -> NewJob:
    """The row of an id that has not come yet: whatever comes under it later meets a cancelled job."""
    return NewJob(
        row_id=new_id(),
        key=job_key(cancel.tenant, cancel.job_id),
        content_hash=b"",
        tenant=cancel.tenant,
        job_id=cancel.job_id,
        type="cancel",
        template="",
        email="",
        name="",
        subject="",
        priority="normal",
        lane="normal",
        status="cancelled",
        max_retries=0,
    )
