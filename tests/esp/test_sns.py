"""Whom SNS' signatures let in: Amazon's certificates only, from its one host, over what was really said."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from esp.http import PUBLIC_AUTHORITIES
from esp.replay import CLOCK_SKEW_S
from esp.ses import Esp
from esp.sns import REPLAY_WINDOW_S, Certificates, verify_envelope
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.outcome import NoReply, Reply
from tests.esp.belief import is_believed
from tests.esp.sns_signing import DAY, HOST, ISSUER_URL, NOW, TOPIC, URL, Authority, Web, envelope


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority("Root", is_authority=True)


@pytest.fixture(scope="module")
def middle(root: Authority) -> Authority:
    return Authority("Middle", root, is_authority=True)


@pytest.fixture(scope="module")
def leaf(middle: Authority) -> Authority:
    return Authority("sns.amazonaws.com", middle, names=("sns.amazonaws.com",), issuer_url=ISSUER_URL)


@pytest.fixture
def web(leaf: Authority, middle: Authority) -> Web:
    made = Web()
    made.pages = {URL: leaf.pem, ISSUER_URL: middle.der}
    return made


@pytest.fixture
def roots(root: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(root.pem)
    return path


@pytest.fixture
def certificates(web: Web, roots: Path) -> Iterator[Certificates]:
    yield Certificates(HOST, roots, web.fetch, NOW.timestamp)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon SES Email Event Notification", "absent", None])
def test_what_sns_signed_is_believed(certificates: Certificates, leaf: Authority, version: str, subject: str | None) -> None:
    assert is_believed(verify_envelope, envelope(leaf, version, Subject=subject), TOPIC, certificates)


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_confirmations_are_signed_over_other_fields(certificates: Certificates, leaf: Authority, kind: str) -> None:
    good = envelope(leaf, Type=kind, Token="t", SubscribeURL="https://sns.eu-west-1.amazonaws.com/?x", Subject="absent")
    assert is_believed(verify_envelope, good, TOPIC, certificates)
    with pytest.raises(BadCallback):
        verify_envelope(good | {"SubscribeURL": "https://evil.test/"}, TOPIC, certificates)


@pytest.mark.parametrize("field", ["Message", "MessageId", "Subject", "Timestamp"])
def test_a_changed_field_breaks_the_signature(certificates: Certificates, leaf: Authority, field: str) -> None:
    with pytest.raises(BadCallback, match="Signature"):
        verify_envelope(envelope(leaf) | {field: "forged"}, TOPIC, certificates)


@pytest.mark.parametrize(
    "changes",
    [
        {"Signature": "not base64!"},
        {"Signature": None},
        {"SignatureVersion": "3"},
        {"SignatureVersion": None},
        {"SigningCertURL": None},
        {"Message": None},
        {"Message": {"eventType": "Send"}},
        {"Timestamp": 7},
        {"Type": "Something"},
        {"Type": ["Notification"][:0]},
        {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:theirs"},
        {"TopicArn": None},
    ],
)
def test_an_odd_envelope_is_refused(certificates: Certificates, leaf: Authority, changes: dict[str, Any]) -> None:
    with pytest.raises(BadCallback):
        verify_envelope(envelope(leaf) | changes, TOPIC, certificates)


@pytest.mark.parametrize("body", [None, [], "text", {}, {"eventType": "Send"}])
def test_a_bare_event_is_refused(certificates: Certificates, body: Any) -> None:
    with pytest.raises(BadCallback):
        verify_envelope(body, TOPIC, certificates)


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/x.pem",
        "https://sns.us-east-1.amazonaws.com/x.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.test/x.pem",
        "https://evil.test/sns.eu-west-1.amazonaws.com/x.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.test/x.pem",
        "https://u:p@sns.eu-west-1.amazonaws.com/x.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/x.pem",
        "https://sns.eu-west-1.amazonaws.com:x/x.pem",
        "https://sns.eu-west-1.amazonaws.com/x.pem?y",
        "https://sns.eu-west-1.amazonaws.com/x.pem#.pem",
        "https://sns.eu-west-1.amazonaws.com/x.crt",
        "https://s3.amazonaws.com/bucket/SimpleNotificationService-1.pem",
        "file:///etc/ssl/x.pem",
        "https://[::1/x.pem",
        "",
    ],
)
def test_a_certificate_from_elsewhere_is_not_even_fetched(certificates: Certificates, web: Web, leaf: Authority, url: str) -> None:
    with pytest.raises(BadCallback, match="SigningCertURL"):
        verify_envelope(envelope(leaf, SigningCertURL=url), TOPIC, certificates)
    assert web.asked == []


def test_another_topic_is_refused_before_anything_is_fetched(certificates: Certificates, web: Web, leaf: Authority) -> None:
    with pytest.raises(BadCallback, match="TopicArn"):
        verify_envelope(envelope(leaf, TopicArn=TOPIC + "x"), TOPIC, certificates)
    assert web.asked == []


def test_the_issuer_is_fetched_from_amazons_host_only(certificates: Certificates, web: Web, middle: Authority) -> None:
    elsewhere = Authority("sns.amazonaws.com", middle, names=("sns.amazonaws.com",), issuer_url="http://crt.evil.test/r2m01.cer")
    web.pages[URL] = elsewhere.pem
    with pytest.raises(BadCallback, match="chain"):
        verify_envelope(envelope(elsewhere), TOPIC, certificates)
    assert web.asked == [URL]


def test_issuers_may_come_with_the_leaf(certificates: Certificates, web: Web, leaf: Authority, middle: Authority) -> None:
    web.pages = {URL: leaf.pem + middle.pem}
    assert is_believed(verify_envelope, envelope(leaf), TOPIC, certificates)


def test_a_certificate_is_fetched_once_and_anew_when_it_has_ended(web: Web, roots: Path, leaf: Authority) -> None:
    now = [NOW.timestamp()]
    certificates = Certificates(HOST, roots, web.fetch, lambda: now[0])
    for _ in range(3):
        assert is_believed(verify_envelope, envelope(leaf), TOPIC, certificates)
    assert web.asked == [URL, ISSUER_URL]
    now[0] += 400 * 86_400
    with pytest.raises(BadCallback):
        verify_envelope(envelope(leaf), TOPIC, certificates)
    assert len(web.asked) > 2


def test_only_a_few_certificates_are_kept(certificates: Certificates, web: Web, leaf: Authority, middle: Authority) -> None:
    for n in range(40):
        url = f"https://{HOST}/{n}.pem"
        web.pages[url] = leaf.pem + middle.pem
        assert is_believed(verify_envelope, envelope(leaf, SigningCertURL=url), TOPIC, certificates)
    assert len(certificates._known) <= 16


@pytest.mark.parametrize(
    "what", ["self-signed", "another root", "another name", "no name", "ended", "an authority that is none", "not RSA", "garbage"]
)
def test_a_certificate_that_is_not_sns_own_is_refused(
    certificates: Certificates, web: Web, middle: Authority, leaf: Authority, what: str
) -> None:
    sns = ("sns.amazonaws.com",)
    makers: dict[str, Any] = {
        "self-signed": lambda: Authority("sns.amazonaws.com", names=sns),
        "another root": lambda: Authority("sns.amazonaws.com", Authority("Root", is_authority=True), names=sns),
        "another name": lambda: Authority("www.evil.test", middle, names=("www.evil.test", "sns.amazonaws.com.evil.test")),
        "no name": lambda: Authority("sns.amazonaws.com", middle),
        "ended": lambda: Authority("sns.amazonaws.com", middle, names=sns, ends_at=NOW - DAY),
        "an authority that is none": lambda: Authority("sns.amazonaws.com", leaf, names=sns),
    }
    signer = makers[what]() if what in makers else leaf
    chain = leaf.pem + middle.pem if what == "an authority that is none" else middle.pem
    web.pages[URL] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" if what == "garbage" else signer.pem + chain
    if what == "not RSA":
        web.pages[URL] = Authority("sns.amazonaws.com", middle, names=sns, key=ec.generate_private_key(ec.SECP256R1())).pem + middle.pem
    with pytest.raises(BadCallback, match="SigningCertURL"):
        verify_envelope(envelope(signer), TOPIC, certificates)


@pytest.mark.parametrize(
    "name", ["sns-signing.af-south-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com", "sns-cn-north-1.amazonaws.com.cn"]
)
def test_regions_of_their_own_sign_in_their_own_name(certificates: Certificates, web: Web, middle: Authority, name: str) -> None:
    regional = Authority(name, middle, names=(name,))
    web.pages[URL] = regional.pem + middle.pem
    assert is_believed(verify_envelope, envelope(regional), TOPIC, certificates)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reply(404, {}, b""), BadCallback),
        (Reply(302, {}, b""), BadCallback),
        (Reply(200, {}, b"x" * 100_000), BadCallback),
        (Reply(503, {}, b""), ConnectionError),
        (Reply(429, {}, b""), ConnectionError),
        (NoReply(False, "no route"), ConnectionError),
    ],
)
def test_no_certificate_is_a_refusal_but_no_answer_is_tried_again(
    certificates: Certificates, web: Web, leaf: Authority, answer: Reply | NoReply, error: type[Exception]
) -> None:
    web.pages[URL] = answer
    with pytest.raises(error):
        verify_envelope(envelope(leaf), TOPIC, certificates)


def test_a_host_that_gives_no_answer_is_left_in_peace_for_a_while_and_longer_each_time(roots: Path, web: Web, leaf: Authority) -> None:
    now_s, good = NOW.timestamp(), web.pages[URL]
    certificates = Certificates(HOST, roots, web.fetch, lambda: now_s)
    web.pages[URL] = NoReply(False, "no route")
    asked = []
    for _ in range(40):
        with pytest.raises(ConnectionError):
            verify_envelope(envelope(leaf), TOPIC, certificates)
        asked.append(len(web.asked))
        now_s += 5.0
    assert asked[:8] == [1, 2, 2, 3, 3, 3, 3, 4], "after 5, 10, 20 seconds"
    assert asked[-1] == 7, "then once a minute"
    web.pages[URL] = good
    now_s += 60.0
    assert is_believed(verify_envelope, envelope(leaf), TOPIC, certificates)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_address_with_an_error_is_left_in_peace_and_no_other_is(roots: Path, web: Web, leaf: Authority, status: int) -> None:
    now = [NOW.timestamp()]
    certificates = Certificates(HOST, roots, web.fetch, lambda: now[0])
    broken = URL.replace(".pem", "-broken.pem")
    web.pages[broken] = Reply(status, {}, b"")
    for _ in range(50):
        with pytest.raises(ConnectionError):
            certificates.key_of(broken)
    assert web.asked.count(broken) == 1
    assert certificates.key_of(URL)
    for _ in range(600):
        now[0] += 1.0
        with pytest.raises(ConnectionError):
            certificates.key_of(broken)
    assert 5 < web.asked.count(broken) < 20


def test_an_answer_that_is_no_certificate_keeps_nobody_from_asking(certificates: Certificates, web: Web, leaf: Authority) -> None:
    other = URL.replace("-1.pem", "-2.pem")
    web.pages[other] = Reply(503, {}, b"")
    with pytest.raises(ConnectionError):
        verify_envelope(envelope(leaf, SigningCertURL=other), TOPIC, certificates)
    assert is_believed(verify_envelope, envelope(leaf), TOPIC, certificates)


def test_a_root_of_the_operators_own_may_be_made_by_hand(tmp_path: Path) -> None:
    root = Authority("Test root", is_authority=True, is_bare=True)
    signer = Authority("anything", root, is_bare=True)
    path = tmp_path / "root.pem"
    path.write_bytes(root.pem)
    web = Web()
    url = "https://localhost:8443/cert.pem"
    web.pages = {url: signer.pem}
    certificates = Certificates("localhost", path, web.fetch, NOW.timestamp, is_private=True)
    assert is_believed(verify_envelope, envelope(signer, SigningCertURL=url), TOPIC, certificates)
    stranger = Authority("anything", Authority("Test root", is_authority=True, is_bare=True), is_bare=True)
    web.pages = {"https://localhost:8443/2.pem": stranger.pem}
    with pytest.raises(BadCallback, match="chain"):
        verify_envelope(envelope(stranger, SigningCertURL="https://localhost:8443/2.pem"), TOPIC, certificates)


def test_a_certificate_may_be_the_trusted_root_itself(tmp_path: Path) -> None:
    own = Authority("anything", is_bare=True)
    path = tmp_path / "root.pem"
    path.write_bytes(own.pem)
    web = Web()
    web.pages = {URL: own.pem}
    assert is_believed(verify_envelope, envelope(own), TOPIC, Certificates(HOST, path, web.fetch, NOW.timestamp, is_private=True))


def test_the_public_roots_can_be_read(leaf: Authority, web: Web) -> None:
    with pytest.raises(BadCallback, match="chain"):
        verify_envelope(envelope(leaf), TOPIC, Certificates(HOST, PUBLIC_AUTHORITIES, web.fetch, NOW.timestamp))


def ses(web: Web, **credentials: str) -> Esp:
    given = {"region": "eu-west-1", "access_key": "a", "secret_key": "s", **credentials}
    return Esp(Account("ses", 0, "https://email.eu-west-1.amazonaws.com", given), now=NOW.timestamp, fetch_certificate=web.fetch)


def test_an_account_with_a_topic_takes_its_envelopes_only(web: Web, roots: Path, leaf: Authority) -> None:
    esp = ses(web, topic_arn=TOPIC, trust_root=str(roots))
    good = envelope(leaf)
    assert is_believed(esp.verify, Callback({}, None, good))
    assert is_believed(esp.verify, Callback({}, json.dumps([good, good]).encode(), [good, good]))
    for body in ([good, good | {"Message": "forged"}], [], {"eventType": "Send"}, [good, {"eventType": "Send"}]):
        with pytest.raises(BadCallback):
            esp.verify(Callback({}, None, body))


def test_what_waited_in_a_dead_letter_queue_is_believed_and_a_replay_of_later_is_not(web: Web, roots: Path, leaf: Authority) -> None:
    esp = ses(web, topic_arn=TOPIC, trust_root=str(roots))
    signed_at_s = NOW.timestamp()
    good = envelope(leaf, Timestamp=NOW.isoformat().replace("+00:00", "Z"))
    for age_s in (14 * 86_400 + 3_600, REPLAY_WINDOW_S, -CLOCK_SKEW_S):
        assert is_believed(esp.verify, Callback({}, None, good, signed_at_s + age_s))
    for age_s in (REPLAY_WINDOW_S + 1, -CLOCK_SKEW_S - 1):
        with pytest.raises(BadCallback, match="too old, or from the future"):
            esp.verify(Callback({}, None, good, signed_at_s + age_s))


def test_a_time_that_is_none_cannot_be_judged(certificates: Certificates, leaf: Authority) -> None:
    with pytest.raises(BadCallback, match="Timestamp"):
        verify_envelope(envelope(leaf, Timestamp="yesterday"), TOPIC, certificates)


def test_an_account_without_a_topic_takes_everything(web: Web) -> None:
    assert is_believed(ses(web).verify, Callback({}, None, {"eventType": "Send"}))
    assert web.asked == []


@pytest.mark.parametrize(
    ("credentials", "host"),
    [
        ({}, HOST),
        ({"region": "cn-north-1"}, "sns.cn-north-1.amazonaws.com.cn"),
        ({"cert_host": "localhost"}, "localhost"),
    ],
)
def test_the_host_follows_from_the_region_unless_it_is_set(web: Web, leaf: Authority, credentials: dict[str, str], host: str) -> None:
    esp = ses(web, topic_arn=TOPIC, **credentials)
    with pytest.raises(BadCallback, match="no certificate"):
        esp.verify(Callback({}, None, envelope(leaf, SigningCertURL=f"https://{host}/x.pem")))
    assert web.asked == [f"https://{host}/x.pem"]
