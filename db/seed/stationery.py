"""What the emails are about: their types with habits of their readers, and their words from the default templates."""

from random import Random
from typing import Any, NamedTuple

from db.default_templates import load
from db.seed.cast import TENANTS
from db.seed.dice import hexadecimal
from db.seed.plan import Plan
from mail.template import MARKETING_TYPES

LANES = {"high": "high", "normal": "normal", "low": "bulk"}
INLINE = "inline"
_VARIANTS = 4


class Kind(NamedTuple):
    """A type of email: its part of the traffic, its priority, and how many of those who see it open and then click it."""

    type: str
    traffic: int
    priority: str
    opens: float
    clicks: float

    @property
    def is_marketing(self) -> bool:
        return self.type in MARKETING_TYPES


KINDS = (
    Kind("booking-confirmation", 16, "normal", 0.70, 0.22),
    Kind("booking-cancellation", 3, "normal", 0.64, 0.10),
    Kind("booking-reminder", 9, "normal", 0.60, 0.15),
    Kind("payment-confirmation", 14, "normal", 0.52, 0.08),
    Kind("payment-failed", 3, "high", 0.66, 0.38),
    Kind("refund-confirmation", 2, "normal", 0.58, 0.06),
    Kind("welcome-email", 6, "normal", 0.55, 0.24),
    Kind("password-reset", 6, "high", 0.80, 0.66),
    Kind("email-verification", 6, "high", 0.82, 0.70),
    Kind("event-announcement", 8, "low", 0.28, 0.14),
    Kind("special-offer", 8, "low", 0.24, 0.12),
    Kind("newsletter", 10, "low", 0.32, 0.12),
    Kind("maintenance-notice", 2, "normal", 0.34, 0.04),
    Kind("security-alert", 4, "high", 0.66, 0.20),
    Kind("system-update", 3, "normal", 0.30, 0.06),
)
# One email of a content request: it brings its own words.
BATCH_KIND = Kind("email", 0, "normal", 0.42, 0.12)

_WORDS: dict[str, tuple[Any, ...]] = {
    "eventName": ("Riverside Jazz Night", "Lanterns on the Lake", "Bread for Beginners", "Winter Choir", "Watch Repair, Evening Class"),
    "totalAmount": (24.0, 59.5, 96.0, 150.0),
    "amount": (12.9, 24.0, 59.5, 150.0, 310.0),
    "ticketCount": (1, 2, 3, 4),
    "issue": (5, 6, 7, 8),
    "headline": ("Summer, out of doors", "What we repaired", "Three loaves and a story"),
    "offerTitle": ("Two seats, one quiet Tuesday", "Second coffee on us", "Early birds first"),
    "discountPercent": (10, 15, 20, 25),
    "activity": ("New sign-in to your account", "Your password was changed", "A new device was added"),
    "updateTitle": ("Your tickets now work offline", "Invoices in one place", "A clearer account page"),
}
_BATCH_SUBJECTS = ("Your course starts on Monday", "Room change for your course", "How was your course?")


class Piece(NamedTuple):
    """The words of an email: the template's name, the data it gets, the subject that comes of it, and one name that the template
    cannot do without ("" = it takes anything)."""

    template: str
    data: dict[str, Any]
    subject: str
    needs: str = ""

    @property
    def links(self) -> list[str]:
        return [value for value in self.data.values() if isinstance(value, str) and value.startswith("https://")]


Pieces = dict[tuple[int, str], list[Piece]]


def make_pieces(dice: Random, plan: Plan) -> Pieces:
    """Some variants for each tenant and type; `email` is what comes with content requests."""
    pieces: Pieces = {}
    for tenant in TENANTS:
        pieces[tenant.id, BATCH_KIND.type] = [Piece(INLINE, {}, subject) for subject in _BATCH_SUBJECTS]
        for template, sample in load():
            drafts = [_vary(dice, {**sample, "companyName": tenant.name}) for _ in range(_VARIANTS)]
            needs = template.variables[0] if template.variables else ""
            pieces[tenant.id, template.type] = [Piece(template.name, data, plan.subject_of(template, data), needs) for data in drafts]
    return pieces


def _vary(dice: Random, sample: dict[str, Any]) -> dict[str, Any]:
    data = {name: dice.choice(_WORDS[name]) if name in _WORDS else value for name, value in sample.items()}
    numbers = {
        name: f"{str(data[name]).partition('-')[0]}-{hexadecimal(dice, 5)}"
        for name in ("bookingId", "paymentId", "refundId")
        if name in data
    }
    return data | numbers
