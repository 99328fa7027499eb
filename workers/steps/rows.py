"""Letters as rows: what each table is told of a letter. Pure; bookkeeping.py puts the rows into transactions."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from db.cohorts import CohortCount
from db.dead_letters import DeadLetter
from db.ledger import Decision, Doubt, NewAttempt, NewJob, Result, Taking
from db.payloads import Payload
from db.unmatched import Bindable
from mail.ids import dead_letter_id, time_of
from workers.feedback.event_rules import CLOCK_SKEW
from workers.steps.judgement import ATTEMPT_STATES, NOT_TAKEN
from workers.steps.letter import Letter, Misfit

_encoder = msgspec.json.Encoder(enc_hook=str)


def new_job(letter: Letter, max_retries: int, keeps_content: bool) -> NewJob:
    """The row of a job that was not known: sending with its attempt, or with the status that its fate gives."""
    job, message, fate = letter.job, letter.message, letter.fate
    is_sending = fate is None
    return NewJob(
        row_id=letter.row_id,
        key=letter.key,
        content_hash=job.content_hash,
        tenant=job.tenant,
        job_id=job.job_id,
        type=job.type,
        template=job.template,
        email=job.recipient.email,
        name=job.recipient.name,
        subject=message.subject if message else "",
        priority=job.priority,
        lane=letter.lane,
        status="sending" if fate is None else fate.status,
        max_retries=max_retries,
        retry_count=job.retry_count if fate is None else max(fate.retry_count, job.retry_count),
        scheduled_at=job.scheduled_at.isoformat() if job.scheduled_at else None,
        expires_at=job.expires_at.isoformat() if job.expires_at else None,
        delay_s=fate.delay_s if fate else None,
        error=fate.error if fate else None,
        campaign_id=job.campaign_id or None,
        batch_id=job.batch_id,
        attempt_id=letter.attempt_id if is_sending else None,
        provider=letter.account.provider if is_sending and letter.account else None,
        content=(message.html or message.text) if keeps_content and message else None,
        data=_encoder.encode(job.data).decode() if keeps_content and job.data else None,
    )


def taking(letter: Letter) -> Taking:
    assert letter.standing and letter.account and letter.message
    return Taking(letter.row_id, letter.attempt_id, letter.standing.attempt_id, letter.account.provider, letter.message.subject)


def new_attempt(letter: Letter) -> NewAttempt:
    assert letter.account
    return NewAttempt(
        attempt_id=letter.attempt_id,
        row_id=letter.row_id,
        tenant=letter.job.tenant,
        account_tenant=letter.account.tenant,
        provider=letter.account.provider,
        mailbox_provider=letter.mailbox_provider,
        cohort_id=letter.cohort_id,
        number=letter.attempt_number,
    )


def result(letter: Letter) -> Result:
    """What the ledger is told of an attempt that was answered, or of which nobody knows."""
    outcome, fate = letter.outcome, letter.fate
    assert outcome and fate
    return Result(
        attempt_id=letter.attempt_id,
        row_id=letter.row_id,
        state=ATTEMPT_STATES.get(outcome.verdict, NOT_TAKEN),
        status=fate.status,
        message_id=outcome.message_id,
        error=fate.error,
        retry_count=max(fate.retry_count, letter.retry_count),
        delay_s=fate.delay_s,
    )


def decision(letter: Letter) -> Decision:
    assert letter.fate and letter.standing
    return Decision(letter.row_id, letter.standing.attempt_id, letter.fate.status, letter.fate.error, letter.fate.delay_s)


def doubt(letter: Letter) -> Doubt:
    assert letter.account and letter.outcome
    account = letter.account
    return Doubt(letter.attempt_id, letter.row_id, letter.job.tenant, account.provider, account.tenant, letter.outcome.detail)


def payload(letter: Letter) -> Payload:
    return Payload(letter.row_id, letter.record.value or b"", letter.job.index, letter.record.source)


def dead_letter(letter: Letter) -> DeadLetter:
    """A job that will not be sent. Its id is the row's and generation's, so that it dies once however often it is told."""
    fate, record = letter.fate, letter.record
    assert fate
    generation = letter.standing.generation if letter.standing else 0
    origin = f"{letter.key}:{generation}" if fate.status else f"{record.name}:{letter.job.index}"
    attempts = letter.attempt_number if letter.outcome else letter.attempt_number - 1
    return DeadLetter(
        id=dead_letter_id(f"{fate.reason}:{origin}", record.value or b""),
        reason=fate.reason,
        error=fate.error,
        job_id=letter.job.job_id,
        tenant=letter.job.tenant,
        source=record.source,
        value=record.value,
        row_id=letter.row_id if fate.status else None,
        record_index=letter.job.index,
        attempts=attempts,
    )


def misfit_letter(misfit: Misfit) -> DeadLetter:
    """A record, or one email of it, that is no job. A due row that cannot be read any more keeps its row, and dies once a generation."""
    record, standing = misfit.record, misfit.record.standing
    name = f"{record.name}:{standing.generation}" if standing else record.name
    return DeadLetter(
        id=dead_letter_id(f"{misfit.reason}:{name}:{misfit.record_index}", record.value or b""),
        reason=misfit.reason,
        error=misfit.error,
        job_id=misfit.job_id,
        tenant=misfit.tenant,
        source=record.source,
        value=record.value,
        row_id=standing.row_id if standing else None,
        record_index=record.index if standing else misfit.record_index,
        attempts=standing.attempts if standing else 0,
    )


def misfit_decision(misfit: Misfit) -> Decision:
    standing = misfit.record.standing
    assert standing
    return Decision(standing.row_id, standing.attempt_id, "dead", misfit.error)


def bindable(letter: Letter) -> Bindable:
    """What an event that came too early is looked up by."""
    assert letter.account and letter.outcome
    account, opened_at = letter.account, datetime.fromtimestamp(time_of(letter.attempt_id), UTC)
    recipient = letter.job.recipient.email.lower()
    return Bindable(letter.attempt_id, account.provider, account.tenant, letter.outcome.message_id, recipient, opened_at - CLOCK_SKEW)


def sent_counts(letters: Iterable[Letter]) -> list[CohortCount]:
    """How many of these letters each cohort, ESP and mailbox provider got."""
    counts = Counter((x.cohort_id, x.account.provider, x.mailbox_provider) for x in letters if x.account)
    return [CohortCount(*cell, sent=count) for cell, count in counts.items()]
