"""Stop and shout: a lane whose emails fail through our own fault is stopped, loses nothing, and goes on when the cause is gone."""

import pytest

from db import lanes
from mail.account import Account
from mail.record import Record
from tests.workers.ledger_world import job_bytes, record_of
from tests.workers.loop_world import Loop
from workers.steps import lane_watch
from workers.steps.lane_window import SIZE

pytestmark = pytest.mark.thorough

HALF_AND_ONE = SIZE // 2 + 1
STOPPED = "a lane is stopped: it fails through our own fault, and nothing of it is given up meanwhile"


def jobs(prefix, count, **fields):
    return [job_bytes(f"{prefix}{n}", f"{prefix}{n}@example.com", **fields) for n in range(count)]


def edit_template(loop, html, name="welcome-email"):
    """As a program does that knows nothing of updated_at."""
    loop.ledger.database.run(lambda c: c.execute("UPDATE email_templates SET html_content = %s WHERE name = %s", (html, name)))
    forget_templates(loop)


def forget_templates(loop):
    """As if their two seconds were over."""
    loop.delivery._tools.composer._shelf._read_at_s.clear()


def deliver_all(loop, values, lane="normal"):
    """Offer these records; turn until nothing more is taken."""
    loop.source.waiting += [Record(r.value, lane, r.topic, r.partition, r.offset) for r in map(record_of, values)]
    for _ in range(20):
        loop.clock_s += 2
        before = len(loop.source.waiting)
        loop.delivery.turn()
        if len(loop.source.waiting) == before:
            return


def let_time_pass(loop):
    """Probes are due, and so is what waits."""
    loop.ledger.database.run(lambda c: c.execute("UPDATE lane_pauses SET probe_at = now() WHERE probe_at IS NOT NULL"))
    loop.clock_s += 2
    forget_templates(loop)
    loop.delivery.turn()
    for _ in range(20):
        if not loop.lease_due():
            return


def pauses(loop):
    return {pause.lane: pause for pause in loop.ledger.database.run(lanes.find)}


def break_the_template(loop):
    """It has rendered, and now it cannot."""
    loop.deliver(job_bytes("before"))
    assert loop.status("before") == "sent"
    edit_template(loop, "<p>{{ somebody_renamed_this }}</p>")


def test_a_template_broken_by_an_edit_stops_the_lane_and_once_mended_all_is_sent(loop, expect_errors):
    break_the_template(loop)
    deliver_all(loop, jobs("j", 1500))
    assert pauses(loop)["normal"].reason == "template welcome-email: missing-variables"
    assert loop.board.stopped() == ["normal"]
    assert loop.ledger.count("dead_letters") == 0
    assert len(loop.source.waiting) >= 500, "what was not begun stays where it is"
    waiting = loop.ledger.count("email_jobs", "status = 'retrying'")
    assert waiting + len(loop.source.waiting) == 1500
    assert waiting == loop.ledger.count("email_payloads")
    let_time_pass(loop)
    assert "normal" in pauses(loop), "the probe failed too"
    assert loop.ledger.count("dead_letters") == 0
    edit_template(loop, "<p>mended</p>")
    let_time_pass(loop)
    assert pauses(loop) == {}
    assert loop.board.stopped() == []
    deliver_all(loop, [])
    for _ in range(5):
        loop.lease_due()
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 1501
    assert len(loop.wire.accepted) == len(set(loop.wire.accepted)) == 1501
    (shout,) = [record for record in expect_errors if record.getMessage() == STOPPED]
    assert shout.email_worker_fields["lane"] == "normal"
    assert "manage.py lanes resume normal" in shout.email_worker_fields["way_out"]


def test_half_of_the_last_thousand_is_not_yet_more_than_half(loop, expect_errors):
    break_the_template(loop)
    deliver_all(
        loop, jobs("good", 499, type="password-reset", data={"resetLink": "https://example.com/r", "name": "A", "expiresIn": "1 h"})
    )
    loop.delivery._batch_size = HALF_AND_ONE - 1
    deliver_all(loop, jobs("j", HALF_AND_ONE - 1))
    assert pauses(loop) == {}
    deliver_all(loop, jobs("k", 1))
    assert list(pauses(loop)) == ["normal"]


