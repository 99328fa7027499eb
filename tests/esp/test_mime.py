"""MIME as others read it: what Python's own parser makes of our bytes is what the message says."""

import base64
import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp.mime import build, header, mailbox, message_id
from mail.ids import time_of, wire_id
from mail.message import Address, Attachment, Message
from tests.esp.messages import any_message, message

PICTURE = Attachment("logo.png", "image/png", "iVBORw0KGgo=", "inline", "logo")
BILL = Attachment("bill.pdf", "application/pdf", base64.b64encode(b"%PDF" * 100).decode())
QUICK = settings(max_examples=50, deadline=None)
# without the characters that Python's parser takes for line ends or strips
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=20)
sentences = st.lists(words, min_size=1, max_size=30).map(" ".join)


def parsed(built: Message) -> EmailMessage:
    return message_from_bytes(build(built), policy=policy.SMTP)


def body_of(part: EmailMessage, kind: str) -> str:
    found = part.get_body((kind,))
    assert found is not None
    return str(found.get_content())


def test_every_field_is_there_and_nothing_of_bcc() -> None:
    full = message(
        to=(Address("ann@a.test", "Ann"), Address("al@a.test")),
        cc=(Address("c@a.test"),),
        bcc=(Address("secret@a.test"),),
        reply_to=Address("r@brand.test", "R"),
        headers=(("X-A", "1"), ("X-A", "2"), ("List-Unsubscribe", "<https://u.test/1>")),
    )
    mail = parsed(full)
    assert {name: mail[name] for name in ("From", "To", "Cc", "Reply-To", "Subject", "List-Unsubscribe", "MIME-Version")} == {
        "From": "The Shop <shop@brand.test>",
        "To": "Ann <ann@a.test>, al@a.test",
        "Cc": "c@a.test",
        "Reply-To": "R <r@brand.test>",
        "Subject": "Your order",
        "List-Unsubscribe": "<https://u.test/1>",
        "MIME-Version": "1.0",
    }
    assert mail.get_all("X-A") == ["1", "2"]
    assert b"secret" not in build(full)


def test_the_ids_are_the_attempts_and_the_date_is_its_time() -> None:
    one = message()
    mail = parsed(one)
    assert mail["X-Attempt-Id"] == wire_id(one.attempt_id)
    assert mail["Message-ID"] == message_id(one) == f"<{wire_id(one.attempt_id)}@brand.test>"
    assert abs(parsedate_to_datetime(mail["Date"]).timestamp() - time_of(one.attempt_id)) <= 1


def test_the_same_message_is_always_the_same_bytes() -> None:
    one = message(attachments=(PICTURE, BILL))
    assert build(one) == build(one)


@pytest.mark.parametrize(
    ("html", "text", "attachments", "shape"),
    [
        ("", "t", (), "text/plain"),
        ("<p>h</p>", "", (), "text/html"),
        ("<p>h</p>", "t", (), "multipart/alternative(text/plain text/html)"),
        ("<p>h</p>", "", (PICTURE,), "multipart/related(text/html image/png)"),
        ("<p>h</p>", "t", (PICTURE,), "multipart/alternative(text/plain multipart/related(text/html image/png))"),
        ("<p>h</p>", "t", (BILL,), "multipart/mixed(multipart/alternative(text/plain text/html) application/pdf)"),
        ("", "t", (PICTURE,), "multipart/mixed(text/plain image/png)"),
        (
            "<p>h</p>",
            "t",
            (BILL, PICTURE),
            "multipart/mixed(multipart/alternative(text/plain multipart/related(text/html image/png)) application/pdf)",
        ),
    ],
)
def test_the_parts_stand_where_readers_look_for_them(html: str, text: str, attachments: tuple[Attachment, ...], shape: str) -> None:
    def shape_of(part: EmailMessage) -> str:
        inner = " ".join(shape_of(cast(EmailMessage, p)) for p in part.iter_parts()) if part.is_multipart() else ""
        return part.get_content_type() + (f"({inner})" if inner else "")

    assert shape_of(parsed(message(html=html, text=text, attachments=attachments))) == shape


def test_attachments_come_back_as_they_went() -> None:
    mail = parsed(message(attachments=(PICTURE, BILL)))
    (bill,) = list(mail.iter_attachments())
    assert (bill.get_filename(), bill.get_content_type(), bill.get_content()) == ("bill.pdf", "application/pdf", b"%PDF" * 100)
    picture = next(part for part in mail.walk() if part.get_content_type() == "image/png")
    assert (picture["Content-ID"], picture.get_content_disposition()) == ("<logo>", "inline")


@pytest.mark.parametrize(
    "name",
    ["a.pdf", 'a "b" \\ c.pdf', "Rechnung für Käthe.pdf", "x" * 255, "é" * 255, "a;b=c.pdf", "日本語" * 60 + ".pdf", "mixed é " * 25 + "."],
)
def test_a_file_name_survives(name: str) -> None:
    mail = parsed(message(attachments=(Attachment(name, "application/pdf", "YQ=="),)))
    assert [part.get_filename() for part in mail.iter_attachments()] == [name]
    assert_sound(build(message(attachments=(Attachment(name, "application/pdf", "YQ=="),))))


