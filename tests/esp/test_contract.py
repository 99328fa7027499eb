"""What every ESP of config/esps.toml must keep, whatever it is called."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp import base
from mail.account import Account
from mail.ids import wire_id
from mail.message import Address, Attachment, Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from tests.esp.messages import any_message, message

ROOT = Path(__file__).parents[2]
STANZAS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "config" / "esps.toml").read_text())
# In SMTP the numbers alone say it: a 5xx is a no.
HTTP_ESPS = sorted(name for name, stanza in STANZAS.items() if stanza["base_url"].startswith("https:"))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def account(provider: str) -> Account:
    """An account with every credential, but for files, which are not there."""
    stanza = STANZAS[provider]
    keys = [key for key, credential in stanza["credentials"].items() if not credential["setting"].endswith(("_FILE", "_ROOT"))]
    return Account(provider, 0, stanza.get("base_url", ""), {key: f"test{key.replace('_', '')}" for key in keys})


@pytest.fixture(params=sorted(STANZAS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def esp(provider: str) -> base.Esp:
    return base.load(account(provider))


def prepared(esp: base.Esp, count: int) -> Request:
    """A request with that many messages, assembled by hand where the ESP would cut them apart."""
    messages = [message(html=f"<p>{n}</p>") for n in range(count)]
    first = esp.prepare(messages)[0]
    return Request(first.method, first.url, first.headers, first.body, tuple(messages))


def examples() -> list[Any]:
    files = [ROOT / "esp" / "examples" / f"{name}.json" for name in sorted(STANZAS)]
    found = [(path.stem, example) for path in files for example in json.loads(path.read_text())["replies"]]
    return [pytest.param(name, example, id=f"{name}: {example['what']}") for name, example in found]


def test_every_stanza_is_a_module_and_every_setting_has_a_name(provider: str) -> None:
    stanza = STANZAS[provider]
    assert {"base_url", "base_url_setting", "weight", "credentials"} <= stanza.keys()
    assert any(credential["required"] for credential in stanza["credentials"].values())
    assert all(credential["setting"].isupper() for credential in stanza["credentials"].values())
    assert isinstance(base.load(account(provider)).limits, base.Limits)


@pytest.mark.parametrize("name", ["nobody", "../sendgrid", "sendgrid.Esp", "", "base", "http"])
def test_a_name_without_an_esp_is_a_look_up_error(name: str) -> None:
    with pytest.raises(LookupError):
        base.load(Account(name, 0, "https://x.test", {}))


@pytest.mark.parametrize("provider_name", sorted(STANZAS))
@given(messages=st.lists(any_message(), max_size=12))
@QUICK
def test_each_message_travels_exactly_once_in_order_with_its_attempt_id(provider_name: str, messages: list[Message]) -> None:
    esp = base.load(account(provider_name))
    able = [m for m in messages if esp.unsupported(m) is None]
    requests = esp.prepare(able)
    order = {m.attempt_id: position for position, m in enumerate(able)}
    assert sorted(order[m.attempt_id] for r in requests for m in r.messages) == list(range(len(able)))
    for request in requests:
        wire_ids = [wire_id(m.attempt_id).encode() for m in request.messages]
        places = [request.body.find(wire) for wire in wire_ids]
        assert [order[m.attempt_id] for m in request.messages] == sorted(order[m.attempt_id] for m in request.messages)
        assert places == sorted(places)
        # a mail that travels alone may name it twice, in its Message-ID and beside it
        assert all(request.body.count(wire) in ((1,) if len(wire_ids) > 1 else (1, 2)) for wire in wire_ids)
        assert_within(esp.limits, request)


@pytest.mark.parametrize("provider_name", sorted(STANZAS))
@given(status=st.integers(100, 599), headers=st.dictionaries(st.sampled_from(["retry-after", "x-message-id"]), st.text()), body=st.binary())
@QUICK
def test_no_reply_whatever_raises_and_only_a_success_is_accepted(
    provider_name: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    esp = base.load(account(provider_name))
    request = prepared(esp, 2)
    outcomes = esp.interpret(request, Reply(status, headers, body))
    assert_one_each(request, outcomes)
    verdicts = {o.verdict for o in outcomes}
    if not 200 <= status < 300:
        assert Verdict.ACCEPTED not in verdicts
    if provider_name in HTTP_ESPS:  # what cannot be read is neither a no nor proof that nothing was taken
        assert not {Verdict.REJECTED, Verdict.UNAVAILABLE} & verdicts


@pytest.mark.parametrize("provider_name", sorted(STANZAS))
@given(status=st.integers(-1, 999), body=st.one_of(st.binary(), st.sampled_from([b"", b"<html>", b"{}", b"[]", b"null", b'{"errors":[]}'])))
@QUICK
def test_a_mail_alone_is_never_split(provider_name: str, status: int, body: bytes) -> None:
    esp = base.load(account(provider_name))
    request = prepared(esp, 1)
    assert Verdict.SPLIT not in {o.verdict for o in esp.interpret(request, Reply(status, {}, body))}


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-10, 2000), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["errors", "field", "message", "ErrorCode", "Message", "MessageID", "results"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("provider_name", sorted(STANZAS))
@given(status=st.sampled_from([200, 202, 400, 401, 413, 422, 429, 500, 503]), body=json_values)
@QUICK
def test_json_of_an_unexpected_shape_raises_nothing(provider_name: str, status: int, body: Any) -> None:
    esp = base.load(account(provider_name))
    request = prepared(esp, 2)
    assert_one_each(request, esp.interpret(request, Reply(status, {}, json.dumps(body).encode())))
    alone = prepared(esp, 1)
    assert Verdict.SPLIT not in {o.verdict for o in esp.interpret(alone, Reply(status, {}, json.dumps(body).encode()))}


def test_deeply_nested_json_raises_nothing(esp: base.Esp) -> None:
    request = prepared(esp, 1)
    for status in (200, 400):
        assert_one_each(request, esp.interpret(request, Reply(status, {}, b"[" * 100_000)))


def test_many_messages_are_cut_to_the_limits(esp: base.Esp) -> None:
    messages = [message(subject=f"Order {n}") for n in range(1203)]
    requests = esp.prepare(messages)
    assert [m.attempt_id for r in requests for m in r.messages] == [m.attempt_id for m in messages]
    for request in requests:
        assert_within(esp.limits, request)


def test_a_mail_over_the_limits_is_unsupported_and_one_at_the_limits_is_not(esp: base.Esp) -> None:
    most, largest = esp.limits.recipients_per_message, esp.limits.message_bytes
    everybody = tuple(Address(f"u{n}@a.test") for n in range(most + 1))
    assert esp.unsupported(message(to=everybody[:1], cc=everybody[1:-1])) is None
    assert str(most) in (esp.unsupported(message(to=everybody[:1], cc=everybody[1:])) or "")
    bare = base.content_bytes(message())
    heavy = [message(attachments=(Attachment("a.pdf", "application/pdf", "A" * (largest - bare + more)),)) for more in (0, 1)]
    assert esp.unsupported(heavy[0]) is None
    assert str(largest) in (esp.unsupported(heavy[1]) or "")
    assert_within(esp.limits, esp.prepare(heavy[:1])[0])


def test_no_messages_need_no_request(esp: base.Esp) -> None:
    assert esp.prepare([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_header_beyond_ascii_travels_in_encoded_words(esp: base.Esp, count: int) -> None:
    messages = [message(headers=(("X-Note", f"Grüße {n} 👋"),)) for n in range(count)]
    assert all(request.body.isascii() for request in esp.prepare(messages))


def test_what_never_left_is_unavailable_and_what_left_is_unknown(esp: base.Esp) -> None:
    request = prepared(esp, 3)
    for has_left, verdict in ((False, Verdict.UNAVAILABLE), (True, Verdict.UNKNOWN)):
        outcomes = esp.interpret(request, NoReply(has_left, "reset by ann@a.test"))
        assert_one_each(request, outcomes)
        assert {(o.verdict, o.blame) for o in outcomes} == {(verdict, Blame.NETWORK)}


@pytest.mark.parametrize("status", [301, 302, 307, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"null"])
@pytest.mark.parametrize("name", HTTP_ESPS)
def test_a_server_error_or_a_redirect_is_unknown(name: str, status: int, body: bytes) -> None:
    esp = base.load(account(name))
    request = prepared(esp, 2)
    assert {o.verdict for o in esp.interpret(request, Reply(status, {}, body))} == {Verdict.UNKNOWN}


@pytest.mark.parametrize("body", [b"<html>Welcome to the hotel network</html>", b"{", b'{"ok":true}'])
def test_an_unreadable_success_is_unknown(esp: base.Esp, body: bytes) -> None:
    request = prepared(esp, 2)
    assert {o.verdict for o in esp.interpret(request, Reply(200, {}, body))} == {Verdict.UNKNOWN}


def test_the_reply_to_a_request_without_messages_has_no_outcomes(esp: base.Esp) -> None:
    for status in (200, 400, 401, 500):
        assert esp.interpret(esp.health(), Reply(status, {}, b"{}")) == []


def test_health_is_a_request_without_messages_to_the_accounts_own_base_url(provider: str) -> None:
    elsewhere = Account(provider, 7, "http://127.0.0.1:9", account(provider).credentials)
    health = base.load(elsewhere).health()
    assert health.messages == ()
    assert health.url.startswith("http://127.0.0.1:9/")
    assert base.load(elsewhere).prepare([message()])[0].url.startswith("http://127.0.0.1:9/")


@pytest.mark.parametrize(("name", "example"), examples())
def test_a_documented_reply_means_what_the_documentation_says(name: str, example: dict[str, Any]) -> None:
    esp = base.load(account(name))
    request = prepared(esp, example["messages"])
    outcomes = esp.interpret(request, Reply(example["status"], example["headers"], _spelled(example["body"])))
    assert_one_each(request, outcomes)
    assert example["source"]
    assert [o.verdict for o in outcomes] == example["verdicts"]
    if "blames" in example:
        assert [o.blame for o in outcomes] == example["blames"]
    if "message_id" in example:
        assert {o.message_id for o in outcomes} == {example["message_id"]}


@pytest.mark.parametrize("name", HTTP_ESPS)
def test_no_id_holds_what_the_database_cannot(name: str) -> None:
    esp = base.load(account(name))
    for example in [
        param.values[1] for param in examples() if param.values[0] == name and set(param.values[1]["verdicts"]) == {"accepted"}
    ]:
        request = prepared(esp, example["messages"])
        told = {o.message_id for o in esp.interpret(request, Reply(example["status"], example["headers"], _spelled(example["body"])))}
        odd = [(one, f"{one[:1]}\0{one[1:]}" + "x" * 300) for one in told if one]
        headers, body = json.dumps(example["headers"]), _spelled(example["body"]).decode()
        for one, put in odd:
            headers, body = headers.replace(one, json.dumps(put)[1:-1]), body.replace(one, json.dumps(put)[1:-1])
        outcomes = esp.interpret(request, Reply(example["status"], json.loads(headers), body.encode()))
        assert all("\0" not in o.message_id and len(o.message_id) <= 255 for o in outcomes)


def _spelled(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def assert_one_each(request: Request, outcomes: list[Outcome]) -> None:
    assert [o.attempt_id for o in outcomes] == [m.attempt_id for m in request.messages]
    for outcome in outcomes:
        assert "@" not in outcome.detail
        assert len(outcome.detail) <= base.DETAIL_CHARACTERS
        assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= base.LONGEST_WAIT_S
        assert (outcome.blame is None) == (outcome.verdict is Verdict.ACCEPTED)


def assert_within(limits: base.Limits, request: Request) -> None:
    assert 0 < len(request.messages) <= limits.messages_per_request
    assert sum(base.recipients_of(m) for m in request.messages) <= limits.recipients_per_request
    assert len(request.body) <= limits.request_bytes
