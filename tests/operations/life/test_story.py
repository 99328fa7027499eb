"""What an operator reads of an email's life: one screen as it looks, and every status with its reason, its future and its commands."""

import json

import pytest

from db.lanes import Pause
from db.life import REPORTS_MOST, Owner
from mail.event import STATUS_RANK
from operations.life import story
from operations.life.prospects import prospect
from tests.operations.life.lives import (
    CAME,
    LETTER_ID,
    at,
    attempt,
    attempt_id,
    doubt,
    entry,
    letter,
    life,
    row,
    stop,
    told,
)

FAILED_OVER = [
    attempt(1, "not_taken", error="HTTP 429 too many requests", weights_id=12, weights={"sendgrid": 400, "postmark": 600}),
    attempt(2, provider="postmark", opened=0.12, answered=0.3, reported="bounced", bounce_class="hard", weights_id=12,
            weights={"sendgrid": 400, "postmark": 600}),
]  # fmt: skip
BOUNCED = told("bounced", 2, 2, "postmark", bounce="hard", smtp_code="5.1.1", reason="smtp; the mailbox of ada@example.com does not exist")
SCREEN = """\
order-1742 of tenant 7 is bounced: reported by postmark, hard bounce

recipient  a…@example.com
email      welcome-email, transactional; priority normal, lane normal
came by    not on record any more (kept while an email waits, and with dead letters)
routed by  weights 12, the newest before attempt 2: postmark 60 %, sendgrid 40 %; breakers and pins are not on record
row        01a22198-edfa-7000-8000-000000000001

when (UTC)               what happened
-----------------------  -------------
2026-11-28 10:00:00.250  it came in
2026-11-28 10:00:00.250  attempt 1: through sendgrid/0 (mailbox: gmail), by host/0/1; id
                         01a22198-edfa-7000-8000-0000000000a1, at the ESP 01M8GSHVFTE008000000000051
2026-11-28 10:00:00.350  attempt 1: not taken, on record after 0.10 s: HTTP 429 too many requests; then attempt 2, 0.02
                         s later, by failover to postmark
2026-11-28 10:00:00.370  attempt 2: through postmark/0 (mailbox: gmail), by host/0/1; id
                         01a22198-edfa-7000-8000-0000000000a2, at the ESP 01M8GSHVFTE008000000000052
2026-11-28 10:00:00.550  attempt 2: postmark took it, on record after 0.18 s; its message id: m-2
2026-11-28 10:00:00      postmark: it is on its way
2026-11-28 10:00:02.250  postmark: it bounced (hard): SMTP 5.1.1, smtp; the mailbox of <address> does not exist
2026-11-28 10:00:02.250  its recipient came onto the suppression list: hard-bounce by postmark/0, stops all mail of its
                         tenant

next:  nothing is left to send; later reports may still change it
       python manage.py suppress remove ADDRESS --tenant 7
"""


def screen(life_, told_=(), is_open=False):
    return "\n".join(story.lines(story.tell(life_, list(told_), is_open))) + "\n"


def happened(life_, told_=()):
    return [moment.words for moment in story.tell(life_, list(told_), True).moments]


def failed_over():
    on_its_way = told("processed", 0, 2, "postmark", moment=CAME.replace(microsecond=0))
    return life(row("bounced", attempt_id=attempt_id(2)), FAILED_OVER, stops=[stop(source="postmark/0")]), [BOUNCED, on_its_way]


def test_the_screen_looks_like_this():
    assert screen(*failed_over()) == SCREEN


def test_addresses_names_and_subjects_are_only_shown_to_who_asks_for_them():
    concealed, in_full = story.tell(*failed_over(), False), story.tell(*failed_over(), True)
    for private in ("ada@example.com", "Ada Lovelace", "Welcome, Ada"):
        assert private not in story.spell_json(concealed) and private not in screen(*failed_over())
        assert private in story.spell_json(in_full) and private in screen(*failed_over(), True)
    assert "suppress remove ada@example.com --tenant 7" in screen(*failed_over(), True)


