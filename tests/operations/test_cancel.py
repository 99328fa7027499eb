"""`manage.py cancel`: what waits or has not come is stopped, and the operator is told what could not be."""

from datetime import UTC, datetime, timedelta

import pytest

from mail.outcome import NoReply
from tests.workers.ledger_world import job_bytes

pytestmark = pytest.mark.thorough


def test_each_job_is_answered_for_and_only_what_could_not_be_stopped_is_a_failure(loop, console):
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    loop.deliver(job_bytes("later", scheduledAt=later), job_bytes("gone", "gone@example.com"))
    loop.wire.behave = lambda request: NoReply(True, "no answer")
    loop.deliver(job_bytes("doubted", "d@example.com"))
    loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
    done = console.type("cancel", "later", "gone", "doubted", "not-yet", "later")
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.text.splitlines()}
    assert "cancelled" in lines["later"] and "cancelled" in lines["not-yet"]
    assert "too late" in lines["gone"] and "sent" in lines["gone"]
    assert "noted" in lines["doubted"] and "no attempt will follow" in lines["doubted"]
    again = console.call("cancel", "later", "not-yet")
    assert (again.returncode, again.text.count("again")) == (0, 2)
    assert "1 emails" in console.call("uncertain", "resend", "--all").text
    loop.deliver(job_bytes("not-yet"))
    loop.lease_due()
    assert [loop.status(j) for j in ("later", "gone", "doubted", "not-yet")] == ["cancelled", "sent", "cancelled", "cancelled"]
    assert [address for _, address in loop.wire.accepted] == ["gone@example.com"]


def test_it_is_told_once_and_on_the_audit_log(loop, console):
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    loop.deliver(job_bytes("later", tenant=7, scheduledAt=later))
    console.call("cancel", "later", "--tenant", "7")
    console.call("cancel", "later", "--tenant", "7")
    told = loop.ledger.database.read("SELECT unnest(values) FROM outbox WHERE topic = 'email-events'")
    assert [value for (value,) in told if '"event":"cancelled"' in value and '"tenant":7' in value] == [value for (value,) in told]
    assert len(told) == 1
    assert loop.ledger.count("audit_log", "action = 'cancel'") == 2
    assert loop.ledger.job("later") is None, "another tenant's id is another id"


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb"])
def test_what_is_no_job_id_is_refused_with_the_fix(console, name):
    done = console.call("cancel", "good", name)
    assert done.returncode == 2
    assert "1 to 100 printable characters" in done.text
