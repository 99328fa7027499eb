"""Between the letters of a batch and the ledger's tables: the three transactions of the delivery loop.

look_up   one read: what is known about these jobs
open      one transaction: whose jobs are ours, attempts opened, and a last look at suppressions
record    one transaction: what became of everything

Each is a function of a cursor that may run again after a lost connection: none of them has effects but in the database, and a
repeated one changes nothing twice.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import telemetry.log
from db import cancels, cohorts, dead_letters, doubt, identities, ledger, outbox, payloads, suppressions, templates, tenants, unmatched
from db.connection import Cursor
from db.dead_letters import DeadLetter
from db.ledger import Slot
from db.outbox import Posting
from db.payloads import Vault
from db.tenants import SenderDefaults
from mail.job import Cancel
from mail.published import Published
from mail.record import Standing
from mail.template import Template
from workers.news import postings
from workers.steps import admission, rows
from workers.steps.letter import STORED, Batch, Letter, Misfit

log = telemetry.log.get("workers.steps.bookkeeping")

_FINAL = frozenset({"sent", "dead", "suppressed", "expired", "cancelled"})


class Known(NamedTuple):
    """What the one read of admission brought: by key the row id and content hash, by row id the standing."""

    keys: dict[str, tuple[str, bytes]]
    standings: dict[str, Standing]
    suppressions: admission.Suppressions
    templates: dict[str, Template]
    senders: dict[int, SenderDefaults]
    now: datetime
    vanished_templates: frozenset[str] = frozenset()


class Topics(NamedTuple):
    events: str
    dead_letters: str


class Bookkeeper:
    """`keeps_content` is KEEP_CONTENT=all: then rows keep what was sent and what it was made of."""

    def __init__(self, slot: Slot, vault: Vault, topics: Topics, max_retries: int, keeps_content: bool = False):
        self._slot = slot
        self._vault = vault
        self._topics = topics
        self._max_retries = max_retries
        self._keeps_content = keeps_content

    def look_up(self, cursor: Cursor, letters: Sequence[Letter], template_names: Sequence[str]) -> Known:
        """Everything that admission has to know, by the database's clock."""
        keys = ledger.find_keys(cursor, [letter.key for letter in letters if letter.standing is None])
        standings = ledger.find_standings(cursor, [row_id for row_id, _ in keys.values()])
        stops = suppressions.find_stops(cursor, _addresses(letters))
        found = templates.find(cursor, template_names) if template_names else {}
        vanished = templates.find_vanished(cursor, [name for name in template_names if name not in found])
        senders = tenants.find(cursor, [t for t in {letter.job.tenant for letter in letters} if t])
        return Known(keys, standings, stops, found, senders, _now(cursor), vanished)

    def open(self, cursor: Cursor, letters: Sequence[Letter], is_repeated: bool) -> set[str]:
        """Open an attempt for each letter; returns the attempt ids that are ours to send. Raises Fenced.

        `is_repeated`: an earlier try's commit may have happened; it was all or nothing, so one attempt proves all of ours.
        """
        ids = [letter.attempt_id for letter in letters]
        ledger.hold_slot(cursor, self._slot, ids)
        if is_repeated and (opened := ledger.find_attempts(cursor, ids)):
            return opened
        stops = suppressions.find_stops(cursor, _addresses(letters))
        free = [letter for letter in letters if admission.check_suppression(letter, stops) is None]
        won = ledger.insert_jobs(cursor, [self._new_job(letter) for letter in free if letter.standing is None])
        won |= ledger.take_jobs(cursor, [rows.taking(letter) for letter in free if letter.standing is not None])
        ours = [letter for letter in free if letter.row_id in won]
        cohorts.insert(cursor, list({_cohort(letter) for letter in ours}))
        ledger.insert_attempts(cursor, [rows.new_attempt(letter) for letter in ours], self._slot.owner)
        return {letter.attempt_id for letter in ours}

    def record(self, cursor: Cursor, batch: Batch, published_ids: Sequence[str]) -> list[Posting]:
        """Write down the fate of every letter, misfit and cancel of a batch; returns what is to be published now.

        `published_ids` are outbox rows that the broker has by now.
        """
        attempted = [letter for letter in batch.letters if letter.outcome is not None]
        decided = self._decide(cursor, [letter for letter in batch.letters if letter.outcome is None])
        self._close_attempts(cursor, attempted)
        cancelled = self._cancel(cursor, batch.cancels)
        misfits, buried = self._bury(cursor, batch.misfits)
        self._keep_payloads(cursor, batch.letters, attempted + decided)
        letters = self._set_aside(cursor, batch.letters, misfits, attempted + decided)
        published = self._post(cursor, attempted + decided, cancelled + buried, letters)
        templates.note_rendered(cursor, batch.rendered)
        outbox.delete(cursor, published_ids)
        return published

    def _new_job(self, letter: Letter) -> ledger.NewJob:
        wanted = letter.job.max_retries
        return rows.new_job(letter, self._max_retries if wanted is None else wanted, self._keeps_content)

    def _decide(self, cursor: Cursor, letters: Iterable[Letter]) -> list[Letter]:
        """Letters that ended, or wait, without an attempt; returns those whose row is really ours to speak of."""
        telling = [letter for letter in letters if letter.fate and letter.fate.status]
        won = ledger.insert_jobs(cursor, [self._new_job(letter) for letter in telling if letter.standing is None])
        won |= ledger.decide_jobs(cursor, [rows.decision(letter) for letter in telling if letter.standing is not None])
        return [letter for letter in telling if letter.row_id in won]

    def _close_attempts(self, cursor: Cursor, letters: Sequence[Letter]) -> None:
        closed = ledger.record_results(cursor, [rows.result(letter) for letter in letters])
        fresh = [letter for letter in letters if letter.attempt_id in closed]
        ledger.insert_doubts(cursor, [rows.doubt(x) for x in fresh if x.fate and x.fate.status == "uncertain"])
        sent = [x for x in fresh if x.fate and x.fate.status == "sent"]
        cohorts.add_sent(cursor, rows.sent_counts(sent), self._slot.place)
        doubt.confirm_duplicates(cursor, [x.row_id for x in sent if x.attempt_number > 1])
        self._bind_events(cursor, [x for x in letters if x.fate and x.fate.status == "sent"])

    def _bind_events(self, cursor: Cursor, sent: Sequence[Letter]) -> None:
        """Events may have come before this record of their sends."""
        if sent:
            unmatched.bind(
                cursor,
                lambda: _addresses(sent),
                lambda awaited: [rows.bindable(x) for x in sent if x.job.recipient.email.lower() in awaited],
            )

    def _cancel(self, cursor: Cursor, wanted: Sequence[Cancel]) -> list[Published]:
        """What waits ends, an id that has not come yet is claimed; too late is no error. Returns the news."""
        answers = cancels.apply(cursor, wanted)
        if late := [answer.job.job_id for answer in answers if answer.word == "too late"]:
            log.info("cancels that came too late", job_ids=late[:20], number=len(late))
        return cancels.news(answers, datetime.now(UTC))

    def _bury(self, cursor: Cursor, misfits: Sequence[Misfit]) -> tuple[list[Misfit], list[Published]]:
        """Due rows that cannot be read end under their own names. Returns the misfits to set aside, without rows that have moved on,
        and the news."""
        ended = ledger.decide_jobs(cursor, [rows.misfit_decision(m) for m in misfits if m.record.standing])
        names = {identity.row_id: identity for identity in identities.find(cursor, sorted(ended))}
        now = datetime.now(UTC).isoformat()
        told = [m for m in misfits if m.record.standing is None]
        news: list[Published] = []
        for misfit in misfits:
            identity = names.get(misfit.record.standing.row_id) if misfit.record.standing else None
            if identity:
                told.append(misfit._replace(job_id=identity.job_id, tenant=identity.tenant))
                news.append(identities.ending(identity, "dead", misfit.reason, now))
        return told, news

    def _keep_payloads(self, cursor: Cursor, letters: Sequence[Letter], told: Sequence[Letter]) -> None:
        """Bytes of what waits are kept, of what ended forgotten; and those of jobs that others have under way kept for them."""
        payloads.store(cursor, [rows.payload(x) for x in told if x.fate and x.fate.keeps_payload], self._vault)
        payloads.delete(cursor, [x.row_id for x in told if x.standing and x.fate and x.fate.status in _FINAL])
        payloads.store_for_others(cursor, [rows.payload(x) for x in letters if x.fate is STORED], self._vault)

    def _set_aside(self, cursor: Cursor, every: Sequence[Letter], misfits: Sequence[Misfit], told: Sequence[Letter]) -> list[DeadLetter]:
        """Dead letters; returns those that were not told before."""
        refused = [x for x in every if x.fate and x.fate.is_dead_letter and not x.fate.status]
        letters = [rows.dead_letter(x) for x in [*told, *refused] if x.fate and x.fate.is_dead_letter]
        letters += [rows.misfit_letter(misfit) for misfit in misfits]
        new = dead_letters.insert(cursor, list({letter.id: letter for letter in letters}.values()))
        return [letter for letter in letters if letter.id in new]

    def _post(self, cursor: Cursor, told: Sequence[Letter], news: Sequence[Published], letters: Sequence[DeadLetter]) -> list[Posting]:
        now = datetime.now(UTC)
        published = [
            outbox.of_events(self._topics.events, [*postings.of_letters(told, now), *news]),
            dead_letters.posting(self._topics.dead_letters, letters, now),
        ]
        for posting in published:
            outbox.insert(cursor, posting)
        return [posting for posting in published if posting.values]


def _now(cursor: Cursor) -> datetime:
    cursor.execute("SELECT now()")
    row = cursor.fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def _addresses(letters: Iterable[Letter]) -> list[str]:
    return list({letter.job.recipient.email.lower() for letter in letters})


def _cohort(letter: Letter) -> tuple[str, int, str, int]:
    return letter.cohort_id, letter.job.tenant, "marketing" if letter.is_marketing else "transactional", letter.job.batch_id
