"""SocketLabs' own library sends to the fake as it would to the real one, and hears of its refusals in the same way.

It has no setting for a port or for plain HTTP, so what it takes for its HTTPS connection leads to the fake.
"""

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.sandbox.clients.place import PDF, Place

pytestmark = pytest.mark.integration
LIBRARY = "socketlabs.injectionapi"
KEY = "x" * 20 + "." + "y" * 40


@pytest.fixture
def api(client: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    connections: list[http.client.HTTPConnection] = []

    def connect(host: str, timeout: float) -> http.client.HTTPConnection:
        assert host == "inject.socketlabs.com"
        connections.append(http.client.HTTPConnection(urlsplit(place.urls["socketlabs"]).netloc, timeout=timeout))
        return connections[-1]

    monkeypatch.setattr(http.client, "HTTPSConnection", connect)
    yield client.SocketLabsClient(12345, KEY)
    for connection in connections:
        connection.close()


def letter(*recipients: str) -> Any:
    from socketlabs.injectionapi.message.__imports__ import BasicMessage, EmailAddress

    message = BasicMessage()
    message.subject, message.plain_text_body, message.html_body = "Your ticket", "Here it is.", "<p>Here it is.</p>"
    message.from_email_address = EmailAddress("shop@brand.test", "Shop")
    message.message_id = "01JDV7Q2T4M8K5R9W3X6YZABCD"
    for recipient in recipients or ("ada@x.test",):
        message.add_to_email_address(recipient)
    return message


def bulk(*recipients: str) -> Any:
    from socketlabs.injectionapi.message.__imports__ import BulkMessage, BulkRecipient, EmailAddress

    message = BulkMessage()
    message.subject, message.plain_text_body = "For %%Name%%", "Hi %%Name%% from %%Brand%%"
    message.from_email_address = EmailAddress("shop@brand.test")
    message.add_global_merge_data("Brand", "Acme")
    for recipient in recipients:
        message.to_recipient.append(BulkRecipient(recipient, merge_data={"Name": recipient.partition("@")[0]}))
    return message


def test_one_mail_with_an_attachment(api: Any, place: Place) -> None:
    from socketlabs.injectionapi.message.__imports__ import Attachment, EmailAddress

    message = letter()
    message.reply_to_email_address = EmailAddress("desk@brand.test")
    message.add_custom_header("X-Campaign", "7")
    message.add_attachment(Attachment("t.pdf", "application/pdf", content=PDF))
    assert api.send(message).result.name == "Success"
    (line,) = place.ledger("socketlabs")
    assert (line["recipient"], line["message_id"], line["attempt_id"]) == ("ada@x.test", message.message_id, message.message_id)
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"], mail["html"]) == ("Your ticket", "Here it is.", "<p>Here it is.</p>")
    assert (mail["headers"]["Reply-To"], mail["headers"]["X-Campaign"]) == ("desk@brand.test", "7")
    assert mail["attachments"] == [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def test_a_batch_by_mail_merge(api: Any, place: Place) -> None:
    assert api.send(bulk(*[f"u{n}@x.test" for n in range(50)])).result.name == "Success"
    assert {line["recipient"]: line["subject"] for line in place.ledger("socketlabs")} == {f"u{n}@x.test": f"For u{n}" for n in range(50)}
    mail = place.mail("u7@x.test")
    assert (mail["text"], mail["headers"]["To"]) == ("Hi u7 from Acme", "u7@x.test")


def test_a_bad_recipient_of_several_is_a_warning(api: Any, place: Place) -> None:
    """The library loses the list of addresses that the answer brings."""
    assert api.send(letter("ada@x.test", "bad@x.test")).result.name == "Warning"
    assert place.recipients("socketlabs") == ["ada@x.test"]
    assert api.send(bulk("u0@x.test", "bad@x.test", "u2@x.test")).result.name == "Warning"
    assert place.recipients("socketlabs") == ["ada@x.test", "u0@x.test", "u2@x.test"]


def test_a_mail_that_is_refused_says_why(client: Any, api: Any, place: Place) -> None:
    assert api.send(letter("bad@x.test")).result.name == "NoValidRecipients"
    both = letter()
    both.api_template = 7
    assert api.send(both).result.name == "MessageBodyConflict"
    long = letter()
    long.message_id = "x" * 31
    assert api.send(long).result.name == "InvalidData"
    assert client.SocketLabsClient(12345, "z" * 20 + "." + "y" * 40).send(letter()).result.name == "InvalidAuthentication"
    assert place.ledger("socketlabs") == []
