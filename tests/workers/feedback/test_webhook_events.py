"""What events do to attempts, jobs, counters and suppressions, on a real Postgres."""

from datetime import timedelta

import pytest

from tests.workers.event_world import SENT_AT, event
from tests.workers.ledger_world import BOOT, job_bytes, letters_of, record_of
from workers.feedback.event_books import EventBooks
from workers.flight import settlement

# -- one attempt -------------------------------------------------------------------------------------------------------


def test_a_delivery_and_an_open_move_the_job_and_are_counted_and_told_once(world):
    sent = world.send()
    delivered, opened = event("delivered", sent), event("opened", sent, after_s=60)
    for _ in range(2):
        world.apply(delivered, opened, delivered)
    assert world.status(sent) == "opened"
    attempt = world.attempt(sent)
    assert (attempt["delivered_at"], attempt["opened_first_at"]) == (SENT_AT + timedelta(seconds=10), SENT_AT + timedelta(seconds=60))
    assert world.counters(sent) == {"delivered": 1, "opened": 1}
    assert [(told["event"], told["jobId"], told["provider"], told["recipient"]) for told in world.told()] == [
        ("delivered", sent.job_id, "sendgrid", "ann@a.test"),
        ("opened", sent.job_id, "sendgrid", "ann@a.test"),
    ]
    assert world.count("email_tracking") == 2


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (("processed",), "sent"),
        (("subscribed",), "sent"),
        (("deferred", "delivered"), "delivered"),
        (("delivered", "deferred"), "delivered"),
        (("delivered", "bounced"), "bounced"),
        (("bounced", "delivered"), "bounced"),
        (("dropped", "bounced"), "bounced"),
        (("opened", "bounced", "delivered"), "opened"),
        (("clicked", "opened"), "clicked"),
        (("unsubscribed", "clicked"), "unsubscribed"),
        (("complained", "unsubscribed", "delivered"), "complained"),
    ],
)
def test_the_status_goes_by_rank_and_never_backwards(world, kinds, status):
    sent = world.send()
    for kind in kinds:
        world.apply(event(kind, sent, bounce="soft" if kind == "bounced" else ""))
    assert world.status(sent) == status


def test_first_columns_hold_the_earliest_event_of_their_kind(world):
    sent = world.send()
    for after_s in (30, 10, 20):
        world.apply(event("delivered", sent, after_s=after_s), event("clicked", sent, after_s=after_s + 100))
    attempt = world.attempt(sent)
    assert attempt["delivered_at"] == SENT_AT + timedelta(seconds=10)
    assert attempt["clicked_first_at"] == SENT_AT + timedelta(seconds=110)
    assert world.counters(sent) == {"delivered": 1, "clicked": 1}


def test_a_processed_event_of_a_mail_on_record_is_a_tracking_row_only(world):
    sent = world.send()
    before = world.attempt(sent)
    world.apply(event("processed", sent))
    assert world.attempt(sent) == before
    assert world.count("email_tracking") == 1
    assert world.told() == []


def test_events_of_cc_and_bcc_recipients_do_not_change_the_job(world):
    sent = world.send("ann@a.test")
    world.apply(event("bounced", sent, recipient="cc@a.test", bounce="hard"), event("complained", sent, recipient="bcc@a.test"))
    assert world.status(sent) == "sent"
    assert world.counters(sent) == {}
    assert world.suppressed("cc@a.test") == world.suppressed("bcc@a.test") == world.suppressed("ann@a.test") == []
    assert world.count("email_tracking", f"job_id = '{sent.row_id}'") == 2


def test_an_event_of_a_cc_recipient_ends_a_doubt_and_says_nothing_else(world):
    """The mail was taken: a resend would reach both of them twice."""
    sent = world.send(answer="unknown")
    world.apply(event("complained", sent, recipient="cc@a.test"), event("bounced", sent, recipient="bcc@a.test", bounce="hard"))
    assert (world.status(sent), world.attempt(sent)["state"], world.count("uncertain_attempts")) == ("sent", "accepted", 0)
    assert world.counters(sent) == {"sent": 1}
    assert (world.suppressed("cc@a.test"), world.suppressed("bcc@a.test"), world.suppressed()) == ([], [], [])
    assert [told["event"] for told in world.told()] == ["sent"]
    refused = world.send("bob@a.test", answer="rejected")
    world.apply(event("delivered", refused, recipient="cc@a.test"))
    assert world.status(refused) == "dead", "a copy went out all the same"


def test_the_recipients_address_is_compared_without_regard_to_case(world):
    sent = world.send("Ann@A.test")
    world.apply(event("delivered", sent, recipient="ann@a.TEST"))
    assert world.status(sent) == "delivered"


