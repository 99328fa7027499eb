"""Python's own library sends to the fake relay as it would to a real one."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest

from tests.sandbox.clients.place import PDF, Place


@pytest.fixture
def relay(place: Place) -> Iterator[smtplib.SMTP]:
    address = urlsplit(place.urls["smtp"])
    with smtplib.SMTP(address.hostname or "", address.port or 0, timeout=10) as connection:
        connection.login("user", "right")
        yield connection


def letter(to: str = "ada@x.test") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Shop <shop@brand.test>", to, "Your ticket"
    message["Date"], message["Message-ID"] = "Sat, 21 Nov 2026 10:00:00 +0000", f"<{to}>"
    message.set_content("Here it is.")
    return message


def test_one_mail_with_an_attachment(relay: smtplib.SMTP, place: Place) -> None:
    message = letter()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="t.pdf")
    assert relay.send_message(message) == {}
    (line,) = place.ledger("smtp")
    assert (line["recipient"], line["message_id"], line["subject"]) == ("ada@x.test", "<ada@x.test>", "Your ticket")
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"].strip()) == ("Your ticket", "Here it is.")
    assert mail["attachments"] == [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def test_a_batch_on_one_connection(relay: smtplib.SMTP, place: Place) -> None:
    for n in range(50):
        assert relay.send_message(letter(f"u{n}@x.test")) == {}
    assert place.recipients("smtp") == [f"u{n}@x.test" for n in range(50)]


def test_a_refused_recipient_is_named_and_costs_the_others_nothing(relay: smtplib.SMTP, place: Place) -> None:
    refused = relay.send_message(letter(), to_addrs=["ada@x.test", "bad@x.test"])
    assert refused == {"bad@x.test": (550, b"5.1.1 <bad@x.test>: Recipient address rejected: User unknown")}
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        relay.send_message(letter("bad@x.test"))
    assert place.recipients("smtp") == ["ada@x.test"]


def test_who_does_not_log_in_or_does_it_wrong_is_told_so(place: Place) -> None:
    address = urlsplit(place.urls["smtp"])
    with smtplib.SMTP(address.hostname or "", address.port or 0, timeout=10) as connection:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            connection.send_message(letter())
        assert refused.value.smtp_code == 530
        with pytest.raises(smtplib.SMTPAuthenticationError):
            connection.login("user", "wrong")
    assert place.ledger("smtp") == []
