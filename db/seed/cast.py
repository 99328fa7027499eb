"""Who is in the story: tenants, and the people they write to.

Addresses are at example domains, or at mailbox providers under names that those providers cannot have given to anybody.
"""

from random import Random
from typing import NamedTuple

from db.seed.dice import happens, weighted


class Tenant(NamedTuple):
    """`share` is its part of all mail, in percent. `from_email` None = it has no sender defaults of its own."""

    id: int
    name: str
    share: int
    sending_domain: str
    from_email: str | None = None
    from_name: str | None = None
    reply_to: str | None = None


TENANTS = (
    Tenant(1, "Harbour Tickets", 44, "harbour.example.com", "tickets@harbour.example.com", "Harbour Tickets", "help@harbour.example.com"),
    Tenant(2, "Northwind Courses", 27, "courses.example.org"),
    Tenant(3, "Kettle and Crumb", 18, "kettle.example.net"),
    Tenant(4, "Lindgren Repairs", 11, "repairs.example.org"),
)
# Who may never be used by whom: the tenant's place in TENANTS, and how many ESPs there must be for it to have another choice.
_CHOOSY_TENANT, _ENOUGH_ESPS = 4, 3


class Mailbox(NamedTuple):
    """A mailbox provider: part of the audience in percent, how often it or its apps fetch images unread, how keen its people read."""

    name: str
    share: int
    domains: tuple[str, ...]
    prefetches: float
    keenness: float


MAILBOXES = (
    Mailbox("gmail", 40, ("gmail.com",), 0.12, 1.0),
    Mailbox("outlook", 17, ("outlook.com", "hotmail.com"), 0.06, 0.85),
    Mailbox("yahoo", 10, ("yahoo.com", "yahoo.co.uk"), 0.10, 0.8),
    Mailbox("icloud", 9, ("icloud.com", "me.com"), 0.55, 0.95),
    Mailbox("gmx", 7, ("gmx.net", "web.de"), 0.03, 0.9),
    Mailbox("other", 17, ("example.com", "example.org", "example.net", "office.example.com", "studio.example.org"), 0.08, 1.05),
)

_FIRST = (
    "Ada",
    "Ben",
    "Carla",
    "Dilip",
    "Elena",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kaya",
    "Luis",
    "Mira",
    "Nils",
    "Olga",
    "Pavel",
)
_LAST = (
    "Abel",
    "Berg",
    "Costa",
    "Dahl",
    "Eriksen",
    "Fuchs",
    "Garcia",
    "Holm",
    "Ito",
    "Jansen",
    "Keller",
    "Lopez",
    "Moreau",
    "Novak",
    "Okoye",
)
_READERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
)
_GONE = 0.008  # mailboxes that do not exist any more: their first email bounces


class Person(NamedTuple):
    """A recipient, always reading with the same program from the same place. `is_gone` = the mailbox does not exist any more."""

    email: str
    name: str
    mailbox: Mailbox
    user_agent: str
    ip: str
    is_gone: bool


def make_people(dice: Random, count: int, first_number: int) -> list[Person]:
    """People numbered from `first_number`, so that no address comes twice."""
    mix = {mailbox: mailbox.share for mailbox in MAILBOXES}
    return [_person(dice, weighted(dice, mix), number) for number in range(first_number, first_number + count)]


def usable_providers(tenant: Tenant, providers: list[str]) -> list[str]:
    """The ESPs that a tenant has enabled: all, but for one tenant that does without the last where there are enough."""
    return providers[:-1] if tenant.id == _CHOOSY_TENANT and len(providers) >= _ENOUGH_ESPS else providers


def _person(dice: Random, mailbox: Mailbox, number: int) -> Person:
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    local = f"{first}.{last}.{number}".lower()
    if mailbox.name != "other":
        # longer than Gmail (30), iCloud (20) and Yahoo (32) allow, and a word to everybody who reads it (providers' sign-up rules, 2026)
        local = f"nobody-{local}.seeded-no-such-mailbox"
    return Person(
        email=f"{local}@{dice.choice(mailbox.domains)}",
        name=f"{first} {last}",
        mailbox=mailbox,
        user_agent=dice.choice(_READERS),
        ip=documentation_address(dice),
        is_gone=happens(dice, _GONE),
    )


def documentation_address(dice: Random) -> str:
    """An address that belongs to nobody (RFC 5737, RFC 3849)."""
    if happens(dice, 0.25):
        return f"2001:db8:{dice.randrange(1, 65536):x}::{dice.randrange(1, 65536):x}"
    return f"{dice.choice(('192.0.2', '198.51.100', '203.0.113'))}.{dice.randrange(1, 255)}"
