"""Money, dates and links as people read them."""

from typing import Any

import pytest

from render.presentation import format_date, format_datetime, format_money, format_time, safe_link


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [
        (150.0, "", "150.00"),
        (150, "EUR", "€150.00"),
        ("1234567.891", "usd", "$1,234,567.89"),
        (0.1 + 0.2, "GBP", "£0.30"),
        (2.675, "EUR", "€2.68"),
        (-5, "EUR", "−€5.00"),
        (1999.5, "JPY", "¥2,000"),
        (1.5, "KWD", "1.500 KWD"),
        (38, "CHF", "38.00 CHF"),
        (38, None, "38.00"),
        ("€150.00", "EUR", "€150.00"),
        ("free", "EUR", "free"),
        (10**30, "EUR", str(10**30)),
        ("NaN", "", "NaN"),
    ],
)
def test_money(value: Any, currency: Any, expected: str) -> None:
    assert format_money(value, currency) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-01", "1 January 2024"),
        ("2024-01-01T10:00:00Z", "1 January 2024"),
        ("next Friday", "next Friday"),
        ("", ""),
        (20240101, "20240101"),
    ],
)
def test_a_date(value: Any, expected: str) -> None:
    assert format_date(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-01T20:05:00Z", "Monday, 1 January 2024, 20:05 UTC"),
        ("2024-01-01T20:05:00", "Monday, 1 January 2024, 20:05"),
        ("2024-06-12T20:00:00+02:00", "Wednesday, 12 June 2024, 20:00 UTC+2"),
        ("2024-06-12T20:00:00-09:30", "Wednesday, 12 June 2024, 20:00 UTC-9:30"),
    ],
)
def test_a_moment_keeps_the_offset_that_it_came_with(value: str, expected: str) -> None:
    assert format_datetime(value) == expected


def test_a_time_and_patterns() -> None:
    assert format_time("2024-01-01T09:05:00Z") == "09:05"
    assert format_time("2024-01-01T00:05:00Z", "%I:%M %p") == "12:05 AM"
    assert format_date("2024-03-04", "%d.%m.%y %a %b %j 100%%") == "04.03.24 Mon Mar 064 100%"


@pytest.mark.parametrize("pattern", ["%1000000000d", "%Q", "%_5d", "d" * 101])
def test_a_pattern_has_only_the_known_directives(pattern: str) -> None:
    with pytest.raises(ValueError, match="date pattern"):
        format_date("2024-01-01", pattern)


@pytest.mark.parametrize("link", ["https://a.b/c?d=e", "http://a.b", "mailto:a@b.c", "tel:+49123", " HTTPS://A.B "])
def test_a_link_that_goes_somewhere_is_kept(link: str) -> None:
    assert safe_link(link) == link.strip()


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "java\tscript:x",
        "data:text/html,x",
        "vbscript:x",
        "//a.b",
        "a.b",
        "",
        None,
        "\x01javascript:x",
    ],
)
def test_a_link_that_acts_is_refused(link: Any) -> None:
    with pytest.raises(ValueError, match="a link must begin"):
        safe_link(link)
