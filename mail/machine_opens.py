"""Was a mail opened by a person, or by a machine on the way? Rules that hold for every ESP, since most of them tell nothing.

A machine's open says that a mail arrived, never that it was read: weights that counted it would prefer the ESP that flags
nothing. This module must stay pure: an event and the moment of its delivery in, a judgement out.

Facts (2026-11): Apple's Mail Privacy Protection fetches every picture with the user agent "Mozilla/5.0" and nothing behind it
(clickdimensions.com, Adjusted Opens); 17.0.0.0/8 is Apple's. Google's image proxy fetches when a person opens the mail, and so
do Yahoo's and Outlook's, so a proxy alone is no sign.
"""

import ipaddress
import re
from datetime import datetime
from functools import lru_cache

from mail.event import Event, EventType

FASTEST_PERSON_S = 2.0
_ENGAGEMENTS = frozenset({EventType.OPENED, EventType.CLICKED})
_APPLE = ipaddress.ip_network("17.0.0.0/8")
_PREFETCHER = "Mozilla/5.0"
# Programs that say what they are: link checkers, previews, libraries. Whole words only, so that "Cubot" is a phone.
_PROGRAM = re.compile(
    r"(?<![a-z])(?:curl|wget|python-(?:requests|urllib3?|httpx)|aiohttp|go-http-client|java/|libwww-perl|headlesschrome|phantomjs"
    r"|[a-z]*(?:bot|crawler|spider)(?![a-z])(?<!cubot)|facebookexternalhit|skypeuripreview)",
    re.IGNORECASE,
)


def is_machine_open(event: Event, delivered_at: datetime | None, fastest_person_s: float = FASTEST_PERSON_S) -> bool:
    """Did a machine make this open or click? False for events of other types.

    `delivered_at` is when this mail was delivered by the same ESP's clock, None where that is not known (yet): what comes sooner
    after it than a person could, or before it, is a filter's look at the mail.
    """
    if event.type not in _ENGAGEMENTS:
        return False
    return event.is_machine or has_machine_signs(event.user_agent, event.ip) or _is_too_fast(event.at, delivered_at, fastest_person_s)


def has_machine_signs(user_agent: str, ip: str) -> bool:
    """Do user agent or address alone tell a machine?"""
    return _is_program(user_agent) or _is_apples(ip)


@lru_cache(maxsize=4096)
def _is_program(user_agent: str) -> bool:
    """People's mail programs call themselves by few names."""
    return user_agent.strip() == _PREFETCHER or bool(_PROGRAM.search(user_agent))


def _is_apples(ip: str) -> bool:
    if not ip.startswith(("17.", "::ffff:")):
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else address
    return mapped is not None and mapped in _APPLE


def _is_too_fast(at: datetime | None, delivered_at: datetime | None, fastest_person_s: float) -> bool:
    return at is not None and delivered_at is not None and (at - delivered_at).total_seconds() < fastest_person_s
