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


@pytest.mark.parametrize(
    ("stage", "code", "words", "judgement"),
    [
        ("greeting", 421, "4.7.0 Too many connections from your host", THROTTLED),
        ("greeting", 421, "4.3.2 shutting down", UNAVAILABLE),
        ("greeting", 554, "5.7.1 No SMTP service here", US),
        ("greeting", 521, "host does not accept mail", US),
        ("starttls", 454, "4.7.0 TLS not available due to temporary reason", UNAVAILABLE),
        ("starttls", 502, "the server does not offer STARTTLS", US),
        ("auth", 432, "4.7.12 A password transition is needed", UNAVAILABLE),
        ("auth", 454, "4.7.0 Temporary authentication failure", UNAVAILABLE),
        ("auth", 451, "Authentication failed: Maximum credits exceeded", THROTTLED),
        ("auth", 534, "5.7.9 Authentication mechanism is too weak", US),
        ("auth", 535, "5.7.8 Authentication credentials invalid", US),
        ("auth", 538, "5.7.11 Encryption required", US),
        ("mail", 421, "closing", UNAVAILABLE),
        ("mail", 451, "4.3.0 Local error", UNAVAILABLE),
        ("mail", 451, "You've exceeded your messaging limits", THROTTLED),
        ("mail", 454, "Throttling failure: Maximum sending rate exceeded.", THROTTLED),
        ("mail", 452, "4.3.1 Insufficient system storage", UNAVAILABLE),
        ("mail", 455, "parameters not accepted now", UNAVAILABLE),
        ("mail", 501, "5.1.7 Bad sender address syntax", US),
        ("mail", 503, "5.5.1 need AUTH", US),
        ("mail", 530, "5.7.0 Authentication required", US),
        ("mail", 550, "5.1.8 Sender domain does not exist", US),
        ("mail", 550, "5.7.1 Sender rejected", US),
        ("mail", 552, "5.3.4 Message size exceeds fixed limit", REJECTED),
        ("mail", 552, "too big", REJECTED),
        ("mail", 553, "Sender address not allowed", US),
        ("mail", 555, "5.5.4 Unsupported option", REJECTED),
        ("rcpt", 450, "4.2.0 Greylisted, come back later", NOT_NOW),
        ("rcpt", 450, "4.7.1 Greylisted", NOT_NOW),
        ("rcpt", 451, "greylisted", NOT_NOW),
        ("rcpt", 452, "4.2.2 Mailbox full", NOT_NOW),
        ("rcpt", 452, "4.5.3 Too many recipients", THROTTLED),
        ("rcpt", 452, "insufficient storage", THROTTLED),
        ("rcpt", 450, "4.7.28 Unusual rate of mail from your network", THROTTLED),
        ("rcpt", 451, "4.4.4 Cannot route", UNAVAILABLE),
        ("rcpt", 501, "5.1.3 Bad address syntax", RECIPIENT),
        ("rcpt", 502, "not implemented", REJECTED),
        ("rcpt", 521, "5.3.2 does not accept mail", UNAVAILABLE),
        ("rcpt", 521, "does not accept mail", RECIPIENT),
        ("rcpt", 550, "User unknown", RECIPIENT),
        ("rcpt", 550, "5.1.1 User unknown", RECIPIENT),
        ("rcpt", 550, "5.1.2 Bad domain", RECIPIENT),
        ("rcpt", 550, "5.1.6 Moved", RECIPIENT),
        ("rcpt", 550, "5.2.1 Mailbox disabled", RECIPIENT),
        ("rcpt", 550, "5.4.4 Unroutable", RECIPIENT),
        ("rcpt", 550, "5.7.1 Rejected by policy", REJECTED),
        ("rcpt", 550, "5.7.1 Relaying denied", US),
        ("rcpt", 554, "5.7.1 <x>: Relay access denied", US),
        ("rcpt", 550, "5.7.1 Unconfigured Sending Domain <brand.test>", US),
        ("rcpt", 550, "5.7.25 No reverse DNS", US),
        ("rcpt", 551, "User not local", RECIPIENT),
        ("rcpt", 552, "5.2.2 Mailbox full", RECIPIENT),
        ("rcpt", 553, "Mailbox name not allowed", RECIPIENT),
        ("rcpt", 554, "Transaction failed", REJECTED),
        ("rcpt", 556, "5.1.10 Recipient has null MX", RECIPIENT),
        ("data", 451, "4.3.0 not now", UNAVAILABLE),
        ("data", 554, "5.5.1 no valid recipients", REJECTED),
        ("data", 250, "what?", UNAVAILABLE),
        ("end", 421, "4.3.2 shutting down", UNAVAILABLE),
        ("end", 451, "4.7.0 Rate limit", THROTTLED),
        ("end", 452, "4.3.1 no space", UNAVAILABLE),
        ("end", 454, "Throttling failure: Daily message quota exceeded.", THROTTLED),
        ("end", 550, "5.1.1 User unknown", RECIPIENT),
        ("end", 550, "5.3.2 System not accepting mail", UNAVAILABLE),
        ("end", 550, "5.5.3 Too many recipients", UNSUPPORTED),
        ("end", 550, "5.6.0 JSON parsing error in X-MSYS-API", REJECTED),
        ("end", 552, "5.3.4 Message too big", REJECTED),
        ("end", 554, "Message rejected: Email address is not verified.", US),
        ("end", 554, "Access denied", US),
        ("end", 554, "5.7.1 Spam", REJECTED),
        ("end", 550, "5.7.26 Unauthenticated email is not accepted (DMARC)", US),
        ("end", 500, "Line too long", REJECTED),
        ("extension", 552, "the server takes 10 bytes a mail", UNSUPPORTED),
        ("end", -1, "gibberish", (Verdict.UNKNOWN, Blame.ESP)),
        ("end", 354, "go on", (Verdict.UNKNOWN, Blame.ESP)),
        ("end", 251, "will forward", (Verdict.UNKNOWN, Blame.ESP)),
    ],
)
def test_a_reply_means_what_the_rfcs_and_the_esps_say(stage: str, code: int, words: str, judgement: tuple[Verdict, Blame]) -> None:
    found = outcome(stage, code, words)
    assert (found.verdict, found.blame) == judgement


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


@pytest.mark.parametrize(
    ("words", "wait_s"), [("Throttling failure: Maximum sending rate exceeded.", None), ("Daily message quota exceeded", 3600)]
)
def test_a_used_up_quota_waits_longer_than_a_rate(words: str, wait_s: float | None) -> None:
    assert outcome("mail", 454, words).retry_after_s == wait_s


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
