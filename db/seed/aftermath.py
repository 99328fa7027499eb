"""What becomes of an email once an ESP has it: delivered or not, fetched by machines, opened, clicked, complained about."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from db.seed.cast import documentation_address
from db.seed.dice import happens, hexadecimal, later, within
from db.seed.orders import Order
from db.seed.quality import Quality
from db.seed.rows import Attempt, Job, Tracking
from mail.event import STATUS_RANK
from mail.ids import tracking_id

# Programs that fetch every image, read or not: a privacy proxy that says nothing else, an image cache, a scanner of links
_MACHINES = ("Mozilla/5.0", "Mozilla/5.0 (compatible; ImageProxy/1.0)", "Mozilla/5.0 (compatible; LinkScanner/2.4)")
_HOUR_S = 3600.0
# Half of all opens come within 5 hours, but some after days; complaints come slower still.
_OPEN, _COMPLAINT = (5 * _HOUR_S, 1.95), (14 * _HOUR_S, 1.5)
_UNTOLD, _DROPPED, _DEFERRED, _GIVEN_UP, _LATE_BOUNCE, _OPENS_AGAIN = 0.004, 0.0015, 0.03, 0.04, 0.1, 0.25
_UNSUBSCRIBES, _COMPLAINS = 0.02, 0.006  # of those who open marketing mail, and of those who see it


class Fact(NamedTuple):
    """One event, as an ESP tells it. The last five are empty where they do not apply."""

    at: datetime
    type: str
    reason: str = ""
    bounce: str = ""
    url: str = ""
    is_machine: bool = False
    is_by_person: bool = False


class Aftermath:
    """Draws the events of accepted attempts; nothing happens after `now`."""

    def __init__(self, dice: Random, now: datetime):
        self._dice = dice
        self._now = now

    def draw(self, order: Order, attempt: Attempt, quality: Quality) -> list[Fact]:
        """The events so far, in the order of their times."""
        assert attempt.answered_at is not None
        facts = [Fact(within(self._dice, attempt.answered_at, 0.2, 2), "processed"), *self._delivery(order, attempt.answered_at, quality)]
        return sorted(fact for fact in facts if fact.at <= self._now)

    def track(self, order: Order, attempt: Attempt, fact: Fact) -> Tracking:
        """The event as a row."""
        person = order.person
        ip = person.ip if fact.is_by_person else documentation_address(self._dice) if fact.is_machine else None
        agent = person.user_agent if fact.is_by_person else self._dice.choice(_MACHINES) if fact.is_machine else None
        told = {"reason": fact.reason, "bounce": fact.bounce, "url": fact.url, "is_machine": fact.is_machine}
        return Tracking(
            id=tracking_id(attempt.provider, 0, hexadecimal(self._dice, 24)),
            job_id=attempt.job_id,
            attempt_id=attempt.id,
            recipient=person.email,
            message_id=attempt.message_id,
            provider=attempt.provider,
            event_type=fact.type,
            event_data={name: value for name, value in told.items() if value},
            ip_address=ip,
            user_agent=agent,
            occurred_at=fact.at,
        )

    def _delivery(self, order: Order, sent_at: datetime, quality: Quality) -> Iterator[Fact]:
        dice = self._dice
        at = later(dice, sent_at, 3.5, 0.8)
        if happens(dice, _UNTOLD):
            return
        if happens(dice, _DROPPED):
            yield Fact(at, "dropped", reason="the ESP's own list of addresses that bounced before")
            return
        if happens(dice, _DEFERRED):
            yield Fact(at, "deferred", reason="421 4.7.0 too many connections, try again later")
            if happens(dice, _GIVEN_UP):  # nobody ever told how it ended
                return
            at = later(dice, at, 900, 0.8)
        if order.person.is_gone:
            late_s = 6 * _HOUR_S if happens(dice, _LATE_BOUNCE) else 1.0
            yield Fact(later(dice, at, late_s, 0.5), "bounced", reason="550 5.1.1 the mailbox does not exist", bounce="hard")
        elif happens(dice, quality.blocked):
            yield Fact(at, "bounced", reason="554 5.7.1 refused by the receiver's policy", bounce="block")
        else:
            yield Fact(at, "delivered", reason="250 2.0.0 OK")
            yield from self._reactions(order, at, quality)

    def _reactions(self, order: Order, delivered_at: datetime, quality: Quality) -> Iterator[Fact]:
        dice, kind, mailbox = self._dice, order.kind, order.person.mailbox
        if happens(dice, mailbox.prefetches):
            yield Fact(later(dice, delivered_at, 240, 1.2), "opened", is_machine=True)
        if not happens(dice, quality.inboxed):
            return
        if happens(dice, kind.opens * mailbox.keenness):
            yield from self._reading(order, later(dice, delivered_at, *_OPEN))
        if kind.is_marketing and happens(dice, _COMPLAINS) and mailbox.name != "gmail":  # Gmail tells nobody of complaints
            yield Fact(later(dice, delivered_at, *_COMPLAINT), "complained", reason="abuse", is_by_person=True)

    def _reading(self, order: Order, opened_at: datetime) -> Iterator[Fact]:
        dice, kind = self._dice, order.kind
        yield Fact(opened_at, "opened", is_by_person=True)
        while happens(dice, _OPENS_AGAIN):
            opened_at = later(dice, opened_at, 2 * _HOUR_S, 1.5)
            yield Fact(opened_at, "opened", is_by_person=True)
        if happens(dice, kind.clicks):
            url = dice.choice(order.piece.links or ["https://www.example.com/"])
            yield Fact(within(dice, opened_at, 2, 90), "clicked", url=url, is_by_person=True)
        if kind.is_marketing and happens(dice, _UNSUBSCRIBES):
            yield Fact(within(dice, opened_at, 5, 120), "unsubscribed", is_by_person=True)


def apply(fact: Fact, job: Job, attempt: Attempt) -> None:
    """Move attempt and job by one event. What a machine opened moves neither; a status never goes back."""
    if fact.is_machine:
        return
    match fact.type:
        case "delivered":
            attempt.delivered_at = job.delivered_at = fact.at
        case "opened":
            attempt.opened_first_at = job.opened_at = attempt.opened_first_at or fact.at
        case "clicked":
            attempt.clicked_first_at = job.clicked_at = fact.at
        case "bounced":
            attempt.bounced_at = fact.at
        case "complained":
            attempt.complained_at = fact.at
    if STATUS_RANK.get(fact.type, 0) > STATUS_RANK[job.status]:
        job.status, job.updated_at = fact.type, fact.at + timedelta(seconds=1)
        if fact.type in ("deferred", "dropped", "bounced"):
            job.error_message = fact.reason
