"""Address domains and mail exchangers to mailbox providers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.mailbox_provider import mailbox_provider, mailbox_provider_of_exchanger


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@gmail.com", "gmail"),
        ("ann@GoogleMail.COM", "gmail"),
        ("ann@hotmail.co.uk", "outlook"),
        ("ann@live.fr", "outlook"),
        ("ann@outlook.com.br", "outlook"),
        ("ann@yahoo.co.jp", "yahoo"),
        ("ann@aol.com", "yahoo"),
        ("ann@me.com", "icloud"),
        ("ann@web.de", "gmx"),
        ("ann@gmx.at", "gmx"),
        ("ann@mail.ru", "mailru"),
        ("ann@yandex.kz", "yandex"),
        ('"odd@local"@gmail.com.', "gmail"),
        ("gmail.com", "gmail"),
        ("ann@example.com", "other"),
        ("ann@live.example.com", "other"),
        ("ann@yahoo.evil.com", "other"),
        ("ann@mygmail.com", "other"),
        ("ann@yahoo", "other"),
        ("", "other"),
    ],
)
def test_a_domain_has_its_provider(address: str, expected: str) -> None:
    assert mailbox_provider(address) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("aspmx.l.google.com.", "gmail"),
        ("example-com.mail.protection.outlook.com", "outlook"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx00.gmx.net", "gmx"),
        ("mx01.mail.icloud.com", "icloud"),
        ("mx.example.org", "other"),
        ("", "other"),
    ],
)
def test_hosted_domains_are_told_by_their_exchanger(host: str, expected: str) -> None:
    assert mailbox_provider_of_exchanger(host) == expected


@given(st.text(max_size=60))
def test_no_text_at_all_raises(text: str) -> None:
    assert mailbox_provider(text)
    assert mailbox_provider_of_exchanger(text)
