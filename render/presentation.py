"""Money, dates and links as people read them: filters for templates, in English, without looking at the machine's locale.

Pure functions over values of JSON. What is no amount or no date stays as it is, because "€150.00" and "next Friday" are fine to
read; what is no link is an error, because it may be one for a thief.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "ILS": "₪", "UAH": "₴", "VND": "₫", "NGN": "₦"}
# ISO 4217: currencies whose minor unit is not a hundredth
_DECIMALS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "BHD": 3, "KWD": 3, "OMR": 3, "JOD": 3, "TND": 3}
_LARGEST_AMOUNT = Decimal(10) ** 18
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WORD = re.compile("%(.)", re.DOTALL)
_MAX_PATTERN_CHARS = 100
_LINK_SCHEMES = frozenset({"http", "https", "mailto", "tel"})


def format_money(value: Any, currency: str = "") -> str:
    """`150.0` as "150.00", with "EUR" as "€150.00", with an unknown code as "150.00 XYZ"; what is no amount stays as it is."""
    amount = _to_amount(value)
    if amount is None:
        return str(value)
    code = str(currency or "").upper()
    digits = f"{abs(amount.quantize(Decimal(1).scaleb(-_DECIMALS.get(code, 2)), ROUND_HALF_UP)):,}"
    sign = "−" if amount < 0 else ""
    if code in _SYMBOLS:
        return f"{sign}{_SYMBOLS[code]}{digits}"
    return f"{sign}{digits} {code}".rstrip()


def _to_amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: an int of more digits than Python spells
        return None
    return amount if amount.is_finite() and abs(amount) < _LARGEST_AMOUNT else None


def format_date(value: Any, pattern: str = "%-d %B %Y") -> str:
    """An ISO 8601 date or moment as "1 January 2024", or by a strftime-like pattern; any other text stays as it is."""
    moment = _to_moment(value)
    return str(value) if moment is None else _spell(moment, pattern)


def format_time(value: Any, pattern: str = "%H:%M") -> str:
    """An ISO 8601 moment as "20:00"; any other text stays as it is."""
    return format_date(value, pattern)


def format_datetime(value: Any, pattern: str = "%A, %-d %B %Y, %H:%M %Z") -> str:
    """An ISO 8601 moment as "Monday, 1 January 2024, 20:00 UTC", in the offset that it came with; any other text stays as it is."""
    return format_date(value, pattern)


def _to_moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _spell(moment: datetime, pattern: str) -> str:
    """Only the directives below: C's strftime pads to any width that it is asked for, and speaks the machine's language."""
    if len(pattern) > _MAX_PATTERN_CHARS:
        raise ValueError(f"a date pattern has at most {_MAX_PATTERN_CHARS} characters")

    def replace(match: re.Match[str]) -> str:
        if match[1] not in _DIRECTIVES:
            raise ValueError(f"a date pattern cannot have %{match[1]}")
        return _DIRECTIVES[match[1]](moment)

    return _WORD.sub(replace, pattern.replace("%-d", "%e")).strip()


def _zone_of(moment: datetime) -> str:
    """ "" where none came with the moment, else "UTC", "UTC+2", "UTC-9:30"."""
    offset = moment.utcoffset()
    if offset is None:
        return ""
    if not offset:
        return "UTC"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return f"UTC{'-' if offset < timedelta(0) else '+'}{hours}" + (f":{minutes:02}" if minutes else "")


_DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "%": lambda _: "%",
    "a": lambda moment: _WEEKDAYS[moment.weekday()][:3],
    "A": lambda moment: _WEEKDAYS[moment.weekday()],
    "b": lambda moment: _MONTHS[moment.month - 1][:3],
    "B": lambda moment: _MONTHS[moment.month - 1],
    "d": lambda moment: f"{moment.day:02}",
    "e": lambda moment: str(moment.day),
    "H": lambda moment: f"{moment.hour:02}",
    "I": lambda moment: f"{(moment.hour + 11) % 12 + 1:02}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "m": lambda moment: f"{moment.month:02}",
    "M": lambda moment: f"{moment.minute:02}",
    "p": lambda moment: "AM" if moment.hour < 12 else "PM",
    "S": lambda moment: f"{moment.second:02}",
    "y": lambda moment: f"{moment.year % 100:02}",
    "Y": lambda moment: f"{moment.year:04}",
    "Z": _zone_of,
}


def safe_link(value: Any) -> str:
    """A web, mail or telephone link as it came; escaping does not stop `javascript:`, so anything else raises ValueError."""
    link = str(value).strip()
    if urlsplit(link).scheme.lower() not in _LINK_SCHEMES:
        raise ValueError("a link must begin with https:, http:, mailto: or tel:")
    return link