def test_a_staging_redirect_counts_as_the_recipient(world):
    sent = world.send("ann@a.test")
    world.apply(event("delivered", sent, recipient="stage@a.test"), books=EventBooks("p", world.books._topics, "Stage@a.test"))
    assert world.status(sent) == "delivered"


# -- several attempts --------------------------------------------------------------------------------------------------


def test_a_late_bounce_of_the_first_attempt_does_not_spoil_the_delivery_of_the_second(world):
    for order in ((0, 1), (1, 0)):
        sent = world.send(answer="throttled")
        world.try_again(sent)
        events = (event("bounced", sent, attempt=0, bounce="soft"), event("delivered", sent, attempt=1, provider="postmark"))
        for number in order:
            world.apply(events[number])
        assert world.status(sent) == "delivered"


def test_a_bounce_of_the_first_attempt_leaves_a_second_one_alone_that_was_taken(world):
    sent = world.send(answer="throttled")
    world.try_again(sent)
    world.apply(event("bounced", sent, attempt=0, bounce="soft"))
    assert world.status(sent) == "sent"


def test_what_arrived_by_the_first_attempt_has_arrived_though_the_second_bounces(world):
    sent = world.send(answer="unknown")
    world.run(lambda cursor: cursor.execute("UPDATE email_jobs SET status = 'retrying'"))
    world.try_again(sent)
    world.apply(event("bounced", sent, attempt=1, provider="postmark", bounce="block"))
    world.apply(event("delivered", sent, attempt=0))
    assert world.status(sent) == "delivered"


@pytest.mark.expect_errors
def test_a_job_of_which_events_confirm_two_attempts_is_counted_once(world):
    sent = world.send(answer="throttled")
    world.try_again(sent)
    findings = [
        world.apply(event("delivered", sent, attempt=1, provider="postmark")),
        world.apply(event("delivered", sent, attempt=0)),
        world.apply(event("opened", sent, attempt=0, after_s=50), event("opened", sent, attempt=1, provider="postmark", after_s=90)),
    ]
    assert [dict(found.duplicates) for found in findings] == [{}, {"sendgrid": 1}, {}]


# -- evidence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "was"), [("throttled", "retrying"), ("unknown", "uncertain"), ("rejected", "dead")])
@pytest.mark.parametrize(
    ("kind", "status"), [("delivered", "delivered"), ("bounced", "bounced"), ("processed", "sent"), ("deferred", "deferred")]
)
def test_an_event_of_one_of_its_attempts_wins_over_what_we_thought(world, answer, was, kind, status):
    sent = world.send(answer=answer)
    assert world.status(sent) == was
    payload = "INSERT INTO email_payloads (id, body_hash) VALUES (%(id)s, 'x')"
    world.run(lambda cursor: cursor.execute(payload, {"id": sent.row_id}))
    world.apply(event(kind, sent, bounce="soft" if kind == "bounced" else "", message_id="from-event"))
    job = world.job(sent.job_id)
    assert (job["status"], job["next_attempt_at"], job["message_id"], job["error"]) == (status, None, "from-event", None)
    assert world.attempt(sent)["state"] == "accepted"
    assert world.count("uncertain_attempts") == world.count("email_payloads") == 0
    assert world.counters(sent)["sent"] == 1
    assert world.told()[0]["event"] == "sent"
    assert world.told()[0]["eventId"] == f"{sent.attempt_id}:sent"


def test_a_waiting_retry_is_cancelled_by_evidence_and_nobody_can_take_the_job_any_more(world):
    sent = world.send(answer="throttled")
    assert world.job(sent.job_id)["next_attempt_at"] is not None
    world.apply(event("delivered", sent))
    with pytest.raises(AssertionError):
        world.try_again(sent)


def test_an_event_before_our_own_record_of_the_send_counts_once_and_the_record_adds_only_its_id(world):
    sent = world.send(answer="open")
    world.apply(event("delivered", sent))
    assert (world.status(sent), world.attempt(sent)["state"]) == ("delivered", "accepted")
    assert world.answer(sent, "accepted", "mid-late") == set()
    assert (world.status(sent), world.job(sent.job_id)["message_id"]) == ("delivered", "mid-late")
    assert world.attempt(sent)["message_id"] == "mid-late"
    assert world.attempt(sent)["answered_at"] is not None
    assert world.counters(sent) == {"sent": 1, "delivered": 1}


@pytest.mark.parametrize("answer", ["unknown", "rejected", "throttled"])
def test_a_contrary_answer_that_is_recorded_after_the_evidence_changes_nothing(world, answer):
    sent = world.send(answer="open")
    world.apply(event("delivered", sent))
    world.answer(sent, answer)
    job = world.job(sent.job_id)
    assert (job["status"], job["next_attempt_at"], job["error"]) == ("delivered", None, None)
    assert world.attempt(sent)["state"] == "accepted"
    assert world.count("uncertain_attempts") == 0


