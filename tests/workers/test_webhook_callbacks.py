"""Callbacks that must not be believed, and bodies that are none: nothing applied, nobody dies."""

import json
import random
import re

import pytest

from esp import base as esp_base
from mail.account import Account
from mail.ids import new_id, wire_id
from sandbox.fakes import callbacks
from sandbox.fakes.callbacks import Happening
from tests.workers.test_webhook_orders import ESPS, ROOT, STANZAS, listener_of
from tests.workers.webhook_loop import WebhookLoop, envelope

NOW_S = 1_790_000_100.0
TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:feedback"


def account_of(provider, tenant=0, **credentials):
    required = {name: "1" for name, one in STANZAS[provider]["credentials"].items() if one["required"]}
    return Account(provider, tenant, "http://127.0.0.1:1", required | credentials)


def guarded(provider):
    """An account with everything set that has its callbacks checked."""
    names = [name for name, one in STANZAS[provider]["credentials"].items() if "_WEBHOOK_" in one["setting"]]
    assert names
    return account_of(provider, **{name: TOPIC_ARN if name.endswith("topic_arn") else "nobody knows this" for name in names})


def happenings(provider, sent, kinds=("delivered", "complaint")):
    line = {
        "at": NOW_S - 50,
        "provider": provider,
        "attempt_id": wire_id(sent.attempt_id),
        "message_id": "mid",
        "recipient": sent.recipient,
    }
    line |= {"subject": "s", "request": 1}
    return [Happening(kind, NOW_S - 40 + n, line, n, "Thunderbird", "192.0.2.1") for n, kind in enumerate(kinds)]


def posts(provider, sent, builder=None, now_s=NOW_S):
    """Real callbacks of a fake ESP about that mail, and the credentials with which they are believed."""
    builder = builder or callbacks.load(provider)
    settings = {c["setting"]: name for name, c in STANZAS[provider]["credentials"].items()}
    credentials = {settings[name]: value for name, value in builder.settings().items()}
    return builder.posts(happenings(provider, sent), now_s), credentials


def value_of(post, tenant=None):
    content = {"headers": {name: list(values) for name, values in post.headers.items()}, "body": post.body.decode()}
    return json.dumps(content if tenant is None else content | {"tenant": tenant}).encode()


def pretended(post, genuine_post):
    """A stranger's, who names the genuine sender's certificate where callbacks name one."""
    named = re.search(rb'"SigningCertURL":"[^"]*"', genuine_post.body)
    return post._replace(body=re.sub(rb'"SigningCertURL":"[^"]*"', named[0], post.body)) if named else post


def genuine(provider):
    builders = callbacks.load(provider)
    return builders is not None


SIGNING = [name for name in ESPS if genuine(name)]


def dead_letters(world):
    return world.rows("SELECT reason, error, value, source, job_id FROM dead_letters ORDER BY source->>'offset'")


# -- forged and unsigned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ESPS)
def test_an_unsigned_callback_is_a_dead_letter_with_its_own_bytes_and_applies_nothing(world, provider):
    sent = world.send(provider=provider, answer="unknown")
    loop = WebhookLoop(world, [guarded(provider)], esp_base.load)
    examples = json.loads((ROOT / "esp" / "examples" / f"{provider}.json").read_text())["callbacks"]
    values = []
    for example in examples:
        text = json.dumps(example["body"]).replace("WIRE", wire_id(sent.attempt_id))
        values += [envelope(text), envelope(text, is_raw=False), text.encode()]
    for value in values:
        loop.put(value, provider, NOW_S)
    loop.turn()
    letters = dead_letters(world)
    assert sorted(bytes(letter["value"]) for letter in letters) == sorted(values)
    assert {letter["reason"] for letter in letters} == {"bad-callback"}
    assert [told["reason"] for topic, _, told in loop.broker.published if topic == "email-dlq"] == ["bad-callback"] * len(values)
    assert world.status(sent) == "uncertain"
    assert world.count("email_tracking") == world.count("webhook_watermarks") == world.count("suppressions") == 0


@pytest.mark.parametrize("provider", SIGNING)
def test_a_genuine_callback_is_believed_and_a_forged_one_beside_it_is_not(world, provider):
    sent, other = world.send(provider=provider), world.send("bob@a.test", provider=provider)
    genuine_posts, credentials = posts(provider, sent)
    forged_posts, _ = posts(provider, other)
    loop = WebhookLoop(world, [account_of(provider, **credentials)], esp_base.load)
    for post in genuine_posts + [pretended(post, genuine_posts[0]) for post in forged_posts]:
        loop.put(value_of(post), provider, NOW_S)
    loop.turn()
    assert world.status(sent) == "complained"
    assert world.status(other) == "sent"
    assert world.suppressed("bob@a.test") == []
    assert len(dead_letters(world)) == len(forged_posts)