def test_a_template_that_was_deleted_stops_the_lane_and_one_that_never_was_does_not(loop, expect_errors):
    loop.deliver(job_bytes("before"))
    deliver_all(loop, jobs("typo", 600, type="email", template="welcom-email"))
    assert (pauses(loop), loop.ledger.count("dead_letters", "reason = 'unknown-template'")) == ({}, 600)
    loop.ledger.database.run(lambda c: c.execute("DELETE FROM email_templates WHERE name = 'welcome-email'"))
    forget_templates(loop)
    deliver_all(loop, jobs("j", 1000))
    assert pauses(loop)["normal"].reason == "template welcome-email: unknown-template"
    assert loop.ledger.count("dead_letters") == 600


def test_input_that_is_wrong_never_stops_anything_however_much_of_it_there_is(loop):
    loop.deliver(job_bytes("before", type="payment-failed", data={"amount": 1, "bookingId": "b", "reason": "r", "eventName": "e"}))
    values = [b"\xff", b"{}", job_bytes("x", "no address")] * 500
    values += jobs("typo", 600, type="booking-confirmation", data={"bookingid": "lower case"})
    deliver_all(loop, values)
    assert pauses(loop) == {}
    assert loop.ledger.count("dead_letters") == 2100
    assert loop.source.waiting == []


def test_a_producers_typo_after_an_edit_that_works_waits_once_and_is_a_dead_letter_then(loop):
    loop.deliver(job_bytes("before"))
    edit_template(loop, "<p>{{ n }}</p>")
    loop.deliver(job_bytes("typo", data={"m": 1}))
    assert (loop.status("typo"), loop.ledger.count("dead_letters")) == ("retrying", 0)
    loop.deliver(job_bytes("good"), job_bytes("typo2", data={"m": 1}))
    assert (loop.status("good"), loop.status("typo2")) == ("sent", "dead")
    loop.lease_due()
    assert loop.status("typo") == "dead"
    assert loop.ledger.count("dead_letters", "reason = 'missing-variables'") == 2


def test_other_lanes_go_on(loop, expect_errors):
    break_the_template(loop)
    deliver_all(loop, jobs("j", 1000), lane="bulk")
    assert list(pauses(loop)) == ["bulk"]
    deliver_all(loop, jobs("other", 20, type="system-update", data={"title": "t", "message": "m"}), lane="high")
    assert loop.source.committed[-20:]
    assert all(record.lane == "high" for record in loop.source.committed[-20:])


def test_when_every_esp_refuses_our_credentials_the_lane_stops_at_once_and_goes_on_when_they_are_mended(loop, expect_errors):
    loop.wire.behave = lambda r: ["misconfigured"] * len(r.messages)
    deliver_all(loop, jobs("j", 3))
    deliver_all(loop, jobs("k", 50))
    assert pauses(loop)["normal"].reason == lane_watch.ALL_MISCONFIGURED
    assert len(loop.source.waiting) == 50
    assert loop.ledger.count("dead_letters") == 0
    asked = len(loop.wire.requests)
    let_time_pass(loop)
    assert "normal" in pauses(loop)
    assert 1 <= len(loop.wire.requests) - asked <= 2, "one email was tried"
    only_one_is_mended = lambda r: ["accepted" if r.url.endswith("postmark") else "misconfigured"] * len(r.messages)  # noqa: E731
    loop.wire.behave = only_one_is_mended
    let_time_pass(loop)
    assert pauses(loop) == {}
    deliver_all(loop, [])
    loop.lease_due()
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 53
    assert len(expect_errors) == 1


def test_one_healthy_esp_is_enough_to_go_on(loop):
    loop.wire.behave = lambda r: ["accepted" if r.url.endswith("postmark") else "misconfigured"] * len(r.messages)
    deliver_all(loop, jobs("j", 1200))
    assert pauses(loop) == {}
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 1200


def test_an_outage_of_every_esp_is_not_our_fault(loop):
    loop.wire.behave = lambda r: ["unavailable"] * len(r.messages)
    deliver_all(loop, jobs("j", 1200))
    assert pauses(loop) == {}


