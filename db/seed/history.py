"""The story itself, day by day: what was ordered, what was sent, what came of it, and what was learnt for the next day."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from random import Random

from db.seed.aftermath import Aftermath, Fact, apply
from db.seed.cast import TENANTS, usable_providers
from db.seed.cohorts import Cohorts
from db.seed.dice import happens, id_at
from db.seed.mishaps import SENT, data_of, dead_letter, draw_ending, end, stray_letter, suppressed_for
from db.seed.orders import Order, Orders
from db.seed.plan import QUIET, Plan, midnight
from db.seed.quality import quality_of
from db.seed.rows import Attempt, Batch, Campaign, DeadLetter, Job, JobKey, Suppression, Tracking, Weights
from db.seed.sending import Sender, outage_of
from db.seed.stationery import LANES, make_pieces
from db.seed.weights import SERVICE, Learner
from mail.document import hash_content
from mail.ids import job_key

_STRAYS = 0.0015
_REASONS = {"complained": "complaint", "unsubscribed": "unsubscribe"}
_STOPS_ALL = frozenset({"hard-bounce", "complaint", "manual"})


@dataclass(slots=True)
class Day:
    """The rows of one day's emails, their later events among them."""

    email_jobs: list[Job] = field(default_factory=list)
    email_job_keys: list[JobKey] = field(default_factory=list)
    email_attempts: list[Attempt] = field(default_factory=list)
    email_tracking: list[Tracking] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[str, list[object]]]:
        for table in fields(self):
            yield table.name, getattr(self, table.name)


class History:
    """One month. Go through `days()` first; what sums it up is complete only then."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._dice = Random(plan.seed)
        starting = starting_weights(plan)
        self._learner = Learner(starting, [esp.provider for esp in plan.esps if not esp.has_callbacks], plan.normalise)
        self._reporting = {esp.provider for esp in plan.esps if esp.has_callbacks}
        self._orders = Orders(self._dice, plan, make_pieces(self._dice, plan))
        self._sender = Sender(self._dice, outage_of(plan), self._learner.row)
        self._aftermath = Aftermath(self._dice, plan.now)
        self._suppressed: dict[tuple[str, int, str], Suppression] = {}
        self.batch: Batch | None = None
        self.cohorts = Cohorts()

    @property
    def campaign(self) -> Campaign:
        return self._orders.campaign()

    @property
    def weights(self) -> Weights:
        """What was learnt from all of it."""
        return self._learner.snapshot(self._plan.now, self._plan.days)

    @property
    def suppressions(self) -> list[Suppression]:
        return [self._suppressed[key] for key in sorted(self._suppressed)]

    def days(self) -> Iterator[Day]:
        """Each day's rows. A job is told on the day when it is due; what is not due yet is left out, for nothing may wait."""
        waiting: list[Order] = []
        for date in self._plan.dates:
            waiting += self._orders.of_day(date)
            until = min(midnight(date) + timedelta(days=1), self._plan.now - QUIET)
            today = sorted((order for order in waiting if order.due < until), key=lambda order: (order.due, order.job_id))
            waiting = [order for order in waiting if order.due >= until]
            yield self._tell(today)
            self._learner.learn()

    def _tell(self, orders: list[Order]) -> Day:
        batch = [order for order in orders if order.batch_id]
        if batch:
            self.batch = self._orders.batch(len(batch), self._learner.rows_of(batch[0].tenant.id))
        day = Day()
        for order in orders:
            self._tell_order(order, day)
            if happens(self._dice, _STRAYS):
                day.dead_letters.append(stray_letter(self._dice, order))
        return day

    def _tell_order(self, order: Order, day: Day) -> None:
        job = new_job(order, id_at(self._dice, order.at))
        stop = self._suppression(order)
        ending = suppressed_for(stop) if stop else draw_ending(self._dice, order)
        day.email_jobs.append(job)
        day.email_job_keys.append(key_of(order, job, ending.reason))
        if ending is SENT:
            self._send(order, job, day)
            return
        end(job, order, ending)
        if ending.reason:
            day.dead_letters.append(dead_letter(self._dice, job, order, ending.reason, ending.error, 0))

    def _send(self, order: Order, job: Job, day: Day) -> None:
        attempts = self._sender.send(order, job.id)
        day.email_attempts += attempts
        for attempt in attempts:
            self.cohorts.note(order, attempt)
        last = attempts[-1]
        note_attempts(job, attempts)
        if last.state == "accepted":
            self._follow(order, job, last, day)
        else:
            reason = "rejected" if last.state == "rejected" else "retries-exhausted"
            day.dead_letters.append(dead_letter(self._dice, job, order, reason, job.error_message or "", len(attempts)))

    def _follow(self, order: Order, job: Job, attempt: Attempt, day: Day) -> None:
        facts: list[Fact] = []
        if attempt.provider in self._reporting:
            facts = self._aftermath.draw(order, attempt, quality_of(self._plan.seed, attempt.provider, attempt.mailbox_provider))
        for fact in facts:
            apply(fact, job, attempt)
            self._suppress(order, attempt, fact)
        day.email_tracking += [self._aftermath.track(order, attempt, fact) for fact in facts]
        self.cohorts.count(attempt, facts)
        self._learner.count(attempt, any(fact.bounce == "hard" for fact in facts))

    def _suppress(self, order: Order, attempt: Attempt, fact: Fact) -> None:
        reason = "hard-bounce" if fact.bounce == "hard" else _REASONS.get(fact.type)
        if reason:
            entry = Suppression(order.person.email, order.tenant.id, reason, attempt.provider, fact.at)
            key = (entry.address, entry.tenant, reason)
            known = self._suppressed.get(key)
            self._suppressed[key] = entry if known is None or entry.at < known.at else known

    def _suppression(self, order: Order) -> str | None:
        """The reason why this email must not be sent, if there is one by the time it is due."""
        for reason in ("hard-bounce", "complaint", "unsubscribe"):
            entry = self._suppressed.get((order.person.email, order.tenant.id, reason))
            if entry and entry.at <= order.due and (reason in _STOPS_ALL or order.kind.is_marketing):
                return reason
        return None