def test_a_worker_that_died_after_the_evidence_leaves_no_doubt(world):
    slot = world.claim()
    batch = letters_of(record_of(job_bytes("one")), record_of(job_bytes("two")))
    world.open(slot, batch)
    first = batch.letters[0]
    known = event("delivered", provider="postmark", recipient="a@example.com", attempt_id=first.attempt_id)
    world.apply(known)
    assert settlement.doubt_all(world.database, "host", 0, BOOT, 1, "email-events") == 1
    assert (world.job("one")["status"], world.job("two")["status"]) == ("delivered", "uncertain")
    assert [row["job_id"] for row in world.rows("SELECT job_id FROM uncertain_attempts")] == [batch.letters[1].row_id]


# -- accounts ----------------------------------------------------------------------------------------------------------


def test_an_event_of_another_tenants_account_changes_nothing(world):
    sent = world.send(tenant=7, account_tenant=7, answer="unknown")
    before = world.final(sent)[:2]
    world.apply(event("delivered", sent), event("complained", sent), event("bounced", sent, bounce="hard"), account_tenant=8)
    assert world.final(sent)[:2] == before
    assert world.suppressed() == []
    assert world.told() == []
    assert world.count("email_tracking", "job_id IS NULL AND attempt_id IS NULL") == 3


def test_another_esp_cannot_speak_for_an_attempt(world):
    sent = world.send(provider="postmark")
    world.apply(event("delivered", sent, provider="sendgrid"))
    assert world.status(sent) == "sent"


def test_another_account_cannot_be_found_by_message_id_or_recipient_either(world):
    sent = world.send(tenant=7, account_tenant=7)
    world.apply(event("delivered", message_id="mid"), event("opened", after_s=50), account_tenant=8)
    assert world.status(sent) == "sent"


# -- machine opens -----------------------------------------------------------------------------------------------------


def test_machine_opens_are_told_apart_in_the_counters_and_still_move_the_status(world):
    sent = world.send()
    world.apply(event("delivered", sent), event("opened", sent, after_s=100, user_agent="Mozilla/5.0"))
    assert world.status(sent) == "opened"
    assert world.counters(sent) == {"delivered": 1, "opened_machine": 1}
    world.apply(event("opened", sent, after_s=200, user_agent="Thunderbird"))
    assert world.counters(sent) == {"delivered": 1, "opened_machine": 1, "opened": 1}
    assert world.attempt(sent)["opened_first_at"] == SENT_AT + timedelta(seconds=200)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_an_open_at_the_moment_of_delivery_is_a_machines_also_when_the_delivery_is_told_later(world, order):
    sent = world.send()
    events = (event("delivered", sent, after_s=10), event("opened", sent, after_s=11), event("opened", sent, after_s=300))
    for number in order:
        world.apply(events[number])
    assert world.counters(sent) == {"delivered": 1, "opened": 1, "opened_machine": 1}
    assert world.attempt(sent)["opened_first_at"] == SENT_AT + timedelta(seconds=300)


def test_a_click_by_a_link_checker_is_not_counted(world):
    sent = world.send()
    world.apply(event("clicked", sent, after_s=10))
    assert world.counters(sent) == {"clicked": 1}
    world.apply(event("delivered", sent, after_s=9))
    assert world.counters(sent) == {"delivered": 1}
    assert world.status(sent) == "clicked"


# -- times and tracking ------------------------------------------------------------------------------------------------


def test_tracking_rows_hold_what_is_known_of_the_event(world):
    sent = world.send()
    fields = {"ip": "192.0.2.7", "user_agent": "Thunderbird", "raw": {"event": "open", "x": 1}, "message_id": "mid"}
    world.apply(event("opened", sent, after_s=60, **fields))
    (row,) = world.rows("SELECT * FROM email_tracking")
    assert (row["job_id"], row["attempt_id"], row["message_id"]) == (sent.row_id, sent.attempt_id, "mid")
    assert (row["provider"], row["event_type"], row["event_data"]) == ("sendgrid", "opened", {"event": "open", "x": 1})
    assert (row["ip_address"], row["user_agent"], row["occurred_at"]) == ("192.0.2.7", "Thunderbird", SENT_AT + timedelta(seconds=60))


@pytest.mark.parametrize("after_s", [-86_400.0, 5e8, -1e9])
def test_absurd_times_are_clamped_by_the_attempts_own_and_a_repeat_meets_its_row(world, after_s):
    sent = world.send()
    one = event("delivered", sent, after_s=after_s)
    world.apply(one)
    world.apply(one)
    (row,) = world.rows("SELECT occurred_at FROM email_tracking")
    assert SENT_AT <= row["occurred_at"] <= SENT_AT + timedelta(days=400)