def test_a_tenant_with_wrong_credentials_stops_nobody_else(database, tmp_path):
    loop = Loop(database, tmp_path, providers=("postmark",))
    loop.accounts.append(Account("sendgrid", 42, "http://sendgrid", {}))
    loop.delivery._tools.dispatcher._router = loop._router()
    loop.esps["sendgrid"] = type(loop.esps["postmark"])(loop.accounts[-1])
    loop.wire.behave = lambda r: ["accepted" if r.url.endswith("postmark") else "misconfigured"] * len(r.messages)
    deliver_all(loop, jobs("j", 1000, tenant=42))
    assert pauses(loop) == {}
    assert loop.ledger.count("email_jobs", "status = 'retrying'") == 1000
    loop.flight_log.close()
    loop.ledger.database.close()


def test_deaths_of_workers_stop_the_lane_of_what_they_had_in_hand(loop, expect_errors):
    for _ in range(HALF_AND_ONE - 1):
        loop.lanes.note_death("email-jobs/0/1", "normal")
    assert pauses(loop) == {}
    loop.lanes.note_death("email-jobs/0/1", "normal")
    assert pauses(loop)["normal"].reason == lane_watch.DEATHS
    (record,) = deliver_one(loop)
    assert record in loop.source.waiting
    let_time_pass(loop)
    assert (pauses(loop), loop.source.waiting) == ({}, [])
    assert loop.status("j1") == "sent"


def deliver_one(loop):
    record = record_of(job_bytes("j1"))
    loop.source.waiting.append(record)
    loop.clock_s += 2
    loop.delivery.turn()
    return [record]


def test_the_death_over_a_row_counts_for_the_lane_of_the_row(loop, expect_errors):
    loop.wire.behave = lambda r: ["unavailable"] * len(r.messages)
    loop.deliver(job_bytes("j1", priority="low"))
    for _ in range(HALF_AND_ONE):
        loop.lanes.note_death(f"row:{loop.ledger.job('j1')['id']}", None)
    assert list(pauses(loop)) == ["bulk"]
    loop.lanes.note_death("row:01234567-89ab-7def-8123-456789abcdef", None)


def test_a_probe_over_which_workers_died_thrice_is_tried_and_not_set_aside(loop):
    loop.ledger.database.run(lambda c: lanes.pause(c, "normal", lanes.WATCH, "test", [], 0.0))
    record = record_of(job_bytes("j1"))
    loop.ledger.database.run(lambda c: c.execute("INSERT INTO crash_suspects (record, deaths) VALUES (%s, 3)", (record.name,)))
    loop.delivery._tools.quarantine.groups([record_of(job_bytes("x"))])
    loop.source.waiting.append(record)
    loop.delivery.turn()
    assert (loop.status("j1"), loop.ledger.count("dead_letters"), pauses(loop)) == ("sent", 0, {})


def test_an_operators_word_stands_it_is_neither_probed_nor_overruled(loop):
    loop.ledger.database.run(lambda c: lanes.pause(c, "normal", "ada", "for the migration"))
    deliver_all(loop, jobs("j", 5))
    let_time_pass(loop)
    assert len(loop.source.waiting) == 5
    assert not loop.ledger.database.run(lambda c: lanes.resume(c, "normal", lanes.WATCH))
    assert not loop.ledger.database.run(lambda c: lanes.pause(c, "normal", lanes.WATCH, "something", [], 5.0))
    assert pauses(loop)["normal"].paused_by == "ada"
    assert loop.ledger.database.run(lambda c: lanes.resume(c, "normal"))
    deliver_all(loop, [])
    assert loop.ledger.count("email_jobs", "status = 'sent'") == 5


def test_a_pause_by_the_program_becomes_an_operators(loop):
    loop.ledger.database.run(lambda c: lanes.pause(c, "normal", lanes.WATCH, "something", [], 0.0))
    assert loop.ledger.database.run(lambda c: lanes.pause(c, "normal", "ada", "let me look"))
    loop.source.waiting.append(record_of(job_bytes("j1")))
    let_time_pass(loop)
    assert (pauses(loop)["normal"].paused_by, len(loop.source.waiting)) == ("ada", 1)


def test_only_one_worker_of_all_tries_an_email(loop, database, tmp_path):
    loop.ledger.database.run(lambda c: lanes.pause(c, "normal", lanes.WATCH, "test", [], 0.0))
    loop.clock_s += 2
    loop.lanes.refresh()
    assert loop.lanes.take_probe() is not None
    assert loop.lanes.take_probe() is None
