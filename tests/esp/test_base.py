"""The pure pieces: waiting times and error texts."""

import pytest

from esp import base
from mail.message import Address
from tests.esp.messages import message

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("99999", 3600.0),
        ("9" * 500, 3600.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60.0),
        ("Fri, 15 Jan 2027 09:01:00 +0100", 60.0),
        ("Fri, 15 Jan 2021 08:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", 3600.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("Fri, 99 Foo 2027 08:01:00 GMT", None),
        ("Fri, 15 Jan 99999 08:01:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_clamped_to_an_hour(value: str | None, wait_s: float | None) -> None:
    assert base.retry_after_s(value, NOW_S) == wait_s


@pytest.mark.parametrize(
    ("value", "wait_s"), [("1800000030", 30.0), ("1700000000", 0.0), ("1900000000", 3600.0), (None, None), ("later", None), ("-1", None)]
)
def test_a_reset_time_becomes_a_wait(value: str | None, wait_s: float | None) -> None:
    assert base.until_s(value, NOW_S) == wait_s


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("no such user ann@a.test.", "no such user [address]"),
        ("<Ann.B+c@a.test>: 'bob@b.test'", "<[address]>: '[address]'"),
        ('"ann lee"@a.test', "[address]"),
        ("ann%40a.test ann＠a.test", "[address] [address]"),
        ("mailto:ann@a.test?x", "mailto:[address]"),
        ("a\x00b\r\n\tc\ud800d", "a b c d"),
        ("", ""),
    ],
)
def test_a_detail_has_no_addresses_and_no_control_characters(text: str, detail: str) -> None:
    assert base.cut_detail(text) == detail


def test_a_detail_has_at_most_500_characters_and_never_half_an_address() -> None:
    assert len(base.cut_detail("word " * 10_000)) <= 500
    for shift in range(20):
        cut = base.cut_detail("." * shift + " " + "ann.longname@a.test " * 200)
        assert "ann" not in cut
        assert "@" not in cut


def test_blame_falls_on_the_recipient_only_where_the_words_mean_it() -> None:
    alone = message()
    several = message(cc=(Address("joann@a.test"),))
    assert base.is_about_recipient(alone, "inactive")
    assert base.is_about_recipient(several, "inactive: bob@b.test, Ann@A.test.")
    assert not base.is_about_recipient(several, "inactive: joann@a.test")