def test_a_program_reads_the_same():
    read = json.loads(story.spell_json(story.tell(*failed_over(), False)))
    assert read["records"]["row"]["status"] == "bounced"
    assert read["moments"][-1]["words"] in " ".join(SCREEN.split()) and read["next"] in SCREEN and read["commands"][0] in SCREEN
    assert read["records"]["reports"][0]["smtp_code"] == "5.1.1" and read["records"]["reports"][0]["data"] is None
    assert len(read["records"]["attempts"]) == 2


STATUSES = {
    "pending": (row("pending", next_attempt_at=at(50)), "it waits to be sent", "it is due since", "cancel order-1742 --tenant 7"),
    "pending without bytes": (row("pending"), "it waits", "its record comes again from Kafka", "cancel"),
    "pending in a hand": (row("pending", next_attempt_at=at(360), leased_by="host/1"), "it waits", "host/1 has it in hand", "cancel"),
    "scheduled": (row("scheduled", scheduled_at=at(7260), next_attempt_at=at(7260)), "12:01:00", "in 2 hours", "cancel"),
    "retrying": (row("retrying", error="HTTP 429", next_attempt_at=at(90), waits=2), "put off: HTTP 429", "in 30 seconds", "cancel"),
    "retrying, to expire": (row("retrying", next_attempt_at=at(90), expires_at=at(99)), "put off", "10:01:39.250 it expires", "cancel"),
    "retrying, refused": (row("retrying", next_attempt_at=at(90), retry_count=2), "put off", "2 of 3 refusals that count", "cancel"),
    "retrying, unwanted": (row("retrying", next_attempt_at=at(90), cancel_asked_at=at(5)), "put off", "it ends cancelled", ""),
    "resent": (row("pending", next_attempt_at=at(70), only_provider="ses"), "it waits", "through ses only", "cancel"),
    "suppressed": (row("suppressed", error="the recipient is suppressed: complaint"), "complaint", "taken off since", ""),
    "expired": (row("expired", expires_at=at(5)), "it could not be sent before", "under a new id", ""),
    "cancelled": (row("cancelled", error="cancelled by its producer"), "by its producer", "under a new id", ""),
    "claimed": (row("cancelled", type="cancel", recipient=""), "a cancel came before it", "under a new id", ""),
    "dead, its letter gone": (row("dead", error="no such template"), "no such template", "its dead letter is gone", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
def test_each_status_has_its_reason_its_future_and_its_commands(name):
    row_, why, following, command = STATUSES[name]
    told_ = prospect(life(row_))
    assert why in told_.why and following in told_.next
    assert command in " ".join(told_.commands) and bool(command) == bool(told_.commands)


def test_no_status_is_without_words():
    named = {"pending", "scheduled", "sending", "retrying", "uncertain", "suppressed", "dead", "expired", "cancelled"}
    for status in named | set(STATUS_RANK):
        assert all(prospect(life(row(status), [attempt()]))[:2])


def test_a_stopped_lane_and_a_suppression_are_said_of_what_waits():
    waiting = row("retrying", next_attempt_at=at(90))
    stopped = prospect(life(waiting, pause=Pause("normal", at(20), "grace", "incident 7")))
    assert "by grace: incident 7" in stopped.next and stopped.commands[0].endswith("lanes resume normal")
    listed = prospect(life(waiting, stops=[stop("unsubscribe")]))
    assert "suppressed by now (unsubscribe by sendgrid/0, stops marketing mail)" in listed.next


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (Owner(1, at(90)), "waits for the answer"),
        (Owner(2, at(90)), "is dead: incarnation 2"),
        (Owner(1, at(30)), "has lost its lease"),
        (None, "given up its place"),
    ],
)
def test_of_an_email_under_way_it_is_said_whose_turn_it_is(owner, words):
    under_way = prospect(life(row("sending"), [attempt(1, "open", answered=None)], owner=owner))
    assert "attempt 1 is under way at sendgrid" in under_way.why and words in under_way.next


def test_a_doubt_names_what_it_waits_for_where_to_look_and_all_three_ways_out():
    held = prospect(life(row("uncertain"), [attempt(1, "uncertain", error="read timed out")], doubts=[doubt("policy")]))
    assert held.why == "nobody knows whether sendgrid took attempt 1: read timed out"
    assert "UNCERTAIN_POLICY" in held.next and "01M8GSHVFTE008000000000051" in held.next
    assert [command.split()[3] for command in held.commands] == ["confirm", "resend", "abandon"]
    assert {command.split()[4] for command in held.commands} == {attempt_id(1)}


