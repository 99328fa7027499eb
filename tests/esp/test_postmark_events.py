"""Postmark's other direction: its login, and what each kind of webhook and each type of bounce means."""

import base64
from typing import Any

import pytest

from esp.postmark import Esp
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event
from mail.ids import new_id, wire_id
from telemetry import metrics
from tests.esp.belief import is_believed

BOUNCED_AT = "2026-11-21T10:00:05.1234567Z"


def esp(username: str = "hook", password: str = "s3cret:ü") -> Esp:
    login = {"webhook_username": username, "webhook_password": password}
    credentials = {"server_token": "t"} | {name: value for name, value in login.items() if value}
    return Esp(Account("postmark", 0, "https://api.postmarkapp.com", credentials))


def bringing(login: str, scheme: str = "Basic") -> Callback:
    return Callback({"authorization": f"{scheme} {base64.b64encode(login.encode()).decode()}"}, None, {})


def events(**fields: Any) -> list[Event]:
    return esp().parse_events(fields)


def bounce(type_: Any, **fields: Any) -> list[Event]:
    return events(RecordType="Bounce", ID=7, Type=type_, Email="ann@a.test", BouncedAt=BOUNCED_AT, Details="smtp;550 5.1.1 no", **fields)


def test_the_right_login_is_believed() -> None:
    assert is_believed(esp().verify, bringing("hook:s3cret:ü"))
    assert is_believed(esp().verify, bringing("hook:s3cret:ü", "basic"))
    assert is_believed(esp(username="").verify, bringing(":s3cret:ü"))


def test_a_password_alone_may_be_the_value_of_a_header() -> None:
    alone = esp(username="")
    for headers in ({"x-webhook-token": "s3cret:ü"}, {"authorization": "Bearer s3cret:ü"}):
        alone.verify(Callback(headers, b"{}", {}))
        with pytest.raises(BadCallback):
            esp().verify(Callback(headers, b"{}", {}))
    for wrong in (
        {},
        {"x-webhook-token": "s3cret"},
        {"x-webhook-token": "\ud800"},
        {"authorization": "Bearer"},
        {"authorization": "Basic eA=="},
    ):
        with pytest.raises(BadCallback):
            alone.verify(Callback(wrong, b"{}", {}))


@pytest.mark.parametrize(
    "header",
    [
        *(
            None,
            "",
            "Basic",
            "Basic ",
            "Basic x",
            "Basic ????",
            "Basic é",
            "Basic \ud800",
            "Bearer aG9vazpzM2NyZXQ6w7w=",
            "aG9vazpzM2NyZXQ6w7w=",
        ),
        *(
            f"Basic {base64.b64encode(login.encode()).decode()}"
            for login in ("hook:", "hook", "", "Hook:s3cret:ü", "hook:s3cret", "hook:s3cret:üx")
        ),
    ],
)
def test_any_other_login_is_refused(header: str | None) -> None:
    with pytest.raises(BadCallback) as refusal:
        esp().verify(Callback({} if header is None else {"authorization": header}, b"{}", {}))
    assert "s3cret" not in str(refusal.value)


def test_where_no_login_is_set_everything_is_believed() -> None:
    assert is_believed(esp("", "").verify, Callback({}, None, {}))


@pytest.mark.parametrize(
    ("type_", "meaning"),
    [
        ("HardBounce", ("bounced", "hard")),
        ("BadEmailAddress", ("bounced", "hard")),
        ("SoftBounce", ("bounced", "soft")),
        ("Unknown", ("bounced", "soft")),
        ("Blocked", ("bounced", "block")),
        ("SpamNotification", ("bounced", "block")),
        ("VirusNotification", ("bounced", "block")),
        ("Transient", ("deferred", "")),
        ("DnsError", ("deferred", "")),
        ("SpamComplaint", ("complained", "")),
        ("Unsubscribe", ("unsubscribed", "")),
        ("Subscribe", ("subscribed", "")),
        ("ManuallyDeactivated", ("dropped", "")),
        ("Unconfirmed", ("dropped", "")),
        ("SMTPApiError", ("dropped", "")),
        ("DMARCPolicy", ("dropped", "")),
        ("TemplateRenderingFailed", ("dropped", "")),
        ("SomethingNew", ("bounced", "soft")),
        (None, ("bounced", "soft")),
        (4096, ("bounced", "soft")),
    ],
)
def test_each_type_of_bounce_has_its_meaning(type_: Any, meaning: tuple[str, str]) -> None:
    (event,) = bounce(type_)
    assert (event.type, event.bounce) == meaning
    assert event.smtp_code == "5.1.1"
    assert event.event_id == "bounce:7"


