"""What may become a header of a mail."""

from typing import Any

import pytest

from mail.errors import RenderError
from mail.message import Address, Attachment, Message
from render.headers import check_message, is_allowed

EVIL = ["a\r\nBcc: b@c.d", "a\nb", "a\rb", "a\0b", "a\tb", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b"]


def make_message(**changes: Any) -> Message:
    fields: dict[str, Any] = {
        "attempt_id": "a",
        "tenant": 0,
        "sender": Address("s@x.com", "Service"),
        "to": (Address("a@x.com", "Ännchen"),),
        "subject": "Grüße 🎉",
        "html": "",
        "text": "line one\r\nline two\t",
    }
    return Message(**(fields | changes))


def test_an_ordinary_message_passes() -> None:
    message = make_message(headers=(("X-Campaign", "1"), ("List-Unsubscribe", "<https://x.com/u>"), ("References", "<a@b>")))
    check_message(message)
    assert all(is_allowed(name) for name, _ in message.headers)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        lambda evil: {"subject": evil},
        lambda evil: {"sender": Address("s@x.com", evil)},
        lambda evil: {"reply_to": Address("s@x.com", evil)},
        lambda evil: {"to": (Address("a@x.com"), Address("b@x.com", evil))},
        lambda evil: {"cc": (Address(evil),)},
        lambda evil: {"bcc": (Address("a@x.com", evil),)},
        lambda evil: {"headers": (("X-A", evil),)},
        lambda evil: {"headers": (("X-" + evil, "1"),)},
        lambda evil: {"attachments": (Attachment(evil, "text/plain", ""),)},
        lambda evil: {"attachments": (Attachment("a", evil, ""),)},
        lambda evil: {"attachments": (Attachment("a", "text/plain", "", content_id=evil),)},
    ],
)
def test_a_control_character_anywhere_in_a_header_is_header_injection(place: Any, evil: str) -> None:
    with pytest.raises(RenderError) as caught:
        check_message(make_message(**place(evil)))
    assert caught.value.reason == "header-injection"
    assert "Bcc: b@c.d" not in caught.value.error


@pytest.mark.parametrize(
    "name",
    [
        *("To", "Cc", "Bcc", "From", "Subject", "Received", "Return-Path", "Message-Id", "Sender", "Reply-To", "Date", "MIME-Version"),
        *(
            "DKIM-Signature",
            "Content-Type",
            "content-transfer-encoding",
            "ARC-Seal",
            "Resent-To",
            "X-Attempt-Id",
            "X-SMTPAPI",
            "x-msys-api",
        ),
    ],
)
def test_headers_that_are_not_the_job_s_to_set_are_refused(name: str) -> None:
    assert not is_allowed(name)
    with pytest.raises(RenderError) as caught:
        check_message(make_message(headers=((name, "x"),)))
    assert caught.value.reason == "header-injection"


@pytest.mark.parametrize("name", ["", "X A", "X:A", "Ünicode", "X" * 77])
def test_a_header_s_name_is_printable_ascii(name: str) -> None:
    with pytest.raises(RenderError) as caught:
        check_message(make_message(headers=((name, "x"),)))
    assert caught.value.reason == "header-injection"


def test_an_overlong_header_is_a_render_error() -> None:
    check_message(make_message(headers=(("X-A", "x" * 998),)))
    with pytest.raises(RenderError) as caught:
        check_message(make_message(headers=(("X-A", "x" * 999),)))
    assert caught.value.reason == "render-error"
