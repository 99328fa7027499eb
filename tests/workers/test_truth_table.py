"""docs/truth-table.md, cell by cell, against PostgreSQL and through the functions that the roles call."""

import argparse
import itertools
import re
import uuid
from hashlib import sha256
from pathlib import Path

import pytest

from db import payloads, slots
from db.payloads import Payload, Vault
from mail.ids import new_id
from mail.outcome import Verdict
from operations import uncertain
from sandbox.redis import Redis
from tests.workers.ledger_world import BOOT
from tests.workers.truth_world import AFTER_SENDING, OWNERS, UNSENT, WAITING, Case, Impossible, TruthWorld, word_for
from workers.steps import shelf
from workers.steps.quarantine import DEATHS_MOST

PAGE = Path(__file__).resolve().parents[2] / "docs" / "truth-table.md"
ARRIVALS = ("Kafka", "due row", "Redis", "replay", "cancel")
STATUSES = ("none", *WAITING, "sending", "uncertain", *AFTER_SENDING, *UNSENT)


def tables():
    """The tables of the page, each a list of rows of cells, its headings first."""
    found, rows = [], []
    for line in [*PAGE.read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def cells():
    """(status, owner, arrival, word), one for each combination that a line stands for."""
    headings, *rows = tables()[0]
    assert tuple(headings[2:]) == ARRIVALS
    for statuses, owners, *words in rows:
        for status, owner in itertools.product(statuses.split(", "), owners.split(", ")):
            for arrival, word in zip(ARRIVALS, words, strict=True):
                yield status, owner, arrival, word


@pytest.fixture(scope="module")
def town(postgres, server_folder, tmp_path_factory):
    name = f"truth_{uuid.uuid4().hex}"
    postgres.create_database(name)
    with Redis(server_folder / "redis-truth") as server:
        made = TruthWorld(postgres.parameters(name), tmp_path_factory.mktemp("truth"), server)
        yield made
        made.close()
    postgres.drop_database(name)


@pytest.fixture
def world(town):
    town.begin()
    return town


def test_the_page_speaks_of_every_combination_once_and_explains_what_cannot_occur():
    spoken = [cell[:3] for cell in cells()]
    assert sorted(spoken) == sorted(itertools.product(STATUSES, OWNERS, ARRIVALS))
    notes = set(re.findall(r"^(\d+)\. ", PAGE.read_text(), re.MULTILINE))
    assert {word[2:] for *_, word in cells() if word.startswith("–")} == notes
    words = set(re.findall(r"^- \*\*(\w+)\*\*:", PAGE.read_text(), re.MULTILINE))
    assert {word for *_, word in cells() if not word.startswith("–")} == words


@pytest.mark.parametrize(("status", "owner", "arrival", "word"), list(cells()))
def test_an_id_arrives(world, status, owner, arrival, word):
    if word.startswith("–"):
        with pytest.raises(Impossible):
            world.stand(status, owner, arrival)
        return
    case = world.stand(status, owner, arrival)
    before, sent = world.view(case), world.sent_to(case)
    assert (before.status if before else "none") == status.removesuffix(" without bytes")
    world.arrive(case, owner, arrival)
    after = world.view(case)
    assert word_for(before, after, world.sent_to(case) - sent) == word
    assert_the_end_is_right(world, case, owner, before, word)


def assert_the_end_is_right(world, case, owner, before, word):
    """Whatever holders, successors and queues still do: it is sent at most once, and not at all after a cancel."""
    end = world.run_on(case, owner)
    taken = sum(state in ("accepted", "open", "uncertain") for state in end.states)
    assert taken <= 1
    status = before.status if before else "none"
    if word == "cancels" or (word == "notes" and status == "sending" and owner == "dead"):
        assert (end.status, taken) == ("cancelled", 0)
    elif word in ("sends", "row", "revives") or status in ("pending", "scheduled", "retrying", "sending"):
        assert (end.status, taken) == ("sent", 1)


@pytest.mark.parametrize("owner", ["nobody", "me"])
@pytest.mark.parametrize("arrival", ["Kafka", "Redis"])
@pytest.mark.parametrize("status", STATUSES[1:])
def test_the_same_id_with_other_content_is_refused_and_its_row_stays(world, status, arrival, owner):
    try:
        case = world.stand(status, owner, arrival)
    except Impossible:
        return
    before, letters, sent = world.view(case), len(world.letters(case)), world.sent_to(case)
    case.value = case.value.replace(b'"n": 1', b'"n": 2')
    world.arrive(case, owner, arrival)
    assert world.view(case) == before
    assert world.sent_to(case) == sent
    assert len(world.letters(case)) == letters + (status != "cancelled")


def test_the_page_speaks_of_what_is_played_and_of_nothing_else():
    assert [row[0] for row in tables()[1][1:]] == list(FIRE)
    assert [tuple(row[:2]) for row in tables()[2][1:]] == list(ENDS)


@pytest.mark.parametrize(("moment", "becomes"), tables()[1][1:])
def test_everything_is_looked_at_again_when_its_time_comes(world, moment, becomes, monkeypatch, expect_errors):
    monkeypatch.setattr(shelf, "FRESH_S", 0.0)
    case = world.stand("scheduled", "nobody", "due row")
    FIRE[moment](world, case)
    record = world.lease(world.loop.slot, case, Vault())
    world.turn(record)
    status, _, reason = becomes.partition(": ")
    end = world.view(case)
    if becomes.startswith("as it was"):
        assert (end.status, end.is_queued, len(expect_errors)) == ("scheduled", True, 1)
        return
    assert (end.status, end.states) == (status, ("accepted",) if status == "sent" else ())
    assert not expect_errors
    assert world.reasons(case) == ([reason] if reason else [])
    assert [event["event"] for event in world.loop.desk.events() if event["jobId"] == case.job_id] == [status]


@pytest.mark.parametrize(("status", "moment", "becomes"), tables()[2][1:])
def test_a_worker_died_or_doubt_ends(world, status, moment, becomes):
    case = ENDS[status, moment](world)
    assert world.view(case).status == becomes
    if becomes in ("pending", "retrying"):  # whoever may send it now can
        world.run_on(case, "nobody")
        assert world.view(case).status == "sent"
    states = world.view(case).states
    is_doubled = (status, moment) == ("sending after a resend", "the first attempt's yes comes after all")
    assert sum(state in ("accepted", "open", "uncertain") for state in states) <= 1 + is_doubled


def suppress(world, case):
    world.run("INSERT INTO suppressions (address, reason) VALUES (%(address)s, 'manual')", address=case.address)


def of_another_template(world, case, statement):
    """Its job is one of a template of its own, which something happens to."""
    name = f"template-{case.job_id}"
    world.run("INSERT INTO email_templates (name, subject, html_content) VALUES (%(name)s, 's', 'h')", name=name)
    put_bytes(world, case, case.value.replace(b'"welcome-email"', f'"email", "template": "{name}"'.encode()))
    world.run(statement, name=name)


def put_bytes(world, case, value):
    """Other bytes are stored with its row than came, as a newer program with other rules would see them."""
    row = world.row(case)
    world.ledger.database.run(lambda cursor: payloads.delete(cursor, [row]))
    world.ledger.database.run(lambda cursor: payloads.store(cursor, [Payload(row, value, None, {})], Vault()))


def lock_bytes(world, case):
    sealed = Vault(["zGRzYVJgVvVGeoFXgOqJCUhOJKcUg4ieNG-sbGUwtfE="]).seal(case.value)
    hash_ = sha256(case.value).digest()
    world.run("UPDATE email_payload_bodies SET body = %(body)s WHERE hash = %(hash)s", body=sealed, hash=hash_)


def kill_thrice(world, case):
    for _ in range(DEATHS_MOST):
        world.ledger.database.run(lambda cursor: slots.add_suspect(cursor, f"row:{world.row(case)}"))
    world.loop.forget_suspects()


FIRE = {
    "nothing speaks against it": lambda world, case: None,
    "its recipient is suppressed by now": suppress,
    "its `expiresAt` has passed": lambda world, case: put_bytes(world, case, case.value[:-1] + b', "expiresAt": "2020-01-01T00:00:00Z"}'),
    "its template was switched off": lambda world, case: of_another_template(
        world, case, "UPDATE email_templates SET is_active = false WHERE name = %(name)s"
    ),
    "its template was deleted": lambda world, case: of_another_template(world, case, "DELETE FROM email_templates WHERE name = %(name)s"),
    "a cancel was noted": lambda world, case: world.run(
        "UPDATE email_jobs SET cancel_asked_at = now() WHERE id = %(id)s", id=world.row(case)
    ),
    "its stored bytes are no job any more": lambda world, case: put_bytes(world, case, b'{"id": "x"}'),
    "its stored bytes are lost": lambda world, case: world.run(
        "DELETE FROM email_payload_bodies WHERE hash = %(hash)s", hash=sha256(case.value).digest()
    ),
    "its stored bytes are locked: their key is not in `ENCRYPTION_KEYS`": lock_bytes,
    "it killed its worker three times": kill_thrice,
}


def died(stage, verdict=None, boot_id=BOOT):
    def play(world):
        case = Case()
        world.fly(case, stage, verdict)
        world.take_over(boot_id)
        return case

    return play


def lost(world):
    case = Case()
    world.fly(case, "prepared")
    world.lose_host()
    return case


def doubted(*steps):
    """An email whose attempt has no answer, and then these steps."""

    def play(world):
        case = world.stand("uncertain", "alive", "Kafka")
        for step in steps:
            step(world, case)
        return case

    return play


def late(verdict):
    return lambda world, case: world.answer(case, world.alive, verdict)


def report(world, case):
    world.report(case, "delivered")


def decide(name):
    def step(world, case):
        ids = [letter.attempt_id for letter in case.batch.letters]
        arguments = argparse.Namespace(ids=ids, account=None, template=None, older=0.0, all=False, decision=name)
        assert uncertain.run(world.settings, arguments) == 0

    return step


def cancel(world, case):
    world.loop.deliver(world.cancel_of(case))


def fire(world, case):
    world.run_due(case)


def throttle(world, case):
    """The second attempt is refused for now."""
    world.loop.wire.behave = lambda request: ["throttled"] * len(request.messages)
    world.run_due(case)
    world.loop.wire.behave = lambda request: ["accepted"] * len(request.messages)


def open_again(world, case):
    """The second attempt is on its way; what is said of the first from now on is not its answer."""
    first, case.held = case.batch, world.lease(world.loop.slot, case)
    world.open(case, world.loop.slot)
    case.batch = first


ENDS = {
    ("sending", "the flight log says prepared"): died("prepared"),
    ("sending", "the flight log says leaving"): died("leaving"),
    ("sending", "the flight log says accepted"): died("answered", Verdict.ACCEPTED),
    ("sending", "the flight log says refused"): died("answered", Verdict.THROTTLED),
    ("sending", "the flight log says no answer"): died("answered", Verdict.UNKNOWN),
    ("sending", "there is no flight log to be trusted"): died("prepared", boot_id=new_id()),
    ("sending", "its host is lost"): lost,
    ("uncertain", "an event of its attempt comes"): doubted(report),
    ("uncertain", "its ESP's yes comes after all"): doubted(late(Verdict.ACCEPTED)),
    ("uncertain", "its ESP's refusal comes after all"): doubted(late(Verdict.THROTTLED)),
    ("uncertain", "`manage.py uncertain confirm`"): doubted(decide("confirm")),
    ("uncertain", "`manage.py uncertain resend`"): doubted(decide("resend")),
    ("uncertain", "`manage.py uncertain abandon`"): doubted(decide("abandon")),
    ("uncertain, a cancel was noted", "`manage.py uncertain resend`, and its row is due"): doubted(cancel, decide("resend"), fire),
    ("pending by a resend", "the first attempt's yes comes after all"): doubted(decide("resend"), late(Verdict.ACCEPTED)),
    ("pending by a resend", "an event of the first attempt comes"): doubted(decide("resend"), report),
    ("dead by an abandon", "the first attempt's yes comes after all"): doubted(decide("abandon"), late(Verdict.ACCEPTED)),
    ("retrying after a resend", "the first attempt's yes comes after all"): doubted(decide("resend"), throttle, late(Verdict.ACCEPTED)),
    ("sending after a resend", "the first attempt's yes comes after all"): doubted(decide("resend"), open_again, late(Verdict.ACCEPTED)),
}
