"""Who opened a mail: the rules, on user agents and addresses as they come."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.event import Event, EventType
from mail.machine_opens import is_machine_open

DELIVERED_AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
PERSON = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"


def opened(after_s: float = 3_600, type_: EventType = EventType.OPENED, **fields: Any) -> Event:
    at = DELIVERED_AT + timedelta(seconds=after_s)
    return Event(type_, "postmark", "e", "ann@a.test", at, **{"user_agent": PERSON, "ip": "203.0.113.7"} | fields)


@pytest.mark.parametrize(
    "user_agent",
    [
        PERSON,
        "",
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Microsoft Outlook 16.0.17928)",
        "Mozilla/5.0 (Linux; Android 12; CUBOT NOTE 20) AppleWebKit/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0",
    ],
)
def test_a_person_is_a_person_also_behind_a_proxy(user_agent: str) -> None:
    assert not is_machine_open(opened(user_agent=user_agent), DELIVERED_AT)


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0",
        " Mozilla/5.0 ",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "curl/8.5.0",
        "python-requests/2.32.3",
        "Go-http-client/2.0",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
    ],
)
def test_what_says_that_it_is_a_program_is_one(user_agent: str) -> None:
    assert is_machine_open(opened(user_agent=user_agent), DELIVERED_AT)
    assert is_machine_open(opened(user_agent=user_agent), None)


@pytest.mark.parametrize(
    ("ip", "is_apples"),
    [
        ("17.58.1.1", True),
        ("::ffff:17.0.0.1", True),
        ("18.0.0.1", False),
        ("117.58.1.1", False),
        ("2001:db8::17", False),
        ("", False),
        ("x", False),
    ],
)
def test_apples_own_range_is_a_machine(ip: str, is_apples: bool) -> None:
    assert is_machine_open(opened(ip=ip), DELIVERED_AT) is is_apples


@pytest.mark.parametrize(("after_s", "is_machine"), [(-3_600, True), (-1, True), (0, True), (1.9, True), (2.0, False), (60, False)])
def test_nobody_reads_within_two_seconds(after_s: float, is_machine: bool) -> None:
    assert is_machine_open(opened(after_s), DELIVERED_AT) is is_machine
    assert is_machine_open(opened(after_s, EventType.CLICKED), DELIVERED_AT) is is_machine
    assert not is_machine_open(opened(after_s), None)


def test_an_open_without_a_moment_is_not_judged_by_its_speed() -> None:
    assert not is_machine_open(Event(EventType.OPENED, "postmark", "e", "ann@a.test", None, user_agent=PERSON), DELIVERED_AT)


def test_the_esps_own_flag_wins() -> None:
    assert is_machine_open(opened(is_machine=True), DELIVERED_AT)


@pytest.mark.parametrize("type_", [type_ for type_ in EventType if type_ not in (EventType.OPENED, EventType.CLICKED)])
def test_only_opens_and_clicks_are_judged(type_: EventType) -> None:
    assert not is_machine_open(opened(0, type_, user_agent="Mozilla/5.0", is_machine=True), DELIVERED_AT)
