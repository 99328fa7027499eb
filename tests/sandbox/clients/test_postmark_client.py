"""ActiveCampaign's own library sends to the fake Postmark as it would to the real one, and searches what it took."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sandbox.clients.place import PDF, Place

pytestmark = pytest.mark.integration
LIBRARY = "postmark.sync"


@pytest.fixture
def api(client: Any, place: Place) -> Iterator[Any]:
    with client.ServerClient("token", retries=0, base_url=place.urls["postmark"]) as connection:
        yield connection


def letter(to: str = "ada@x.test", **more: Any) -> dict[str, Any]:
    return {"sender": "Shop <shop@brand.test>", "to": to, "subject": "Your ticket", "text_body": "Here it is.", **more}


def test_one_mail_with_an_attachment(api: Any, place: Place) -> None:
    file = {"name": "t.pdf", "content": base64.b64encode(PDF).decode(), "content_type": "application/pdf"}
    taken = api.outbound.send(
        letter(
            html_body="<p>Here it is.</p>",
            attachments=[file],
            metadata={"attempt_id": "01JDV7Q2T4M8K5R9W3X6YZABCD"},
            headers=[{"name": "X-Campaign", "value": "7"}],
            tag="tickets",
            reply_to="desk@brand.test",
        )
    )
    assert taken.success
    (line,) = place.ledger("postmark")
    assert (line["message_id"], line["recipient"], line["attempt_id"]) == (taken.message_id, taken.to, "01JDV7Q2T4M8K5R9W3X6YZABCD")
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"], mail["html"]) == ("Your ticket", "Here it is.", "<p>Here it is.</p>")
    assert (mail["headers"]["Reply-To"], mail["headers"]["X-Campaign"]) == ("desk@brand.test", "7")
    assert mail["attachments"] == [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def test_a_batch(api: Any, place: Place) -> None:
    taken = api.outbound.send_batch([letter(f"u{n}@x.test", subject=f"For user {n}") for n in range(50)])
    assert [one.to for one in taken] == [f"u{n}@x.test" for n in range(50)]
    assert {line["recipient"]: line["message_id"] for line in place.ledger("postmark")} == {one.to: one.message_id for one in taken}
    assert place.mail("u7@x.test")["subject"] == "For user 7"


@pytest.mark.expect_errors  # the library logs a refusal as an error
def test_a_bad_address_an_inactive_one_and_a_foreign_sender_are_told_apart(api: Any, place: Place) -> None:
    from postmark.exceptions import InactiveRecipientException, PostmarkAPIException, ValidationException

    with pytest.raises(ValidationException) as bad:
        api.outbound.send(letter("bad@x.test"))
    assert (bad.value.error_code, bad.value.http_status) == (300, 422)
    with pytest.raises(InactiveRecipientException) as inactive:
        api.outbound.send(letter("gone@x.test"))
    assert inactive.value.inactive_recipients == ["gone@x.test"]
    with pytest.raises(PostmarkAPIException) as foreign:
        api.outbound.send(letter(sender="shop@other.test"))
    assert foreign.value.error_code == 400
    assert place.ledger("postmark") == []


def test_a_refused_mail_of_a_batch_costs_itself_only_though_the_library_cannot_read_that(api: Any, place: Place) -> None:
    """What Postmark refuses in a batch has no MessageID; version 0.4.0 of the library wants one everywhere."""
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="MessageID"):
        api.outbound.send_batch([letter("u0@x.test"), letter("bad@x.test"), letter("u2@x.test")])
    assert place.recipients("postmark") == ["u0@x.test", "u2@x.test"]


def test_what_was_taken_is_found_by_recipient_and_metadata(api: Any) -> None:
    # the library takes no answer with addresses under .test
    sender = "Shop <shop@example.com>"
    api.outbound.send_batch([letter(f"u{n}@example.com", sender=sender, metadata={"attempt_id": f"a{n}"}) for n in range(3)])
    assert [[one.email for one in message.to] for message in api.outbound.list(recipient="u1@example.com").items] == [["u1@example.com"]]
    (found,) = api.outbound.list(metadata={"attempt_id": "a2"}).items
    assert (found.recipients, found.metadata, found.sender) == (["u2@example.com"], {"attempt_id": "a2"}, sender)
    assert found.status.value == "Sent"


def test_the_server_says_who_it_is(api: Any) -> None:
    assert api.server.get().delivery_type.value == "Live"
