"""What becomes of an uncertain email: the whole policy, as pure rules over what was read. No database, no clock.

Evidence first: what the ESP's search has found was taken. Else nothing is decided before the webhooks have reported past the
attempt and nothing of theirs is left unread, and then the policy decides. Silence is never taken for more than it is.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from db.doubt import Doubted, Waiting
from db.watermarks import Mark

Policy = Literal["resend", "hold"]

# From the watermark's passing to the moment up to which all must be applied: longer than posts to the ingress overtake each other, and
# than a new partition takes to be found and read.
SETTLE_S = 30.0
_SETTLED_S = SETTLE_S + 15.0  # by then each partition has given its word
_SOONEST_S, _LATEST_S, _SHARE_OF_AGE = 15.0, 900.0, 0.1


class Wait(StrEnum):
    """Why nothing is decided, as rows, metrics and operators are told."""

    WATERMARK = "watermark"  # the account's events are not applied far enough
    NO_WATERMARK = "no-watermark"  # no event of the account was ever applied
    UNREAD = "unread"  # callbacks that came after it could not be verified
    SEARCH = "search"  # the ESP's search did not answer, or reaches back no more
    POLICY = "policy"  # a class of mail that is held
    NO_EVIDENCE = "no-evidence"  # an ESP that reports nothing at all
    UNWANTED = "unwanted"  # its producer has cancelled it meanwhile
    RESENT_ONCE = "resent-once"  # in doubt again
    NO_BYTES = "no-bytes"  # nothing to send it from
    NO_ACCOUNT = "no-account"  # the ESP's credentials are not set here any more


class Policies(NamedTuple):
    """What is done where no evidence comes, by class of mail; `silent` for ESPs that never report anything."""

    transactional: Policy
    marketing: Policy
    silent: Policy


class Evidence(NamedTuple):
    """What is known beside the doubt itself. `mark`: how far the account's events are applied (None = none ever was).

    `found` is what the ESP's search said, where there `is_searchable` (None = nothing). `margin`: how far events may trail behind.
    """

    is_account: bool = False
    is_reporting: bool = False
    is_searchable: bool = False
    margin: timedelta = timedelta()
    mark: Mark | None = None
    found: bool | None = None


class Rulings(NamedTuple):
    """What becomes of a page of doubts."""

    taken: list[Doubted]
    resends: list[Doubted]
    waiting: list[Waiting]


def rule(doubts: Mapping[Doubted, Evidence], policies: Policies, now: datetime) -> Rulings:
    """Sort doubts whose grace is over by what is done about them."""
    rulings = Rulings([], [], [])
    for doubted, evidence in doubts.items():
        if evidence.found:
            rulings.taken.append(doubted)
            continue
        wait = _obstacle(doubted, evidence, policies)
        passed_at = _passed_at(doubted, evidence, now)
        if wait is None and evidence.is_reporting and not _is_silence(evidence, passed_at):
            wait = Wait.WATERMARK
        if wait is None:
            rulings.resends.append(doubted)
        else:
            rulings.waiting.append(_waiting(doubted, evidence, wait, passed_at, now))
    return rulings


def _obstacle(doubted: Doubted, evidence: Evidence, policies: Policies) -> Wait | None:
    """What stands in the way of a resend whatever time may pass, and then what evidence is missing."""
    if not evidence.is_account:
        return Wait.NO_ACCOUNT
    if doubted.is_unwanted:
        return Wait.UNWANTED
    if doubted.is_resent:
        return Wait.RESENT_ONCE
    if not evidence.is_reporting and policies.silent == "hold":
        return Wait.NO_EVIDENCE
    if (policies.marketing if doubted.is_marketing else policies.transactional) == "hold":
        return Wait.POLICY
    if not doubted.has_payload:
        return Wait.NO_BYTES
    if evidence.is_reporting and evidence.mark is None:
        return Wait.NO_WATERMARK
    if evidence.mark is not None and evidence.mark.unread_until is not None and evidence.mark.unread_until >= doubted.since:
        return Wait.UNREAD
    if evidence.is_searchable and evidence.found is None and _is_far_enough(doubted, evidence):
        return Wait.SEARCH
    return None


def _is_far_enough(doubted: Doubted, evidence: Evidence) -> bool:
    return evidence.mark is not None and evidence.mark.at >= doubted.since + evidence.margin


def _passed_at(doubted: Doubted, evidence: Evidence, now: datetime) -> datetime | None:
    """When the watermark was first seen to be past the doubt. It never goes back, so this stays."""
    return (doubted.passed_at or now) if _is_far_enough(doubted, evidence) else None


def _is_silence(evidence: Evidence, passed_at: datetime | None) -> bool:
    """Is nothing left that could still speak? Events of one moment come in no order and through several partitions: all that was in
    each of them a while after the watermark has passed must be applied."""
    applied_until = evidence.mark.applied_until if evidence.mark else None
    return passed_at is not None and applied_until is not None and applied_until >= passed_at + timedelta(seconds=SETTLE_S)


def _waiting(doubted: Doubted, evidence: Evidence, wait: Wait, passed_at: datetime | None, now: datetime) -> Waiting:
    """Old doubts are looked at less often: each look may cost the ESP a search."""
    age_s = (now - doubted.since).total_seconds()
    again_s = min(max(age_s * _SHARE_OF_AGE, _SOONEST_S), _LATEST_S)
    if passed_at is not None and wait is Wait.WATERMARK:
        again_s = _SETTLED_S
    return Waiting(doubted.attempt_id, str(wait), doubted.since + evidence.margin, passed_at, again_s)
