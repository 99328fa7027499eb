"""What every ESP that calls back must keep: the documented callbacks, and any mutation of them."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp import base
from mail.account import Account
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import Event, EventType
from tests.esp.belief import is_believed
from tests.esp.mutations import ATTEMPT_ID, JUNK, STANZAS, documented, mutated

MUTATIONS_OF_ONE_SEED = 100
HEADERS = [
    *("authorization", "x-webhook-token", "x-messagesystems-webhook-token", "content-type"),
    *("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"),
    *("svix-id", "svix-timestamp", "svix-signature"),
]


def listener(provider: str, **credentials: str) -> base.Listener:
    required = {key: f"test{key.replace('_', '')}" for key, one in STANZAS[provider]["credentials"].items() if one["required"]}
    esp = base.load(Account(provider, 0, STANZAS[provider].get("base_url", ""), required | credentials))
    assert isinstance(esp, base.Listener)
    return esp


EXAMPLES = [pytest.param(name, example, id=f"{name}: {example['what']}") for name, example in documented()]
PROVIDERS = sorted({name for name, _ in documented()})


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_a_documented_callback_means_what_the_documentation_says(name: str, example: dict[str, Any]) -> None:
    assert example["source"]
    events = listener(name).parse_events(example["body"])
    assert len(events) == len(example["events"])
    for event, told in zip(events, example["events"], strict=True):
        expected = {"type": told} if isinstance(told, str) else told
        fields = msgspec.to_builtins(event)
        fields["at"] = event.at and event.at.isoformat()
        wanted = {key: value for key, value in expected.items() if key != "attempt"}
        assert {key: fields[key] for key in wanted} == wanted
        assert event.provider == name
        if "attempt" in expected:
            assert event.attempt_id == ATTEMPT_ID


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_a_single_event_and_an_array_say_the_same(name: str, example: dict[str, Any]) -> None:
    body = example["body"]
    singles = body if isinstance(body, list) else [body]
    together = listener(name).parse_events(singles)
    assert together == [event for single in singles for event in listener(name).parse_events(single)]
    assert together == listener(name).parse_events(body)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_a_repeat_has_the_same_ids_whatever_the_order_of_its_keys(name: str, example: dict[str, Any]) -> None:
    events = listener(name).parse_events(example["body"])
    repeats = listener(name).parse_events(json.loads(json.dumps(example["body"], sort_keys=True)))
    assert [(e.event_id, e.at) for e in repeats] == [(e.event_id, e.at) for e in events]
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROVIDERS)
@given(seed=st.integers(0, 2**64))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand_mutations_raise_nothing_but_bad_callback(name: str, seed: int) -> None:
    dice = random.Random(seed)
    bodies = [example["body"] for provider, example in documented() if provider == name]
    parse = listener(name).parse_events
    for _ in range(MUTATIONS_OF_ONE_SEED):
        try:
            events = parse(mutated(dice.choice(bodies), dice))
        except BadCallback:
            continue
        for event in events:
            assert_storable(event)


@pytest.mark.parametrize("name", PROVIDERS)
@given(seed=st.integers(0, 2**64), raw=st.one_of(st.none(), st.binary()), headers=st.dictionaries(st.sampled_from(HEADERS), st.text()))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_stranger_is_believed_and_none_raises_anything_else(name: str, seed: int, raw: bytes | None, headers: dict[str, str]) -> None:
    dice = random.Random(seed)
    bodies = [example["body"] for provider, example in documented() if provider == name]
    checked = listener(name, **{key: f"the {key}" for key in checking(name)})
    with pytest.raises(BadCallback):
        checked.verify(Callback(headers, raw, mutated(dice.choice(bodies), dice), 1_800_000_000.0))


def checking(name: str) -> list[str]:
    """The credentials of an ESP with which its callbacks are checked, beside those that it cannot do without."""
    return [key for key, one in STANZAS[name]["credentials"].items() if not one["required"] and "_WEBHOOK_" in one["setting"]]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("body", [value for value in JUNK if not isinstance(value, dict | list)])
def test_a_body_that_is_no_object_and_no_array_is_refused(name: str, body: Any) -> None:
    with pytest.raises(BadCallback):
        listener(name).parse_events(body)


@pytest.mark.parametrize("name", PROVIDERS)
def test_one_odd_event_costs_itself_only(name: str) -> None:
    bodies = [example["body"] for provider, example in documented() if provider == name and example["events"]]
    good = [event for body in bodies for event in (body if isinstance(body, list) else [body])]
    events = listener(name).parse_events([None, *good, "x", {"event": "no-such-thing", "RecordType": 7}, [], 7])
    assert events == listener(name).parse_events(good)


@pytest.mark.parametrize("name", PROVIDERS)
def test_where_no_key_is_set_everything_is_accepted(name: str) -> None:
    assert is_believed(listener(name).verify, Callback({}, None, {}))
    assert is_believed(listener(name).verify, Callback({"authorization": "Basic eDp5"}, b"{}", {}))


def assert_storable(event: Event) -> None:
    """What the tables and topics can hold."""
    assert isinstance(event.type, EventType)
    assert 0 < len(event.event_id) <= 255
    assert event.bounce in ("", "hard", "soft", "block")
    assert event.at is None or event.at.utcoffset() is not None
    assert "@" not in event.reason
    for text, limit in ((event.recipient, 320), (event.reason, 500), (event.message_id, 255), (event.user_agent, 1000), (event.url, 2000)):
        assert len(text) <= limit
        assert "\0" not in text
        text.encode()
    assert len(json.dumps(event.raw)) < 1_000_000
