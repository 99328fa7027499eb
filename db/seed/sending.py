"""How an email gets to an ESP: mostly at once, sometimes by a second attempt, now and then not at all."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from db.seed.dice import happens, hexadecimal, id_at, later, weighted, within
from db.seed.orders import Order
from db.seed.plan import Plan, midnight
from db.seed.rows import Attempt
from mail.ids import cohort_id

PLACES = ("seed/0", "seed/1")
_TRANSACTIONAL = "transactional"


class Course(NamedTuple):
    """What the attempts of one email come to, in order; `pauses` says how long it waits between them, `error` what was answered."""

    states: tuple[str, ...]
    pause: str = "failover"
    error: str = ""


SMOOTH = Course(("accepted",))
FAILOVER = Course(("not_taken", "accepted"), "failover", "429 too many requests")
RETRY = Course(("not_taken", "not_taken", "accepted"), "retry", "503 service unavailable, try again later")
DOUBT = Course(("uncertain", "accepted"), "grace", "no answer within the time limit")
REJECTED = Course(("rejected",), "failover", "400 the message was refused: its sender is not verified")
REFUSED = Course(("not_taken",) * 4, "retry", "this ESP cannot express the message")
_CHANCES = {SMOOTH: 0.9735, FAILOVER: 0.013, RETRY: 0.006, REJECTED: 0.004, DOUBT: 0.0025, REFUSED: 0.001}
_SLOW_RETRY_S = (30, 60, 120)  # the least wait before the second, third and fourth attempt

Choose = Callable[[int, str], Mapping[str, int]]


class Outage(NamedTuple):
    """An ESP that takes nothing for a while."""

    provider: str
    start: datetime
    end: datetime

    def covers(self, provider: str, at: datetime) -> bool:
        return provider == self.provider and self.start <= at < self.end


def outage_of(plan: Plan) -> Outage:
    """The one outage of the month: the first ESP, for most of an hour, nine days ago (or on the first day of a shorter story)."""
    start = midnight(plan.dates[max(0, plan.days - 10)]) + timedelta(hours=10, minutes=12)
    return Outage(plan.esps[0].provider, start, start + timedelta(minutes=47))


class Sender:
    """Makes attempts. `choose(tenant, mailbox provider)` gives the weights of the day."""

    def __init__(self, dice: Random, outage: Outage, choose: Choose):
        self._dice = dice
        self._outage = outage
        self._choose = choose

    def send(self, order: Order, row_id: str) -> list[Attempt]:
        """The attempts of an email, in order; all of them are over within half an hour of its being due."""
        attempts: list[Attempt] = []
        at = within(self._dice, order.due, 0.2, 3)
        provider = self._pick(order, set())
        is_out = self._outage.covers(provider, at)
        course = FAILOVER if is_out else self._course(order)
        for number, state in enumerate(course.states, start=1):
            attempts.append(self._attempt(order, row_id, number, provider, state, at, course.error))
            at = self._next_time(attempts[-1], course.pause)
            if course.pause != "grace":  # in doubt, the same ESP is asked again
                provider = self._pick(order, {a.provider for a in attempts})
        return attempts

    def _course(self, order: Order) -> Course:
        course = weighted(self._dice, _CHANCES)
        return SMOOTH if course is DOUBT and order.stream != _TRANSACTIONAL else course

    def _pick(self, order: Order, tried: set[str]) -> str:
        weights = self._choose(order.tenant.id, order.person.mailbox.name)
        fresh = {provider: weight for provider, weight in weights.items() if provider not in tried}
        return weighted(self._dice, fresh or weights)

    def _next_time(self, attempt: Attempt, pause: str) -> datetime:
        answered = attempt.answered_at or attempt.opened_at
        if pause == "failover":
            return within(self._dice, answered, 0.01, 0.2)
        if pause == "grace":
            return within(self._dice, answered, 900, 960)
        least_s = _SLOW_RETRY_S[min(attempt.number, len(_SLOW_RETRY_S)) - 1]
        return within(self._dice, answered, least_s, 2 * least_s)

    def _attempt(self, order: Order, row_id: str, number: int, provider: str, state: str, at: datetime, error: str) -> Attempt:
        dice = self._dice
        is_taken = state == "accepted"
        period = f"batch:{order.batch_id}" if order.batch_id else at.strftime("%Y-%m-%dT%H")
        answered = at + timedelta(seconds=20) if state == "uncertain" else min(later(dice, at, 0.22, 0.5), at + timedelta(seconds=15))
        return Attempt(
            id=id_at(dice, at),
            job_id=row_id,
            tenant_id=order.tenant.id,
            provider=provider,
            mailbox_provider=order.person.mailbox.name,
            cohort_id=cohort_id(order.tenant.id, order.stream, period),
            number=number,
            state=state,
            owner=f"{PLACES[happens(dice, 0.5)]}/1",
            opened_at=at,
            answered_at=answered,
            message_id=hexadecimal(dice, 24) if is_taken else None,
            error=None if is_taken else error,
        )
