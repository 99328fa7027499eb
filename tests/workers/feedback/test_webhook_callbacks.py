"""Callbacks that must not be believed, and bodies that are none: nothing applied, nobody dies."""

import json
import random

import pytest

from esp import base as esp_base
from mail.ids import new_id, wire_id
from mail.outcome import NoReply
from tests.workers.feedback.test_webhook_orders import listener_of
from tests.workers.genuine import ESPS, NOW_S, STANZAS, account_of, examples_of, signer_of, value_of
from tests.workers.webhook_loop import WebhookLoop, envelope

TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:feedback"


def guarded(provider):
    """An account with everything set that has its callbacks checked."""
    names = [name for name, one in STANZAS[provider]["credentials"].items() if "_WEBHOOK_" in one["setting"]]
    assert names
    return account_of(provider, **{name: TOPIC_ARN if name.endswith("topic_arn") else "nobody knows this" for name in names})


@pytest.fixture
def signer(provider, tmp_path):
    return signer_of(provider, tmp_path)


@pytest.fixture
def stranger(provider, tmp_path):
    return signer_of(provider, tmp_path)


def dead_letters(world):
    return world.rows("SELECT reason, error, value, source, job_id FROM dead_letters ORDER BY source->>'offset'")


# -- forged and unsigned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ESPS)
def test_an_unsigned_callback_is_a_dead_letter_with_its_own_bytes_and_applies_nothing(world, provider):
    sent = world.send(provider=provider, answer="unknown")
    loop = WebhookLoop(world, [guarded(provider)], esp_base.load)
    examples = examples_of(provider)
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


@pytest.mark.parametrize("provider", ESPS)
def test_a_genuine_callback_is_believed_and_a_forged_one_beside_it_is_not(world, provider, signer, stranger):
    sent, other = world.send(provider=provider), world.send("bob@a.test", provider=provider)
    loop = WebhookLoop(world, [signer.account], signer.listener_of)
    forged = stranger.posts(other)
    for post in signer.posts(sent) + forged:
        loop.put(value_of(*post), provider, NOW_S)
    loop.turn()
    assert world.status(sent) == "complained"
    assert world.status(other) == "sent"
    assert world.suppressed("bob@a.test") == []
    assert len(dead_letters(world)) == len(forged)


@pytest.mark.parametrize("provider", ESPS)
def test_a_callback_that_came_without_its_proof_is_refused(world, provider, signer):
    sent = world.send(provider=provider)
    loop = WebhookLoop(world, [signer.account], signer.listener_of)
    posts = signer.posts(sent)
    for post in posts:
        loop.put(value_of(*signer.unproved(*post)), provider, NOW_S)
    loop.turn()
    assert world.status(sent) == "sent"
    assert len(dead_letters(world)) == len(posts)


@pytest.mark.parametrize("provider", ESPS)
def test_where_the_body_is_signed_one_changed_letter_is_refused(world, provider, signer):
    sent, other = world.send("ann@a.test", provider=provider), world.send("ann@b.test", provider=provider)
    loop = WebhookLoop(world, [signer.account], signer.listener_of)
    posts = signer.posts(sent)
    for headers, body in posts:
        for known, put in ((wire_id(sent.attempt_id), wire_id(other.attempt_id)), ("ann@a.test", "ann@b.test")):
            assert known in body
            loop.put(value_of(headers, body.replace(known, put)), provider, NOW_S)
    loop.turn()
    assert len(dead_letters(world)) == (2 * len(posts) if signer.signs else 0)
    assert not signer.signs or {world.status(sent), world.status(other)} == {"sent"}


@pytest.mark.parametrize("provider", ESPS)
def test_a_replayed_callback_changes_nothing_a_second_time(world, provider, signer):
    sent = world.send(provider=provider)
    loop = WebhookLoop(world, [signer.account], signer.listener_of)
    posts = signer.posts(sent)
    for post in posts:
        loop.put(value_of(*post), provider, NOW_S)
    loop.turn()
    before, told = world.final(sent), len(loop.broker.published)
    assert world.status(sent) == "complained"
    for seconds in (1.0, 60.0, 30 * 86_400.0):
        for post in posts:
            loop.put(value_of(*post), provider, NOW_S + seconds)
        loop.turn()
    assert world.final(sent) == before
    assert [entry for entry in loop.broker.published[told:] if entry[0] == "email-events"] == []


