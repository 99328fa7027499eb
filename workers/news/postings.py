"""What the world is told of letters: one event each, where their fate has one."""

from collections.abc import Iterable
from datetime import datetime

from mail.published import Published, event_id
from workers.steps.letter import Letter


def of_letters(letters: Iterable[Letter], now: datetime) -> list[Published]:
    """One event for each letter whose fate is told."""
    at = now.isoformat()
    return [_of_letter(letter, at) for letter in letters if letter.fate is not None and letter.fate.event]


def _of_letter(letter: Letter, at: str) -> Published:
    fate, outcome, account = letter.fate, letter.outcome, letter.account
    assert fate is not None
    return Published(
        event_id=event_id(letter.row_id, letter.standing.generation if letter.standing else 0, fate.event)
        if outcome is None
        else f"{letter.attempt_id}:{fate.event}",
        event=fate.event,
        job_id=letter.job.job_id,
        message_id=outcome.message_id if outcome else "",
        provider=account.provider if outcome and account else "",
        recipient=letter.job.recipient.email,
        tenant=letter.job.tenant,
        campaign_id=letter.job.campaign_id,
        at=at,
        reason=fate.reason,
    )