def test_a_dead_letter_names_its_reason_and_how_to_replay_it_unless_it_is_settled():
    dead = prospect(life(row("dead"), letters=[letter()]))
    assert dead.why == "rejected: said so" and dead.commands[1].endswith(f"dlq replay {LETTER_ID}")
    settled = prospect(life(row("dead"), letters=[letter(settled_at=at(30))]))
    assert "was settled at" in settled.next and "replay" not in " ".join(settled.commands)
    assert "even a replay would end it cancelled" in prospect(life(row("dead", cancel_asked_at=at(3)), letters=[letter()])).next


ANSWERS = {
    "taken": (attempt(), "sendgrid took it, on record after 0.10 s; its message id: m-1"),
    "said to be taken": (attempt(error="confirmed by an operator"), "counts as taken: confirmed by an operator"),
    "refused": (attempt(1, "rejected", error="550 no such user"), "refused it for good, on record after 0.10 s: 550"),
    "not taken": (attempt(1, "not_taken", error="HTTP 503"), "not taken, on record after 0.10 s: HTTP 503"),
    "released": (
        attempt(1, "not_taken"),
        "not taken, on record after 0.10 s: no words are on record, as where its worker died",
    ),
    "in doubt": (attempt(1, "uncertain", error="read timed out"), "in doubt, sendgrid may have taken it: read timed out"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_is_told_in_words(name):
    one, words = ANSWERS[name]
    assert words in happened(life(tries=[one]))[-1]


def test_a_report_that_ended_a_doubt_is_told_as_its_end():
    doubted = attempt(error="read timed out", reported="delivered")
    assert happened(life(tries=[doubted]), [told("delivered", 5)])[-3:] == [
        "attempt 1: read timed out",
        "sendgrid: it was delivered",
        "attempt 1: that proves that sendgrid took it; its message id: m-1",
    ]
    unanswered = attempt(answered=None, reported="delivered", message_id=None)
    assert happened(life(tries=[unanswered]), [told("delivered", 5)])[-1] == "attempt 1: that proves that sendgrid took it"


def test_looks_are_told_apart_and_repeats_in_one_line():
    looks = [
        told("delivered", 5),
        told("opened", 6),
        *(told("opened", 30 + n) for n in range(3)),
        told("clicked", 40, url="https://x.test/"),
    ]
    assert happened(life(tries=[attempt()]), looks)[-4:] == [
        "sendgrid: it was delivered",
        "sendgrid: it was opened by a machine",  # nobody is that fast
        "sendgrid: it was opened by a person (3 times, until 2026-11-28 10:00:32.250)",
        "sendgrid: it was clicked by a person: https://x.test/",
    ]
    assert "by a machine" in happened(life(tries=[attempt()]), [told("opened", 90, is_machine=True)])[-1]


def test_many_reports_and_many_repeats_still_fit_on_the_screen():
    clicked = [told("clicked", 30 + n, url=f"https://x.test/{n}") for n in range(REPORTS_MOST)]
    assert "there may be more" in happened(life(tries=[attempt()]), clicked)[-1]
    reused = [letter("id-reused", 10 + n, row_id=None) for n in range(40)]
    words = happened(life(letters=reused))
    assert len(words) == 5 and words[-1] == f"… and 37 times more by then, last as dead letter {LETTER_ID}"


def test_what_cannot_be_read_any_more_is_still_told_by_its_kind():
    unread = told("bounced", 5)._replace(event=None)
    assert happened(life(tries=[attempt()]), [unread])[-1] == "sendgrid: it bounced"


def test_who_reported_it_is_who_had_it_not_who_was_tried_last():
    late = [attempt(1, "accepted", "ses", error="read timed out", reported="delivered"), attempt(2, "uncertain", opened=5, answered=6)]
    assert prospect(life(row("delivered", attempt_id=attempt_id(2)), late)).why == "reported by ses"
    confirmed = prospect(life(row("sent"), [attempt(error="confirmed by an operator")]))
    assert confirmed.why == "confirmed by an operator; nothing has been reported since"


def test_a_report_about_another_recipient_says_so_and_proves_nothing():
    theirs = told("delivered", 5)._replace(is_others=True)
    theirs = theirs._replace(report=theirs.report._replace(recipient="anna@example.com"))
    doubted = attempt(1, error="read timed out", reported="opened")
    lived = happened(life(tries=[doubted]), [theirs, told("opened", 5.5)])
    assert lived[-3:] == [
        "sendgrid: it was delivered (to another recipient, anna@example.com)",
        "sendgrid: it was opened by a person",  # their delivery makes no machine of this open
        "attempt 1: that proves that sendgrid took it; its message id: m-1",
    ]
    assert "(to another recipient, a…@example.com)" in " ".join(screen(life(tries=[doubted]), [theirs]).split())


def test_what_is_on_record_of_a_route_is_told_and_no_more():
    def route(**changes):
        return dict(story.tell(life(row(only_provider=changes.pop("bound", None)), [attempt(**changes)]), [], False).about)["routed by"]

    assert route() == "no weights had been computed before attempt 1, so starting weights; breakers and pins are not on record"
    assert route(weights_id=3).startswith("weights 3, the newest before attempt 1, had no row for it")
    assert "attempt 1: ses 100 %, which do not name sendgrid; " in route(weights_id=3, weights={"ses": 1000})
    assert "attempt 1: sendgrid 100 %; " in route(weights_id=3, weights={"sendgrid": 1000})
    assert route(bound="ses").startswith("bound to ses, where an earlier attempt is in doubt; ")


def test_where_it_came_from_is_told_as_far_as_it_is_on_record():
    ways = [
        life(row(source={"topic": "email-jobs", "partition": 2, "offset": 9})),
        life(row(source={"topic": "redis:email-jobs", "partition": -1, "offset": -1})),
        life(row("dead"), letters=[letter()]),
        life(row("cancelled", type="cancel")),
        life(),
    ]
    told_ = [dict(story.tell(one, [], False).about)["came by"] for one in ways]
    assert told_[:4] == [
        "Kafka, email-jobs partition 2 offset 9",
        "the Redis list email-jobs",
        "Kafka, email-jobs partition 3 offset 17",
        "a cancel, before the email itself",
    ]
    assert told_[4].startswith("not on record")


def test_turns_and_decisions_stand_where_they_belong():
    lived = life(
        row("cancelled", generation=1, revived_at=at(20), cancel_asked_at=at(30), updated_at=at(40), error="cancelled by its producer"),
        letters=[letter(settled_at=at(20)), letter("id-reused", 25, id=LETTER_ID.replace("1", "2"), row_id=None)],
        entries=[entry("dlq replay", 20), entry("cancel", 30), entry("lanes pause", 15), entry("of tomorrow", 35)],
    )
    assert happened(lived) == [
        "it came in",
        f"dead letter {LETTER_ID}: rejected, said so",
        "grace stopped its lane",
        "grace replayed its dead letter",
        "it came back to life by a replay: generation 1",
        f"the same id came with other content, by Kafka, email-jobs partition 3 offset 17: refused, dead letter {LETTER_ID.replace('1', '2')}",
        "grace asked to cancel it",
        "a cancel came too late to stop what had left: no further attempt will be made",
        "grace of tomorrow",
        "it ended, cancelled: cancelled by its producer",
    ]


def test_what_never_became_an_email_is_told_by_its_dead_letter():
    told_ = story.tell_letters([letter("invalid-job", row_id=None, error="priority: is not known, from ada@example.com")], False)
    text = "\n".join(story.lines(told_))
    assert told_.headline.startswith("order-1742 of tenant 7 never became an email: it was refused, invalid-job: priority")
    assert f"dlq replay {LETTER_ID}" in text and "email-jobs partition 3 offset 17" in text and "ada@" not in text


def test_strangers_words_do_not_steer_the_terminal():
    assert "\033" not in screen(life(row("dead", error="\033[2Jx"), letters=[letter(error="\033[2Jx")]))
