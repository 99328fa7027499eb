"""The list of those who get no mail, as an operator handles it."""

import json

import pytest

from tests.workers.event_world import SENT_AT, SENT_MS, event
from tests.workers.ledger_world import job_bytes, letters_of, record_of

pytestmark = pytest.mark.thorough


def sendable(world, address, tenant=0):
    batch = letters_of(record_of(job_bytes(f"to-{address}-{tenant}-{world.count('email_jobs')}", address, tenant=tenant)))
    return len(world.open(world.claim(), batch)) == 1


def audits(world):
    return world.rows("SELECT action, subject, details FROM audit_log ORDER BY id")


def test_an_address_can_be_added_listed_and_removed(world, console):
    assert "nobody is suppressed" in console.type("suppress", "list").text
    assert console.type("suppress", "add", "Ann@A.test").returncode == 0
    assert not sendable(world, "ann@a.test")
    text = console.type("suppress", "list", "--address", "ann@a.test").text
    assert "ann@a.test" in text and "manual" in text and "operator" in text
    assert "removed: manual" in console.type("suppress", "remove", "ann@a.test").text
    assert sendable(world, "ann@a.test")
    assert console.type("suppress", "remove", "ann@a.test").returncode == 1


def test_one_for_a_tenant_or_until_a_time_leaves_the_others_alone(world, console):
    console.type("suppress", "add", "ann@a.test", "--tenant", "5")
    console.type("suppress", "add", "bob@a.test", "--until", "2020-01-01T00:00")
    assert (sendable(world, "ann@a.test", 5), sendable(world, "ann@a.test", 6), sendable(world, "bob@a.test")) == (False, True, True)


def test_without_a_tenant_it_is_for_everybody_and_tenant_0_is_a_tenant_like_any_other(world, console):
    assert "anybody" in console.type("suppress", "add", "ann@a.test").text
    assert "tenant 0" in console.type("suppress", "add", "bob@a.test", "--tenant", "0").text
    assert [sendable(world, "ann@a.test", tenant) for tenant in (0, 5)] == [False, False]
    assert [sendable(world, "bob@a.test", tenant) for tenant in (0, 5)] == [False, True]
    assert "everybody" in console.type("suppress", "list", "--address", "ann@a.test").text


def test_an_entry_for_everybody_is_not_narrowed_or_removed_in_one_tenants_name(world, console):
    console.type("suppress", "add", "ann@a.test")
    refused = console.type("suppress", "add", "ann@a.test", "--tenant", "0", "--until", "2020-01-01T00:00")
    assert (refused.returncode, "for everybody" in refused.text) == (1, True)
    assert console.type("suppress", "remove", "ann@a.test", "--tenant", "0").returncode == 1
    assert not sendable(world, "ann@a.test", 5)
    assert "removed: manual" in console.type("suppress", "remove", "ann@a.test").text


def test_an_entry_of_tenant_0_can_become_one_for_everybody(world, console):
    console.type("suppress", "add", "ann@a.test", "--tenant", "0")
    assert console.type("suppress", "add", "ann@a.test").returncode == 0
    assert not sendable(world, "ann@a.test", 5)


def test_an_incident_is_undone_by_source_and_time_and_nothing_else_is(world, console):
    later = SENT_MS + 3_600_000
    world.apply(*[event("bounced", world.send(f"early{n}@a.test"), bounce="hard") for n in range(3)])
    world.apply(*[event("bounced", world.send(f"late{n}@a.test", at_ms=later), bounce="hard") for n in range(4)])
    world.apply(event("bounced", world.send("other@a.test", account_tenant=3, at_ms=later), bounce="hard"), account_tenant=3)
    since = f"{SENT_AT:%Y-%m-%dT%H}:59"
    assert "sendgrid/0" in console.type("suppress", "list").text
    assert "4 entries" in console.type("suppress", "undo", "--source", "sendgrid/0", "--since", since).text
    left = {row["address"] for row in world.rows("SELECT address FROM suppressions")}
    assert left == {"early0@a.test", "early1@a.test", "early2@a.test", "other@a.test"}
    assert audits(world)[-1]["action"] == "suppress undo"
    assert audits(world)[-1]["details"]["entries"] == 4


def test_what_was_undone_does_not_come_back_with_the_next_events_of_that_hour(world, console):
    world.apply(event("bounced", world.send("ann@a.test"), bounce="hard"))
    console.type("suppress", "undo", "--source", "sendgrid/0")
    world.apply(event("bounced", world.send("bob@a.test"), bounce="hard"), event("delivered", world.send("carl@a.test")))
    assert [row["address"] for row in world.rows("SELECT address FROM suppressions")] == ["bob@a.test"]


def test_the_audit_log_names_addresses_by_hash(world, console):
    console.type("suppress", "add", "ann@a.test")
    console.type("suppress", "remove", "ann@a.test")
    assert [row["action"] for row in audits(world)] == ["suppress add", "suppress remove"]
    assert "ann@a.test" not in json.dumps(audits(world), default=str)
    assert audits(world)[0]["subject"] == audits(world)[1]["subject"]


def test_a_source_or_time_that_is_none_is_refused(console):
    assert console.type("suppress", "undo").returncode == 2
    assert console.type("suppress", "undo", "--source", "x", "--since", "yesterday").returncode == 2
    assert console.type("suppress", "add", "nobody").returncode == 2