def disproved(post):
    """Without its headers; what proves it in the body (a secret, a signature over fields) is another one by one letter."""
    body = re.sub(r'("(?:SecretKey|Signature)":")(.)', lambda found: found[1] + ("A" if found[2] != "A" else "B"), post.body.decode())
    return json.dumps({"headers": {}, "body": body}).encode()


@pytest.mark.parametrize("provider", SIGNING)
def test_a_callback_that_came_without_its_proof_is_refused(world, provider):
    sent = world.send(provider=provider)
    genuine_posts, credentials = posts(provider, sent)
    loop = WebhookLoop(world, [account_of(provider, **credentials)], esp_base.load)
    for post in genuine_posts:
        loop.put(disproved(post), provider, NOW_S)
    loop.turn()
    assert world.status(sent) == "sent"
    assert len(dead_letters(world)) == len(genuine_posts)


@pytest.mark.parametrize("provider", SIGNING)
def test_a_replayed_callback_changes_nothing_a_second_time(world, provider):
    sent = world.send(provider=provider)
    genuine_posts, credentials = posts(provider, sent)
    loop = WebhookLoop(world, [account_of(provider, **credentials)], esp_base.load)
    for post in genuine_posts:
        loop.put(value_of(post), provider, NOW_S)
    loop.turn()
    before, told = world.final(sent), len(loop.broker.published)
    for seconds in (1.0, 60.0, 30 * 86_400.0):
        for post in genuine_posts:
            loop.put(value_of(post), provider, NOW_S + seconds)
        loop.turn()
    assert world.final(sent) == before
    assert [entry for entry in loop.broker.published[told:] if entry[0] == "email-events"] == []


@pytest.mark.parametrize("provider", ESPS)
def test_a_tenants_account_speaks_for_its_own_mail_only(world, provider):
    theirs = world.send("ann@a.test", tenant=7, provider=provider, account_tenant=7)
    ours = world.send("bob@a.test", tenant=8, provider=provider, account_tenant=8)
    loop = WebhookLoop(
        world, [account_of(provider), account_of(provider, 7), account_of(provider, 8)], lambda account: listener_of(provider)
    )
    examples = json.loads((ROOT / "esp" / "examples" / f"{provider}.json").read_text())["callbacks"]
    text = json.dumps([example["body"] for example in examples]).replace("WIRE", wire_id(theirs.attempt_id))
    before = world.final(theirs, [7])
    for body in json.loads(text):
        loop.put(envelope(body, tenant=8), provider, NOW_S)
        loop.put(envelope(body), provider, NOW_S)
    loop.turn()
    after = world.final(theirs, [7])
    assert (after[0], after[1], after[3:]) == (before[0], before[1], before[3:])
    assert world.status(ours) == "sent"
    assert world.count("suppressions") == 0
    for body in json.loads(text):
        loop.put(envelope(body, tenant=7), provider, NOW_S)
    loop.turn()
    assert world.status(theirs) != "sent"


def test_a_tenant_without_an_account_of_its_own_uses_the_services(world):
    sent = world.send(tenant=42)
    loop = WebhookLoop(world, [account_of("sendgrid")], esp_base.load)
    loop.put(
        envelope(
            [{"event": "delivered", "email": "ann@a.test", "timestamp": NOW_S, "sg_event_id": "e", "attempt_id": wire_id(sent.attempt_id)}],
            tenant=42,
        )
    )
    loop.turn()
    assert world.status(sent) == "delivered"


@pytest.mark.parametrize("shape", ["raw", "parsed", "bare", "bare object"])
def test_every_envelope_that_the_wire_formats_name_is_read(world, shape):
    sent = world.send()
    body = {"event": "delivered", "email": "ann@a.test", "timestamp": NOW_S, "sg_event_id": "e", "attempt_id": wire_id(sent.attempt_id)}
    loop = WebhookLoop(world, [account_of("sendgrid")], esp_base.load)
    values = {
        "raw": envelope([body]),
        "parsed": envelope([body], is_raw=False),
        "bare": json.dumps([body]).encode(),
        "bare object": json.dumps(body).encode(),
    }
    loop.put(values[shape])
    loop.turn()
    assert world.status(sent) == "delivered"


# -- malformed ---------------------------------------------------------------------------------------------------------


