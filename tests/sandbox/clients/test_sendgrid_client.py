"""Twilio's own library sends to the fake SendGrid as it would to the real one, and hears of its refusals in the same way."""

import base64
import json
from typing import Any

import pytest

from tests.sandbox.clients.place import PDF, Place

pytestmark = pytest.mark.integration
LIBRARY = "sendgrid.helpers.mail"


@pytest.fixture
def api(client: Any, place: Place) -> Any:
    import sendgrid

    return sendgrid.SendGridAPIClient("SG.right", host=place.urls["sendgrid"])


def letter(mail: Any, to: str = "ada@x.test", sender: str = "shop@brand.test") -> Any:
    return mail.Mail(sender, to, "Your ticket", mail.PlainTextContent("Here it is."), mail.HtmlContent("<p>Here it is.</p>"))


def errors_of(refused: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(refused.value.body)["errors"]
    return found


def test_one_mail_with_an_attachment(client: Any, api: Any, place: Place) -> None:
    message = letter(client)
    message.reply_to = client.ReplyTo("desk@brand.test", "Desk")
    message.add_category(client.Category("tickets"))
    message.add_header(client.Header("X-Campaign", "7"))
    message.add_custom_arg(client.CustomArg("attempt_id", "01JDV7Q2T4M8K5R9W3X6YZABCD"))
    message.attachment = client.Attachment(
        client.FileContent(base64.b64encode(PDF).decode()), client.FileName("t.pdf"), client.FileType("application/pdf")
    )
    reply = api.send(message)
    assert (reply.status_code, reply.body) == (202, b"")
    (line,) = place.ledger("sendgrid")
    assert reply.headers["X-Message-Id"] == line["message_id"]
    assert (line["recipient"], line["subject"], line["attempt_id"]) == ("ada@x.test", "Your ticket", "01JDV7Q2T4M8K5R9W3X6YZABCD")
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"], mail["html"]) == ("Your ticket", "Here it is.", "<p>Here it is.</p>")
    assert (mail["headers"]["Reply-To"], mail["headers"]["X-Campaign"]) == ("Desk <desk@brand.test>", "7")
    assert mail["attachments"] == [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def test_a_batch_with_substitutions(client: Any, api: Any, place: Place) -> None:
    people = [client.To(f"u{n}@x.test", f"User {n}", substitutions={"-name-": f"User {n}"}) for n in range(50)]
    message = client.Mail("shop@brand.test", people, "For -name-", client.PlainTextContent("Hi -name-"), is_multiple=True)
    assert api.send(message).status_code == 202
    lines = place.ledger("sendgrid")
    assert {line["recipient"]: line["subject"] for line in lines} == {f"u{n}@x.test": f"For User {n}" for n in range(50)}
    assert len({line["message_id"] for line in lines}) == 1
    assert place.mail("u7@x.test")["text"] == "Hi User 7"


def test_one_bad_address_refuses_the_whole_batch_and_is_named(client: Any, api: Any, place: Place) -> None:
    import python_http_client

    people = [client.To(f"u{n}@x.test") for n in range(3)] + [client.To("bad@x.test")]
    message = client.Mail("shop@brand.test", people, "Hi", client.PlainTextContent("Hi"), is_multiple=True)
    with pytest.raises(python_http_client.BadRequestsError) as refused:
        api.send(message)
    assert errors_of(refused)[0]["message"] == "Does not contain a valid address."
    # the library puts the last first
    assert str(errors_of(refused)[0]["field"]).startswith("personalizations.")
    assert place.ledger("sendgrid") == []


def test_a_stranger_and_a_sender_nobody_verified_are_told_so(client: Any, api: Any, place: Place) -> None:
    import python_http_client
    import sendgrid

    with pytest.raises(python_http_client.UnauthorizedError):
        sendgrid.SendGridAPIClient("SG.wrong", host=place.urls["sendgrid"]).send(letter(client))
    with pytest.raises(python_http_client.ForbiddenError) as refused:
        api.send(letter(client, sender="shop@other.test"))
    assert errors_of(refused)[0]["field"] == "from"
    assert place.ledger("sendgrid") == []


def test_the_key_can_be_asked_what_it_may_do(api: Any) -> None:
    assert "mail.send" in json.loads(api.client.scopes.get().body)["scopes"]