@pytest.mark.parametrize("media_type", ["message/rfc822", "multipart/mixed", "nonsense", "text/html\r\nX-Evil: 1", ""])
def test_a_type_that_base64_may_not_have_becomes_plain_bytes(media_type: str) -> None:
    mail = parsed(message(attachments=(Attachment("a", media_type, "YQ=="),)))
    assert [part.get_content_type() for part in mail.iter_attachments()] == ["application/octet-stream"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\nwords", "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("a small café " * 20, "quoted-printable"),
        ("日本語の手紙", "base64"),
        ("with \x00 nul", "quoted-printable"),
        ("", "7bit"),
    ],
)
def test_the_encoding_fits_the_words(text: str, encoding: str) -> None:
    mail = parsed(message(text=text, html=""))
    assert mail["Content-Transfer-Encoding"] == encoding
    assert _lines(mail.get_content()) == text.rstrip("\n")


@pytest.mark.parametrize("text", ["a\r\nb\rc\nd", "dots\n.\n..\n", "trailing  \nblanks\t\n", "=E9 =", "From me\n", "\n\n", "é \n.\n" * 50])
def test_line_ends_are_crlf_and_odd_lines_survive(text: str) -> None:
    raw = build(message(text=text, html=""))
    assert_sound(raw)
    assert _lines(parsed(message(text=text, html="")).get_content()) == _lines(text)


@pytest.mark.parametrize(
    "value",
    [
        "<https://u.test/unsubscribe?" + "x" * 400 + ">, <mailto:u@brand.test?subject=" + "y" * 300 + ">",
        "word " * 180,
        "Grüße aus Köln " * 20,
        "=?utf-8?q?a_forged_word?=",
        "<https://u.test/?a=?b>",
        "a  b   c" * 40,
    ],
)
def test_a_header_folds_and_unfolds_to_itself(value: str) -> None:
    mail = parsed(message(headers=(("X-Any", value),)))
    assert mail["X-Any"] == value.strip()
    assert_sound(build(message(headers=(("X-Any", value),))))


@given(name=words, value=sentences)
@QUICK
def test_any_words_survive_in_subject_name_and_header(name: str, value: str) -> None:
    one = message(subject=value, sender=Address("s@brand.test", name), headers=(("X-Any", value),))
    mail = parsed(one)
    assert mail["Subject"] == value
    assert mail["X-Any"] == value
    assert mail["From"].addresses[0].addr_spec == "s@brand.test"
    # not of the parsed addresses: Python 3.11 leaves a blank between the encoded words of a phrase (RFC 2047, 6.2 takes it away)
    spelled = message_from_bytes(build(one), policy=policy.compat32)["From"]
    assert name == (parseaddr(spelled)[0] if name.isascii() else str(make_header(decode_header(spelled))).removesuffix(" <s@brand.test>"))
    assert_sound(build(one))


@given(one=any_message())
@QUICK
def test_any_message_is_7_bit_within_the_lines_and_says_what_it_says(one: Message) -> None:
    raw = build(one)
    assert raw.isascii()
    assert_sound(raw)
    mail = parsed(one)
    if one.html:
        assert _lines(body_of(mail, "html")) == _lines(one.html)
    if one.text:
        assert _lines(body_of(mail, "plain")) == _lines(one.text)


@pytest.mark.parametrize("evil", ["a\r\nBcc: evil@x.test", "a\nX: 1", "a\rb", "a\x00b", "a\u2028b", "a\x85b"])
def test_no_value_begins_a_header_of_its_own(evil: str) -> None:
    one = message(
        subject=evil,
        sender=Address("s@brand.test", evil),
        headers=(
            ("X-A", evil),
            (evil, "v"),
            ("Subject", "second"),
            ("Content-Type", "x/y"),
            ("bcc", "b@x.test"),
            ("DKIM-Signature", "v=1"),
        ),
        attachments=(Attachment(evil, "image/png", "YQ==", "inline", evil),),
    )
    names = {line.split(b":")[0].lower() for line in build(one).split(b"\r\n\r\n")[0].split(b"\r\n") if not line.startswith(b" ")}
    assert names == {
        *(b"from", b"to", b"subject", b"date", b"message-id", b"x-attempt-id", b"x-a", b"mime-version", b"content-type"),
    }


@pytest.mark.parametrize("text", ["é" * 100, "a" + "é" * 100, "日本語" * 40, "a" + "👋" * 50])
def test_no_encoded_word_ends_within_a_character(text: str) -> None:
    spelled = re.findall(r"=\?utf-8\?b\?([^?]+)\?=", header("Subject", text))
    assert "".join(base64.b64decode(word).decode() for word in spelled) == text  # each of them by itself (RFC 2047, 5)
    assert max(map(len, header("Subject", text).split("\r\n"))) <= 78


def test_an_address_beyond_ascii_is_written_as_it_is() -> None:
    raw = build(message(to=(Address("käthe@a.test", "Käthe"),)))
    assert "<käthe@a.test>".encode() in raw


def test_the_callers_reply_to_counts_where_the_message_has_none() -> None:
    assert parsed(message(headers=(("Reply-To", "x@y.test"),)))["Reply-To"] == "x@y.test"
    assert parsed(message(headers=(("Reply-To", "x@y.test"),), reply_to=Address("r@y.test")))["Reply-To"] == "r@y.test"


def test_a_mailbox_of_one_line_is_for_apis() -> None:
    assert mailbox(Address("a@b.test", 'The "Shop", Inc.')) == '"The \\"Shop\\", Inc." <a@b.test>'
    assert "\r" not in mailbox(Address("a@b.test", "é" * 200))
    assert header("X-" + "a" * 100, "é").startswith("X-" + "a" * 100 + ": =?utf-8?b?")


def _lines(text: str) -> str:
    return re.sub(r"\r\n|\r", "\n", text).rstrip("\n")


def assert_sound(raw: bytes) -> None:
    """CRLF everywhere and nowhere else, no line over 998 bytes, headers mostly within 78."""
    assert raw.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
