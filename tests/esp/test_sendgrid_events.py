"""SendGrid's other direction: its signature, its ids and its bounce classes."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from esp.replay import CLOCK_SKEW_S
from esp.sendgrid import REPLAY_WINDOW_S, Esp, message_id_of
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event
from mail.ids import new_id, wire_id
from telemetry import metrics
from tests.esp.belief import is_believed

PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())
BODY = b'[{"event":"delivered","email":"ann@a.test","timestamp":1800000000,"sg_event_id":"x"}]\r\n'
SIGNED_AT_S = 1_800_000_000


def shown(key: Any, encoding: Encoding = Encoding.DER) -> str:
    encoded: bytes = key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode() if encoding is Encoding.PEM else base64.b64encode(encoded).decode()


def esp(public_key: str | None = None) -> Esp:
    key = shown(PRIVATE_KEY.public_key()) if public_key is None else public_key
    return Esp(Account("sendgrid", 0, "https://api.sendgrid.com", {"api_key": "SG.key", "webhook_public_key": key}))


def signed(body: bytes = BODY, at: str = str(SIGNED_AT_S), key: ec.EllipticCurvePrivateKey = PRIVATE_KEY) -> dict[str, str]:
    signature = key.sign(at.encode() + body, ec.ECDSA(SHA256()))
    return {
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": at,
    }


def callback(headers: dict[str, str] | None = None, raw: bytes | None = BODY, received_at_s: float | None = SIGNED_AT_S + 1.0) -> Callback:
    return Callback(signed() if headers is None else headers, raw, json.loads(BODY), received_at_s)


def event(**fields: Any) -> Event:
    (only,) = esp().parse_events({"email": "ann@a.test", "timestamp": SIGNED_AT_S, "sg_event_id": "e", **fields})
    return only


def unknown_so_far() -> float:
    return metrics.WEBHOOK_EVENTS.labels(provider="sendgrid", event="unknown")._value.get()  # type: ignore[no-any-return]


def test_what_sendgrid_signed_is_believed() -> None:
    assert is_believed(esp().verify, callback())


def test_a_key_in_pem_does_as_well() -> None:
    pem = shown(PRIVATE_KEY.public_key(), Encoding.PEM)
    for spelling in (pem, pem.replace("\n", "\\n"), " ".join(pem.split("\n"))):
        assert is_believed(esp(spelling).verify, callback())


@pytest.mark.parametrize("name", sorted(signed()))
def test_an_unsigned_callback_is_refused(name: str) -> None:
    headers = {key: value for key, value in signed().items() if key != name}
    with pytest.raises(BadCallback, match="not signed"):
        esp().verify(callback(headers))


def test_one_changed_byte_is_refused() -> None:
    with pytest.raises(BadCallback, match="signature is wrong"):
        esp().verify(callback(raw=BODY.replace(b"ann", b"bob")))
    with pytest.raises(BadCallback, match="signature is wrong"):
        esp().verify(callback(raw=BODY.rstrip()))


def test_the_timestamp_is_part_of_what_is_signed() -> None:
    with pytest.raises(BadCallback, match="signature is wrong"):
        esp().verify(callback(signed() | {"x-twilio-email-event-webhook-timestamp": str(SIGNED_AT_S + 1)}))


def test_somebody_elses_key_is_refused() -> None:
    with pytest.raises(BadCallback, match="signature is wrong"):
        esp().verify(callback(signed(key=ec.generate_private_key(ec.SECP256R1()))))


@pytest.mark.parametrize("signature", ["", " ", "x", "é", "AAAA", "MEUCIQ==", "A" * 5_000, "\ud800"])
def test_a_signature_of_any_other_form_is_refused(signature: str) -> None:
    with pytest.raises(BadCallback):
        esp().verify(callback(signed() | {"x-twilio-email-event-webhook-signature": signature}))


def test_a_body_that_came_parsed_cannot_be_believed() -> None:
    with pytest.raises(BadCallback, match="parsed"):
        esp().verify(callback(raw=None))


@pytest.mark.parametrize(
    "key", ["AAAA", "not base64!", "é", shown(rsa.generate_private_key(65537, 2048).public_key()), "-----BEGIN PUBLIC KEY-----"]
)
def test_a_key_that_is_none_believes_nobody(key: str) -> None:
    with pytest.raises(BadCallback, match="SENDGRID_WEBHOOK_PUBLIC_KEY"):
        esp(key).verify(callback())


def test_where_no_key_is_set_everything_is_believed() -> None:
    assert is_believed(esp("").verify, callback({}, raw=None))


def test_a_retry_of_a_day_later_is_believed_and_a_replay_of_later_is_not() -> None:
    assert is_believed(esp().verify, callback(received_at_s=SIGNED_AT_S + 24 * 3600 + 60))
    assert is_believed(esp().verify, callback(received_at_s=SIGNED_AT_S + REPLAY_WINDOW_S))
    with pytest.raises(BadCallback, match="too old"):
        esp().verify(callback(received_at_s=SIGNED_AT_S + REPLAY_WINDOW_S + 1))


def test_a_signature_from_the_future_is_refused_beyond_what_clocks_differ() -> None:
    assert is_believed(esp().verify, callback(received_at_s=SIGNED_AT_S - CLOCK_SKEW_S))
    with pytest.raises(BadCallback, match="future"):
        esp().verify(callback(received_at_s=SIGNED_AT_S - CLOCK_SKEW_S - 1))


def test_without_the_records_time_the_age_is_not_judged() -> None:
    assert is_believed(esp().verify, callback(received_at_s=None))


@pytest.mark.parametrize("at", ["soon", "1e9", "-5", "１８０００００００", "9" * 5_000])
def test_a_signed_timestamp_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(BadCallback, match="timestamp"):
        esp().verify(callback(signed(at=at)))


@pytest.mark.parametrize(
    ("sg_message_id", "message_id"),
    [
        ("abcDEF_12.recvd-5f54b-1-67BA-6.0", "abcDEF_12"),
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
        ("abc.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0", "abc"),
        ("abc.recvd-a.filter-b", "abc"),
        ("abc.geopod-1.2", "abc"),
        ("abc-DEF_1", "abc-DEF_1"),
        ("", ""),
    ],
)
def test_the_message_id_is_the_part_that_the_reply_gave(sg_message_id: str, message_id: str) -> None:
    assert message_id_of(sg_message_id) == message_id
    assert event(event="delivered", sg_message_id=sg_message_id).message_id == message_id


@pytest.mark.parametrize(
    ("kind", "blamed", "status", "bounce"),
    [
        ("bounce", "Invalid Address", "5.1.1", "hard"),
        ("bounce", "Mailbox Unavailable", "5.2.1", "hard"),
        ("bounce", None, None, "hard"),
        ("bounce", "Unclassified", "5.0.0", "hard"),
        ("bounce", "Content", "5.7.1", "block"),
        ("bounce", "Reputation", "5.7.1", "block"),
        ("bounce", "Frequency or Volume Too High", "4.7.28", "block"),
        ("blocked", "Content", "5.7.1", "block"),
        ("blocked", "Invalid Address", "5.1.1", "block"),
        ("blocked", None, None, "block"),
        ("blocked", "Mailbox Unavailable", "4.2.2", "soft"),
        ("blocked", "Technical", "4.4.1", "soft"),
        ("blocked", "Technical Failure", "4.4.1", "soft"),
        ("expired", None, None, "soft"),
        (None, None, "5.1.1", "hard"),
        (None, None, "5.7.1", "block"),
        (None, None, "4.2.2", "soft"),
        (7, [], {}, "hard"),
    ],
)
def test_a_bounce_has_the_class_of_its_type_and_classification(kind: Any, blamed: Any, status: Any, bounce: str) -> None:
    given = {"type": kind, "bounce_classification": blamed, "status": status, "reason": "no"}
    assert event(event="bounce", **{key: value for key, value in given.items() if value is not None}).bounce == bounce


def test_the_reason_of_a_drop_may_stand_in_its_type() -> None:
    assert event(event="dropped", type="Unsubscribed Address").reason == "Unsubscribed Address"
    assert event(event="dropped", reason="Invalid").bounce == "hard"
    assert event(event="dropped", reason="Spam Reporting Address").bounce == ""


def test_an_attempt_id_of_another_program_is_no_attempt() -> None:
    attempt_id = new_id()
    assert event(event="open", attempt_id=wire_id(attempt_id)).attempt_id == attempt_id
    for stranger in ("7", "", attempt_id, wire_id(attempt_id) + "A", None, 7, ["x"], "U" * 26):
        assert event(event="open", attempt_id=stranger).attempt_id == ""


def test_a_custom_argument_cannot_pass_for_a_machine_open() -> None:
    assert event(event="open", sg_machine_open="true").is_machine is False
    assert event(event="open", sg_machine_open=True).is_machine is True


def test_without_an_id_the_event_is_known_by_its_hash() -> None:
    fields = {"event": "open", "sg_event_id": None, "useragent": "A"}
    first, again, other = event(**fields), event(**fields), event(**fields | {"useragent": "B"})
    assert len(first.event_id) == 64
    assert first.event_id == again.event_id != other.event_id
    endless = [event(event="open", sg_event_id="x" * 5_000 + tail).event_id for tail in "ab"]
    assert len(set(endless)) == 2 and all(len(id_) == 64 for id_ in endless)


@pytest.mark.parametrize("timestamp", [None, 0, -1, True, "", "soon", [], {}, 10**400, 1e308, -1e308, "1e999"])
def test_a_moment_that_is_none_is_left_to_others(timestamp: Any) -> None:
    assert event(event="open", timestamp=timestamp).at is None


def test_unknown_types_are_counted_and_cost_nothing_else() -> None:
    before = unknown_so_far()
    body = [{"event": "teleported"}, {"event": "open", "email": "ann@a.test"}, {"event": ["open"]}, {}, 7, None]
    assert len(esp().parse_events(body)) == 1
    assert unknown_so_far() - before == 5


def test_very_long_fields_are_not_kept() -> None:
    kept = event(event="open", note="x" * 5_000, data={"a": ["x" * 5_000]}, tag="short", useragent="A" * 3_000)
    assert kept.raw.keys() == {"event", "email", "timestamp", "sg_event_id", "tag", "useragent"}
    assert len(kept.user_agent) == 1_000
    assert len(event(event="open", **{f"arg{n}": n for n in range(500)}).raw) == 100