@pytest.mark.parametrize("provider", ESPS)
def test_a_tenants_proof_proves_nothing_of_another_tenants(world, provider, signer, stranger):
    """What tenant 8 signs is no news of tenant 7's mail, in whosever name it is posted."""
    theirs = world.send("ann@a.test", tenant=7, provider=provider, account_tenant=7)
    accounts = [account_of(provider, 7, **signer.account.credentials), account_of(provider, 8, **stranger.account.credentials)]
    loop = WebhookLoop(world, accounts, lambda account: (signer if account.tenant == 7 else stranger).listener_of(account))
    posts = stranger.posts(theirs)
    for post in posts:
        for tenant in (7, 8):
            loop.put(value_of(*post, tenant=tenant), provider, NOW_S)
    loop.turn()
    assert world.status(theirs) == "sent"
    assert world.count("suppressions") == 0
    assert len(dead_letters(world)) == len(posts), "in tenant 7's name they are forged; in its own they match nothing"
    for post in signer.posts(theirs):
        loop.put(value_of(*post, tenant=7), provider, NOW_S)
    loop.turn()
    assert world.status(theirs) == "complained"


def test_while_snss_certificate_cannot_be_fetched_its_callbacks_wait_and_no_other_esps_do(world, tmp_path):
    ses, sendgrid = signer_of("ses", tmp_path), signer_of("sendgrid", tmp_path)
    sent, other = world.send("ann@a.test", provider="ses"), world.send("bob@a.test", provider="sendgrid")
    loop = WebhookLoop(
        world, [ses.account, sendgrid.account], lambda account: (ses if account.provider == "ses" else sendgrid).listener_of(account)
    )
    pages, ses.web.pages = ses.web.pages, dict.fromkeys(ses.web.pages, NoReply(False, "no route to host"))
    for provider, signer, about in (("ses", ses, sent), ("sendgrid", sendgrid, other)):
        for post in signer.posts(about):
            loop.put(value_of(*post), provider, NOW_S)
    loop.turn()
    assert (world.status(sent), world.status(other)) == ("sent", "complained")
    assert dead_letters(world) == []
    ses.web.pages = pages
    ses.now_s += 60.0
    loop.now_s += 60.0
    world.run(lambda cursor: cursor.execute("UPDATE postponed_callbacks SET check_at = now()"))
    loop.turn()
    assert world.status(sent) == "complained"
    assert dead_letters(world) == []


@pytest.mark.parametrize("provider", ESPS)
def test_a_tenants_account_speaks_for_its_own_mail_only(world, provider):
    theirs = world.send("ann@a.test", tenant=7, provider=provider, account_tenant=7)
    ours = world.send("bob@a.test", tenant=8, provider=provider, account_tenant=8)
    loop = WebhookLoop(
        world, [account_of(provider), account_of(provider, 7), account_of(provider, 8)], lambda account: listener_of(provider)
    )
    examples = examples_of(provider)
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


@pytest.mark.thorough
def test_ten_thousand_malformed_bodies_kill_nobody_and_each_is_a_dead_letter_or_counted(world):
    dice = random.Random(2026)
    accounts = [account_of(provider) for provider in ESPS]
    loop = WebhookLoop(world, accounts, lambda account: listener_of(account.provider))
    recordings = {p: examples_of(p) for p in ESPS}
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


def test_a_bug_in_one_esps_file_stops_nobody_else(world, expect_errors, tmp_path):
    sent = world.send(provider="postmark")

    class Broken:
        def verify(self, callback):
            raise ZeroDivisionError

    loop = WebhookLoop(
        world, [account_of("sendgrid"), account_of("postmark")], lambda a: Broken() if a.provider == "sendgrid" else listener_of("postmark")
    )
    loop.put(envelope([{}]), "sendgrid")
    for post in signer_of("postmark", tmp_path).posts(sent):
        loop.put(value_of(*post), "postmark", NOW_S)
    loop.turn()
    assert world.status(sent) == "complained"
    assert [letter["error"] for letter in dead_letters(world)] == ["reading it failed with ZeroDivisionError"]