def mangled(dice, genuine_values):
    """A callback that something went wrong with."""
    value = bytearray(dice.choice(genuine_values))
    kind = dice.choice([0, 1, 2, 3, 3, 3, 3, 3, 4, 5])
    if kind == 0:
        return bytes(value[: dice.randrange(len(value))])
    if kind == 1:
        for _ in range(dice.randrange(1, 8)):
            value[dice.randrange(len(value))] = dice.randrange(256)
        return bytes(value)
    if kind == 2:
        return dice.randbytes(dice.randrange(200))
    if kind == 3:
        odd = [None, True, -1, 1e308, 10**30, "\0", "\ud83d", "x" * 5000, [], {}, [[]], {"a": {"b": [None]}}, "NaN", "2026-99-99T00:00:00Z"]
        return changed(dice, json.loads(bytes(value)), odd)
    if kind == 4:
        return b"[" * dice.randrange(1, 3000) + bytes(value)
    return bytes(value).replace(b":", dice.choice([b"::", b":1e999,", b":\\u0000"]), dice.randrange(1, 4))


def changed(dice, document, odd):
    """One value somewhere in the document replaced by something odd."""
    body = json.loads(document["body"]) if isinstance(document.get("body"), str) else document["body"]
    node = body
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            break
        key = dice.choice(list(keys))
        if isinstance(node[key], dict | list) and node[key] and dice.random() < 0.8:
            node = node[key]
            continue
        node[key] = dice.choice(odd)
        break
    document["body"] = json.dumps(body) if dice.random() < 0.5 else body
    return json.dumps(document).encode()


def test_ten_thousand_malformed_bodies_kill_nobody_and_each_is_a_dead_letter_or_counted(world):
    dice = random.Random(2026)
    accounts = [account_of(provider) for provider in ESPS]
    loop = WebhookLoop(world, accounts, lambda account: listener_of(account.provider))
    recordings = {p: json.loads((ROOT / "esp" / "examples" / f"{p}.json").read_text())["callbacks"] for p in ESPS}
    values = {p: [envelope(json.dumps(e["body"]).replace("WIRE", wire_id(new_id()))) for e in recordings[p]] for p in ESPS}
    records = [loop.put(mangled(dice, values[provider]), provider, NOW_S) for provider in ESPS * (10_000 // len(ESPS))]
    sent = world.send("last@a.test", provider="sendgrid")
    body = {"event": "delivered", "email": "last@a.test", "timestamp": NOW_S, "sg_event_id": "e", "attempt_id": wire_id(sent.attempt_id)}
    loop.put(envelope([body]), "sendgrid", NOW_S)
    loop.turn()
    assert len(records) == 10_000
    assert {record.name for record in loop.source.committed} >= {record.name for record in records}
    bags = [loop.loop._tools.sorter.sort([record]) for record in records]
    refused = {bag.refusals[0].record.offset for bag in bags if bag.refusals}
    assert {letter["source"]["offset"] for letter in dead_letters(world)} == refused
    counted = [bag for bag in bags if not bag.refusals]
    assert all(bag.arrivals or bag.empty for bag in counted)
    assert len(refused) > 2_000 and len(counted) > 2_000
    assert world.count("email_tracking", "job_id IS NOT NULL") == 1
    assert world.status(sent) == "delivered"


def test_what_postgres_cannot_hold_costs_its_own_callback_only(world, expect_errors):
    """A jsonb number of 200,000 digits: it passes every parser, and Postgres refuses it."""
    sent = world.send()
    good = {"event": "delivered", "email": "ann@a.test", "timestamp": NOW_S, "sg_event_id": "e", "attempt_id": wire_id(sent.attempt_id)}

    class Careless:
        def __init__(self, account):
            self.real = listener_of("sendgrid")

        def verify(self, callback):
            pass

        def parse_events(self, document):
            import msgspec

            events = self.real.parse_events(document)
            return [msgspec.structs.replace(e, ip="not an address") if e.event_id == "poison" else e for e in events]

    loop = WebhookLoop(world, [account_of("sendgrid")], Careless)
    for event_id in ("one", "poison", "e"):
        loop.put(envelope([good | {"sg_event_id": event_id}]))
    loop.turn()
    assert world.count("email_tracking") == 2
    assert [json.loads(json.loads(bytes(letter["value"]))["body"])[0]["sg_event_id"] for letter in dead_letters(world)] == ["poison"]
    assert len(loop.source.committed) == 3


def test_a_bug_in_one_esps_file_stops_nobody_else(world, expect_errors):
    sent = world.send(provider="postmark")

    class Broken:
        def verify(self, callback):
            raise ZeroDivisionError

    loop = WebhookLoop(
        world, [account_of("sendgrid"), account_of("postmark")], lambda a: Broken() if a.provider == "sendgrid" else listener_of("postmark")
    )
    loop.put(envelope([{}]), "sendgrid")
    genuine_posts, _ = posts("postmark", sent)
    for post in genuine_posts:
        loop.put(value_of(post), "postmark", NOW_S)
    loop.turn()
    assert world.status(sent) == "complained"
    assert [letter["error"] for letter in dead_letters(world)] == ["reading it failed with ZeroDivisionError"]
