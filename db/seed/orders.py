"""What somebody wanted sent, and when: the everyday mail of a day, one campaign and one batch."""

from datetime import date, datetime, timedelta
from random import Random
from typing import NamedTuple

from db.seed.cast import TENANTS, Person, Tenant, make_people
from db.seed.dice import happens, hexadecimal, weighted, within
from db.seed.plan import WEEKDAY_SHAPE, Plan, midnight
from db.seed.rows import Batch, Campaign
from db.seed.stationery import BATCH_KIND, KINDS, Kind, Piece, Pieces
from mail.ids import recipient_job_id

# Emails of each hour of the day in UTC, in proportion
_HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 10, 11, 11, 10, 9, 9, 10, 10, 9, 8, 8, 8, 7, 5, 3, 2)
_EMAILS_A_PERSON = 6
_FEWEST_PEOPLE = 25
_CAMPAIGN_TENANT, _BATCH_TENANT = TENANTS[0], TENANTS[1]
_BATCH_ID, _BATCH_PARTS, _BATCH_INTERVAL_S = 1001, 3, 3600


class Order(NamedTuple):
    """One email that is wanted. `at` is when its job came, `due` when it may be sent at the earliest."""

    at: datetime
    due: datetime
    tenant: Tenant
    person: Person
    kind: Kind
    piece: Piece
    job_id: str
    campaign_id: str | None = None
    batch_id: int = 0

    @property
    def stream(self) -> str:
        return "marketing" if self.kind.is_marketing else "transactional"


class Orders:
    """Whoever orders: the same people get mail again and again, each tenant has its own."""

    def __init__(self, dice: Random, plan: Plan, pieces: Pieces):
        self._dice = dice
        self._plan = plan
        self._pieces = pieces
        self._people: dict[int, list[Person]] = {}
        for tenant in TENANTS:
            count = max(_FEWEST_PEOPLE, plan.emails_a_day * plan.days * tenant.share // 100 // _EMAILS_A_PERSON)
            known = sum(map(len, self._people.values()))
            self._people[tenant.id] = make_people(dice, count, known + 1)
        self._campaign_day = plan.dates[plan.days // 2]
        self._batch_day = plan.dates[plan.days * 2 // 3]

    def of_day(self, day: date) -> list[Order]:
        """Everything that was ordered on this day."""
        count = round(self._plan.emails_a_day * WEEKDAY_SHAPE[day.weekday()] * self._dice.uniform(0.95, 1.05))
        orders = [self._single(day) for _ in range(count)]
        if day == self._campaign_day:
            orders += self._campaign_orders()
        if day == self._batch_day:
            orders += self._batch_orders()
        return orders

    def campaign(self) -> Campaign:
        """The row of the one campaign, which is over."""
        start = midnight(self._campaign_day) + timedelta(hours=8)
        return Campaign(self._campaign_id(), _CAMPAIGN_TENANT.id, "newsletter", "completed", start, start + timedelta(minutes=6))

    def batch(self, emails: int, weights: dict[str, object]) -> Batch:
        """The row of the one batch, which is over; `weights` are those that it was pinned to."""
        start = self._batch_start(0)
        end = self._batch_start(_BATCH_PARTS - 1) + timedelta(minutes=5)
        return Batch(
            batch_id=_BATCH_ID,
            total_messages=emails,
            batch_size=-(-emails // _BATCH_PARTS),
            interval_seconds=_BATCH_INTERVAL_S,
            current_batch=_BATCH_PARTS,
            total_batches=_BATCH_PARTS,
            start_time=start,
            end_time=end,
            status="completed",
            user_id=_BATCH_TENANT.id,
            plan=weights,
            created_at=start,
            updated_at=end,
        )

    def _single(self, day: date) -> Order:
        dice = self._dice
        tenant = weighted(dice, {tenant: tenant.share for tenant in TENANTS})
        kind = weighted(dice, {kind: kind.traffic for kind in KINDS})
        hour = weighted(dice, dict(enumerate(_HOURS)))
        at = within(dice, midnight(day) + timedelta(hours=hour), 0, 3599)
        is_for_later = kind.type == "booking-reminder" and happens(dice, 0.6)
        due = within(dice, at, 2 * 3600, 20 * 3600) if is_for_later else at
        piece = dice.choice(self._pieces[tenant.id, kind.type])
        return Order(at, due, tenant, dice.choice(self._people[tenant.id]), kind, piece, f"job-{hexadecimal(dice, 16)}")

    def _campaign_orders(self) -> list[Order]:
        tenant, campaign_id = _CAMPAIGN_TENANT, self._campaign_id()
        kind = next(kind for kind in KINDS if kind.type == "newsletter")
        piece = self._pieces[tenant.id, kind.type][0]
        start = self.campaign().created_at
        orders = []
        for person in self._sample(tenant, self._plan.emails_a_day * 2 // 3):
            at = within(self._dice, start, 1, 300)
            orders.append(Order(at, at, tenant, person, kind, piece, recipient_job_id(campaign_id, person.email), campaign_id))
        return orders

    def _batch_orders(self) -> list[Order]:
        """Parts an hour apart, each from one content request."""
        tenant = _BATCH_TENANT
        piece = self._pieces[tenant.id, BATCH_KIND.type][0]
        people = self._sample(tenant, self._plan.emails_a_day * 4 // 10)
        orders = []
        for part in range(_BATCH_PARTS):
            message_id = hexadecimal(self._dice, 24)
            for index, person in enumerate(people[part::_BATCH_PARTS]):
                at = within(self._dice, self._batch_start(part), 1, 40)
                orders.append(Order(at, at, tenant, person, BATCH_KIND, piece, f"{message_id}:{index}", None, _BATCH_ID))
        return orders

    def _sample(self, tenant: Tenant, count: int) -> list[Person]:
        people = self._people[tenant.id]
        return self._dice.sample(people, min(count, len(people)))

    def _batch_start(self, part: int) -> datetime:
        return midnight(self._batch_day) + timedelta(hours=9, seconds=part * _BATCH_INTERVAL_S)

    def _campaign_id(self) -> str:
        return f"newsletter-{self._campaign_day:%Y-%m-%d}"