def starting_weights(plan: Plan) -> dict[int, dict[str, int]]:
    """Before there is evidence, by tenant; the service's own (0) knows every ESP."""
    weights = {esp.provider: esp.weight for esp in plan.esps}
    providers = list(weights)
    return {SERVICE: weights} | {t.id: {p: weights[p] for p in usable_providers(t, providers)} for t in TENANTS}


def new_job(order: Order, row_id: str) -> Job:
    """The row of a job that has just come."""
    person, kind = order.person, order.kind
    return Job(
        id=row_id,
        job_id=order.job_id,
        tenant_id=order.tenant.id,
        type=kind.type,
        template=order.piece.template,
        recipient_email=person.email,
        recipient_name=person.name,
        subject=order.piece.subject,
        priority=kind.priority,
        lane="bulk" if order.campaign_id else LANES[kind.priority],
        status="pending",
        created_at=order.at,
        updated_at=order.at,
        scheduled_at=order.due if order.due > order.at else None,
        campaign_id=order.campaign_id,
        batch_id=order.batch_id,
    )


def key_of(order: Order, job: Job, reason: str) -> JobKey:
    """What catches the same job when it comes again; the hash of a template job is the one that its bytes have."""
    content = hash_content(job.recipient_email, job.recipient_name, "", job.type, job.template, data_of(order, reason))
    return JobKey(job_key(job.tenant_id, job.job_id), job.id, content, order.at)


def note_attempts(job: Job, attempts: list[Attempt]) -> None:
    """What the attempts came to. Waiting for an ESP is no retry; being refused by all of them is."""
    last = attempts[-1]
    assert last.answered_at is not None
    job.processed_at, job.updated_at = attempts[0].opened_at, last.answered_at
    job.provider, job.attempt_id, job.attempts = last.provider, last.id, len(attempts)
    job.status = "sent" if last.state == "accepted" else "dead"
    if job.status == "sent":
        job.sent_at, job.message_id = last.answered_at, last.message_id
    elif last.state == "rejected":
        job.error_message = last.error
    else:
        job.retry_count = len(attempts)
        job.error_message = f"refused {len(attempts)} times, last: {last.error}"