@pytest.mark.parametrize("type_", ["AutoResponder", "AddressChange", "OpenRelayTest", "ChallengeVerification", "InboundError"])
def test_an_answer_of_a_machine_is_no_bounce(type_: str) -> None:
    assert bounce(type_) == []


@pytest.mark.parametrize(
    ("suppress", "why", "meaning"),
    [
        (True, "ManualSuppression", ("unsubscribed", "")),
        (True, None, ("unsubscribed", "")),
        (True, "HardBounce", ("bounced", "hard")),
        (True, "SpamComplaint", ("complained", "")),
        (False, None, ("subscribed", "")),
        (False, "HardBounce", ("subscribed", "")),
    ],
)
def test_a_change_of_subscription_says_why(suppress: bool, why: str | None, meaning: tuple[str, str]) -> None:
    (event,) = events(RecordType="SubscriptionChange", SuppressSending=suppress, SuppressionReason=why, Recipient="ann@a.test")
    assert (event.type, event.bounce) == meaning


def test_a_change_of_subscription_without_a_direction_is_none() -> None:
    assert events(RecordType="SubscriptionChange", SuppressSending="true", Recipient="ann@a.test") == []


def test_the_attempt_comes_back_in_the_metadata() -> None:
    attempt_id = new_id()
    for metadata, expected in (({"attempt_id": wire_id(attempt_id)}, attempt_id), ({"attempt_id": "7"}, ""), (None, ""), ([], "")):
        assert events(RecordType="Delivery", Metadata=metadata)[0].attempt_id == expected


def test_the_whole_mail_and_the_recipients_address_in_words_are_not_kept() -> None:
    (event,) = bounce("HardBounce", Content="Subject: secret", Description="we could not reach ann@a.test")
    assert "Content" not in event.raw
    assert event.reason == "HardBounce: smtp;550 5.1.1 no we could not reach [address]"


def test_repeats_meet_and_different_events_do_not() -> None:
    base = {"RecordType": "Click", "MessageID": "m", "Recipient": "a@a.test", "ReceivedAt": BOUNCED_AT, "OriginalLink": "https://x.test/"}
    changes = [
        {},
        {"Recipient": "b@a.test"},
        {"ReceivedAt": "2026-11-21T10:00:06Z"},
        {"OriginalLink": "https://y.test/"},
        {"MessageID": "n"},
    ]
    ids = [events(**base | change)[0].event_id for change in [*changes, {"RecordType": "Open"}]]
    assert len(set(ids)) == len(ids)
    assert events(**base | {"Tag": "added later"})[0].event_id == ids[0]


def test_leaving_and_coming_back_in_one_moment_are_two_events() -> None:
    base = {"RecordType": "SubscriptionChange", "Recipient": "a@a.test", "ChangedAt": BOUNCED_AT}
    left, back = events(**base, SuppressSending=True), events(**base, SuppressSending=False)
    assert left[0].event_id != back[0].event_id


@pytest.mark.parametrize(
    ("ip", "expected"),
    [("203.0.113.7", "203.0.113.7"), ("2001:DB8::7", "2001:db8::7"), ("fe80::1%eth0", ""), ("7", ""), (7, ""), (None, "")],
)
def test_an_ip_is_one_that_the_database_takes(ip: Any, expected: str) -> None:
    assert events(RecordType="Open", Geo={"IP": ip})[0].ip == expected


def test_a_bounce_without_an_id_is_known_by_its_hash() -> None:
    strangers: list[Any] = [None, 0, [], "x" * 300]
    for own in strangers:
        (event,) = events(RecordType="Bounce", ID=own, Type="HardBounce", Email="ann@a.test", BouncedAt=BOUNCED_AT)
        assert len(event.event_id) == 64


@pytest.mark.parametrize("moment", [None, "", "soon", 7, "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", [], True])
def test_a_moment_that_is_none_is_left_to_others(moment: Any) -> None:
    assert events(RecordType="Delivery", DeliveredAt=moment)[0].at is None


def test_unknown_kinds_are_counted_and_cost_nothing_else() -> None:
    counter = metrics.WEBHOOK_EVENTS.labels(provider="postmark", event="unknown")
    before = counter._value.get()
    body = [{"RecordType": "Telepathy"}, {"RecordType": "Open", "Recipient": "a@a.test"}, {}, {"RecordType": ["Open"]}, 7]
    assert len(esp().parse_events(body)) == 1
    assert counter._value.get() - before == 4
