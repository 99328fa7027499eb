"""Settling what a dead worker left: each open attempt of its slot is recorded, released or doubted, by the flight log's evidence.

  answered and accepted            -> recorded as sent
  answered, and not taken          -> released: the job may be sent again at once (a refusal may be asked for again)
  prepared                         -> released: it certainly never left
  leaving, or no word in the log   -> uncertain: only evidence or policy may settle it

A log of another boot, or none, says nothing about anything: then all is uncertain. Settling twice changes nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import telemetry.log
from db import cohorts, doubt, due, ledger, outbox, slots
from db.cohorts import CohortCount
from db.connection import Cursor, Database, fetch, uuid_array
from db.ledger import Doubt, Result
from db.queries import sql
from db.slots import Claim, OpenAttempt
from mail.outcome import Outcome, Verdict
from mail.published import Published
from workers.flight.flight_log import Evidence, Flight, Stage, read_evidence

log = telemetry.log.get("workers.flight.settlement")


class Conclusion(NamedTuple):
    """What the evidence says about the open attempts of a slot."""

    sent: list[tuple[OpenAttempt, Outcome]]
    released: list[OpenAttempt]
    uncertain: list[tuple[OpenAttempt, str]]


def flight_path(state_dir: Path, slot: int) -> Path:
    """Where the flight log of a delivery slot lies."""
    return state_dir / f"delivery-{slot}.flight"


def suspect(state_dir: Path, slot: int, boot_id: str) -> str:
    """The record under the hand of the slot's dead worker; "" = none."""
    evidence = _trusted(read_evidence(flight_path(state_dir, slot)), boot_id)
    return evidence.hand if evidence else ""


def take_over(database: Database, state_dir: Path, host: str, slot: int, boot_id: str, pid: int, events_topic: str) -> Claim:
    """Claim a slot and settle everything its earlier incarnations left; afterwards its flight log may be written anew."""
    claim = database.run(lambda cursor: slots.claim(cursor, host, slot, boot_id, pid))
    evidence = _trusted(read_evidence(flight_path(state_dir, slot)), boot_id)
    conclusion = database.run(lambda cursor: _settle(cursor, claim, evidence, events_topic))
    if evidence and evidence.hand:
        deaths = database.run(lambda cursor: slots.add_suspect(cursor, evidence.hand))
        log.warning("a worker died with a record under its hand", record=evidence.hand, deaths=deaths)
    if conclusion.sent or conclusion.released or conclusion.uncertain:
        log.warning(
            "settled what a dead worker left",
            sent=len(conclusion.sent),
            released=len(conclusion.released),
            uncertain=len(conclusion.uncertain),
            attempt_ids=[attempt.attempt_id for attempt, _ in conclusion.uncertain][:20],
        )
    return claim


def doubt_all(database: Database, host: str, slot: int, boot_id: str, pid: int, events_topic: str) -> int:
    """Settle a slot of a host that is lost, without its flight log; returns how many attempts are uncertain now."""
    claim = database.run(lambda cursor: slots.claim(cursor, host, slot, boot_id, pid))
    return len(database.run(lambda cursor: _settle(cursor, claim, None, events_topic)).uncertain)


def conclude(attempts: Sequence[OpenAttempt], evidence: Evidence | None) -> Conclusion:
    """Judge open attempts by the flight log (None = there is none to be trusted)."""
    flights = evidence.last_flights() if evidence else {}
    conclusion = Conclusion([], [], [])
    for attempt in attempts:
        flight = flights.get(attempt.attempt_id)
        outcome = _outcome_of(attempt.attempt_id, flight)
        if flight is None:
            conclusion.uncertain.append((attempt, "no flight log speaks of it"))
        elif flight.stage is Stage.LEAVING or (outcome and outcome.verdict is Verdict.UNKNOWN):
            conclusion.uncertain.append((attempt, outcome.detail if outcome else "the worker died while the request was on its way"))
        elif outcome and outcome.verdict is Verdict.ACCEPTED:
            conclusion.sent.append((attempt, outcome))
        else:
            conclusion.released.append(attempt)
    return conclusion


def _trusted(evidence: Evidence | None, boot_id: str) -> Evidence | None:
    return evidence if evidence and evidence.boot_id == boot_id else None


def _outcome_of(attempt_id: str, flight: Flight | None) -> Outcome | None:
    return next((o for o in flight.outcomes if o.attempt_id == attempt_id), None) if flight else None


def _settle(cursor: Cursor, claim: Claim, evidence: Evidence | None, events_topic: str) -> Conclusion:
    attempts = slots.find_open_attempts(cursor, claim)
    conclusion = conclude(attempts, evidence)
    if attempts:
        ids = [attempt.row_id for attempt in attempts]
        fetch(cursor, sql("lock_jobs"), {"ids": uuid_array(ids), "low": min(ids), "high": max(ids)})
        slots.release_jobs(cursor, conclusion.released)
        closed = ledger.record_results(cursor, _results(conclusion))  # an event may have proved one of them in this very moment
        ledger.insert_doubts(cursor, [_doubt(a, reason) for a, reason in conclusion.uncertain if a.attempt_id in closed])
        _count_sent(cursor, [a for a, _ in conclusion.sent if a.attempt_id in closed], claim.slot.place)
        doubt.confirm_duplicates(cursor, [a.row_id for a, _ in conclusion.sent])
        outbox.insert(cursor, outbox.of_events(events_topic, [_sent_event(a, o) for a, o in conclusion.sent]))
    due.release_leases(cursor, claim.slot.place)
    return conclusion


def _results(conclusion: Conclusion) -> list[Result]:
    sent = [Result(a.attempt_id, a.row_id, "accepted", "sent", o.message_id, "", a.retry_count, None) for a, o in conclusion.sent]
    doubted = [Result(a.attempt_id, a.row_id, "uncertain", "uncertain", "", why, a.retry_count, None) for a, why in conclusion.uncertain]
    # the job of a released attempt is not `sending` any more, so only its attempt is closed here
    released = [Result(a.attempt_id, a.row_id, "not_taken", "pending", "", "", a.retry_count, None) for a in conclusion.released]
    return sent + doubted + released


def _doubt(attempt: OpenAttempt, reason: str) -> Doubt:
    return Doubt(attempt.attempt_id, attempt.row_id, attempt.tenant, attempt.provider, attempt.account_tenant, reason)


def _count_sent(cursor: Cursor, sent: Sequence[OpenAttempt], place: str) -> None:
    cells: dict[tuple[str, str, str], int] = {}
    for attempt in sent:
        cell = (attempt.cohort_id or "", attempt.provider, attempt.mailbox_provider)
        cells[cell] = cells.get(cell, 0) + 1
    cohorts.add_sent(cursor, [CohortCount(*cell, sent=sent) for cell, sent in cells.items() if cell[0]], place)


def _sent_event(attempt: OpenAttempt, outcome: Outcome) -> Published:
    return Published(
        event_id=f"{attempt.attempt_id}:sent",
        event="sent",
        job_id=attempt.job_id,
        message_id=outcome.message_id,
        provider=attempt.provider,
        recipient=attempt.recipient,
        tenant=attempt.tenant,
        campaign_id=attempt.campaign_id or "",
        at=datetime.now(UTC).isoformat(),
    )
