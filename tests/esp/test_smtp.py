"""What a relay's replies mean, row by row, and what stands in the request."""

from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from esp import base
from esp.smtp import Esp
from mail.account import Account
from mail.message import Address, Attachment
from mail.outcome import Blame, Outcome, Reply, Verdict
from tests.esp.messages import message

REJECTED = (Verdict.REJECTED, Blame.MESSAGE)
RECIPIENT = (Verdict.REJECTED, Blame.RECIPIENT)
US = (Verdict.MISCONFIGURED, Blame.US)
THROTTLED = (Verdict.THROTTLED, Blame.ESP)
UNAVAILABLE = (Verdict.UNAVAILABLE, Blame.ESP)
NOT_NOW = (Verdict.UNAVAILABLE, Blame.RECIPIENT)
UNSUPPORTED = (Verdict.UNSUPPORTED, Blame.MESSAGE)


def esp(**credentials: str) -> Esp:
    return Esp(Account("smtp", 0, "smtp://relay.test:587", credentials))


def outcome(stage: str, code: int, words: str, copies: int = 0) -> Outcome:
    one = message(cc=tuple(Address(f"c{n}@a.test") for n in range(copies)))
    (request,) = esp().prepare([one])
    (found,) = esp().interpret(request, Reply(code, {"stage": stage}, words.encode()))
    return found


def test_only_250_to_the_final_dot_is_a_yes() -> None:
    assert outcome("end", 250, "2.0.0 Ok: queued as 4F").verdict is Verdict.ACCEPTED
    for stage in ("greeting", "mail", "rcpt", "data", "auth"):
        assert outcome(stage, 250, "Ok").verdict is Verdict.UNAVAILABLE


def test_the_message_id_is_ours_and_the_queue_id_stays_in_the_detail() -> None:
    one = message()
    (request,) = esp().prepare([one])
    (found,) = esp().interpret(request, Reply(250, {"stage": "end"}, b"2.0.0 Ok: queued as 4F\n2.0.0 bye"))
    assert f"\r\nMessage-ID: {found.message_id}\r\n".encode() in request.body
    assert found.detail == "SMTP 250 2.0.0 Ok: queued as 4F 2.0.0 bye"


def test_behind_the_data_a_recipient_is_only_blamed_where_it_is_certain() -> None:
    assert outcome("end", 550, "5.1.1 User unknown", copies=1).blame is Blame.MESSAGE
    assert outcome("end", 550, "5.1.1 <ann@a.test> User unknown", copies=1).blame is Blame.RECIPIENT
    assert outcome("rcpt", 550, "5.1.1 User unknown", copies=1).blame is Blame.RECIPIENT


def test_no_address_stays_in_the_detail() -> None:
    assert "@" not in outcome("rcpt", 550, "5.1.1 <ann@a.test>: Recipient address rejected").detail


def test_the_envelope_has_everybody_once_and_the_headers_nobody_of_bcc() -> None:
    one = message(
        to=(Address("ann@a.test", "Ann"), Address("al@a.test")), cc=(Address("c@a.test"),), bcc=(Address("b@a.test"), Address("c@a.test"))
    )
    (request,) = esp(username="u", password="p", encryption="tls").prepare([one])
    assert request.headers == {
        "mail-from": "shop@brand.test",
        "rcpt-to": "ann@a.test\nal@a.test\nc@a.test\nb@a.test",
        "username": "u",
        "password": "p",
        "encryption": "tls",
    }
    assert b"b@a.test" not in request.body
    assert (request.url, "p" in repr(request).split()) == ("smtp://relay.test:587/", False)


def test_what_smtp_cannot_carry_is_said_before() -> None:
    assert esp().unsupported(message()) is None
    assert "100 recipients" in (esp().unsupported(message(to=tuple(Address(f"u{n}@a.test") for n in range(101)))) or "")
    assert "bytes" in (esp().unsupported(message(attachments=(Attachment("a", "a/b", "A" * 40_000_000),))) or "")


def test_a_relay_calls_nobody_back() -> None:
    assert not isinstance(esp(), base.Listener)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The file of a private key, and the DNS record of the public one."""
    key = rsa.generate_private_key(65537, 2048)
    path = tmp_path_factory.mktemp("dkim") / "key.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return path, b"v=DKIM1; k=rsa; p=" + b"".join(public.split(b"\n")[1:-2])


@pytest.mark.parametrize(("domain", "name"), [("", b"s1._domainkey.brand.test."), ("mail.brand.test", b"s1._domainkey.mail.brand.test.")])
def test_a_signature_is_one_that_others_verify(keys: tuple[Path, bytes], domain: str, name: bytes) -> None:
    path, record = keys
    signing = esp(dkim_key_file=str(path), dkim_selector="s1", dkim_domain=domain)
    one = message(headers=(("List-Unsubscribe", "<https://u.test/1>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")))
    (request,) = signing.prepare([one])
    asked: list[bytes] = []

    def look_up(asked_name: bytes, timeout: int = 5) -> bytes:
        asked.append(asked_name)
        return record

    assert dkim.verify(request.body, dnsfunc=look_up)
    assert asked == [name]
    assert not dkim.verify(request.body.replace(b"Subject: Your", b"Subject: Their"), dnsfunc=look_up)
    assert not dkim.verify(request.body.replace(b"\r\nFrom:", b"\r\nFrom: evil@x.test\r\nFrom:", 1), dnsfunc=look_up)
    signed = request.body.partition(b"\r\nFrom:")[0].replace(b"\r\n", b"").lower()
    assert b"list-unsubscribe : list-unsubscribe-post" in signed
    assert signed.count(b" from ") + signed.count(b"=from ") + signed.count(b" from;") == 2  # nobody can add another one


@pytest.mark.parametrize(
    ("content", "selector", "reason"),
    [(None, "s", "cannot be read"), ("nonsense", "s", "not an RSA key"), ("nonsense", "", "no selector")],
)
def test_a_key_that_cannot_sign_sends_the_mail_elsewhere(tmp_path: Path, content: str | None, selector: str, reason: str) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_text(content)
    broken = esp(dkim_key_file=str(path), dkim_selector=selector)
    assert reason in (broken.unsupported(message()) or "")
