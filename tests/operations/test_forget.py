"""A person is erased from every table, and stays suppressed."""

import json
from urllib.parse import urlsplit

import pytest
import redis

from db import dead_letters, outbox, payloads
from db.dead_letters import DeadLetter
from db.outbox import Posting
from db.payloads import Payload, Vault
from mail.ids import new_id
from tests.workers.event_world import event
from tests.workers.ledger_world import job_bytes, letters_of, record_of

pytestmark = pytest.mark.thorough


def anywhere(world, words):
    """The tables in which these words stand in any column, bytes read as text."""
    which = "relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition"
    tables = world.rows(f"SELECT relname FROM pg_class WHERE {which}")
    found = []
    for row in tables:
        for line in world.rows(f"SELECT * FROM {row['relname']}"):
            texts = (bytes(v).decode(errors="replace") if isinstance(v, memoryview) else str(v) for v in line.values())
            if any(words in text.lower() for text in texts):
                found.append(row["relname"])
    return sorted(set(found))


def store(world, row_id, value):
    world.run(lambda cursor: payloads.store(cursor, [Payload(row_id, value, None, {})], Vault()))


def dlq(value, in_base64=None, **fields):
    """A dead letter as it is published."""
    letter = {"id": new_id(), "reason": "not-json", "value": value, **fields}
    return json.dumps(letter if in_base64 is None else letter | {"value": in_base64, "encoding": "base64"})


def publish(world, topic, keys, values):
    """Something that the broker does not have yet."""
    world.run(lambda cursor: outbox.insert(cursor, Posting(new_id(), topic, tuple(keys), tuple(values))))


def dead(world, value, row_id=None):
    letter = DeadLetter(new_id(), "rejected", "", None, 0, {}, value, row_id)
    world.run(lambda cursor: dead_letters.insert(cursor, [letter]))


@pytest.fixture
def ann(world):
    """Everything that can be known about somebody, beside somebody else's."""
    sent = world.send("Ann@A.test")
    world.run(lambda cursor: cursor.execute("UPDATE email_jobs SET data = '{\"name\": \"Ann\"}', content = 'Dear ann@a.test'"))
    world.apply(event("delivered", sent), event("opened", sent, after_s=60, ip="192.0.2.7", raw={"email": "ann@a.test"}))
    world.apply(event("complained", sent, after_s=70), event("bounced", sent, after_s=80, bounce="hard"))
    world.apply(event("opened", recipient="ann@a.test", message_id="foreign"))
    other = world.send("bob@a.test")
    world.apply(event("delivered", other, recipient="ann@a.test"), event("delivered", other))
    waiting = world.send("ann@a.test", answer="throttled")
    store(world, waiting.row_id, job_bytes("w", "ann@a.test"))
    dead(world, b'{"recipient": "ANN@a.test", broken')
    dead(world, job_bytes("d", "someone"), waiting.row_id)
    dead(world, job_bytes("e", "bob@a.test"))
    publish(world, "email-dlq", [None] * 3, [dlq("ann@a.test"), dlq(None, "QU5OQEEudGVzdCBoZWxsbw=="), dlq("bob@a.test")])
    return {"sent": sent, "other": other, "waiting": waiting}


def test_nothing_is_left_of_a_person_but_hashes(world, console, ann):
    assert "email_jobs" in anywhere(world, "ann@a.test")
    done = console.type("forget", "Ann@a.TEST", "--yes")
    assert done.returncode == 0, done.stderr
    assert "2 emails made blank" in done.text
    assert anywhere(world, "ann@a.test") == []
    assert anywhere(world, "192.0.2.7") == []


def test_nothing_is_left_of_somebody_who_was_only_named_in_other_mail(world, console):
    bobs = world.send("bob@a.test")
    named = {"mail": {"destination": ["bob@a.test", "Ann@a.test"]}}
    world.apply(event("delivered", bobs, raw=named), event("opened", recipient="", message_id="x", raw=named, reason="for ann@a.test"))
    world.run(lambda c: c.execute("UPDATE email_jobs SET data = '{\"friend\": \"ann@A.test\"}', error_message = 'ann@a.test is full'"))
    world.run(lambda c: c.execute("UPDATE email_attempts SET error = 'Cc ann@a.test refused'"))
    callback = "INSERT INTO postponed_callbacks (topic, partition, record_offset, value) VALUES ('webhook-ses', 0, %s, %s)"
    for offset, value in ((1, b'["Ann@a.test"]'), (2, b'["bob@a.test"]')):
        world.run(lambda c, values=(offset, value): c.execute(callback, values))
    done = console.type("forget", "ann@a.test", "--yes")
    assert anywhere(world, "ann@a.test") == []
    assert "5 mentions" in done.text
    assert (world.status(bobs), world.counters(bobs)["delivered"]) == ("delivered", 1)
    assert [row["recipient"] for row in world.rows("SELECT recipient FROM email_tracking WHERE job_id IS NOT NULL")] == ["bob@a.test"]
    assert world.count("postponed_callbacks", "value IS NOT NULL") == 1


@pytest.mark.parametrize("other", ["joann@a.test", "jo.ann@a.test", "ann@a.test.org", "ann@a.test-b.org", "mary-ann@a.test"])
def test_an_address_of_which_theirs_is_a_part_is_somebody_elses(world, console, other):
    sent = world.send(other, answer="throttled")
    store(world, sent.row_id, job_bytes("j", other))
    world.apply(event("opened", sent, raw={"email": other}))
    dead(world, job_bytes("d", other))
    publish(world, "email-dlq", [None], [dlq(other)])
    before = anywhere(world, other)
    console.type("forget", "ann@a.test", "--yes")
    assert anywhere(world, other) == before
    assert world.count("dead_letters") == world.rows("SELECT cardinality(values) AS n FROM outbox WHERE topic = 'email-dlq'")[0]["n"] == 1


@pytest.mark.parametrize("text", ["ann@a.test", "<Ann@a.test>", "to ann@a.test.", "\\nann@a.test\\n", "mailto:ann@a.test?x"])
def test_however_it_is_written_it_is_found(world, console, text):
    dead(world, f'{{"text": "{text}"}}'.encode())
    publish(world, "email-dlq", [None], [dlq(text)])
    console.type("forget", "ann@a.test", "--yes")
    assert anywhere(world, "ann@a.test") == []


def test_an_address_with_signs_of_patterns_is_taken_by_its_letters(world, console):
    for address in ("a+b.c@a.test", "a$(d)@a.test"):
        dead(world, job_bytes("d", address))
        dead(world, job_bytes("d", address.replace(".", "x").replace("$", "y")))
        console.type("forget", address, "--yes")
        assert anywhere(world, address) == []
    assert world.count("dead_letters") == 2


def test_what_is_reported_later_of_their_mail_is_kept_without_them_and_their_no_as_a_hash(world, console, ann):
    console.type("forget", "ann@a.test", "--yes")
    sent = ann["sent"]
    later = {"recipient": "ann@a.test", "ip": "192.0.2.7", "user_agent": "Ann's", "raw": {"email": "ann@a.test"}}
    world.apply(event("opened", sent, after_s=900, **later), event("unsubscribed", sent, after_s=901, **later))
    assert anywhere(world, "ann@a.test") == anywhere(world, "192.0.2.7") == anywhere(world, "ann's") == []
    assert world.count("email_tracking", f"job_id = '{sent.row_id}'") == 2
    rows = world.rows("SELECT tenant, reason FROM forgotten_suppressions ORDER BY reason")
    assert [row["reason"] for row in rows] == ["complaint", "hard-bounce", "unsubscribe"]


def test_it_says_where_copies_may_be_left_and_what_becomes_of_them(world, console):
    said = console.type("forget", "ann@a.test", "--yes").text
    for place in ("email-jobs-high", "email-events", "email-dlq", "webhook-ses", "retention.ms", "backups", "Redis list email-jobs"):
        assert place in said


def test_sums_stay_true_and_what_waited_is_cancelled(world, console, ann):
    console.type("forget", "ann@a.test", "--yes")
    assert {row["status"] for row in world.rows("SELECT status FROM email_jobs")} == {"complained", "delivered", "cancelled"}
    assert world.count("email_attempts") == 3
    assert world.job(ann["waiting"].job_id)["next_attempt_at"] is None
    assert world.counters(ann["sent"])["delivered"] == 1
    assert world.count("email_payloads") == world.count("email_payload_bodies") == 0


def test_other_people_are_left_alone(world, console, ann):
    console.type("forget", "ann@a.test", "--yes")
    assert world.status(ann["other"]) == "delivered"
    assert [row["recipient"] for row in world.rows("SELECT recipient FROM email_tracking")] == ["bob@a.test"]
    assert len(world.rows("SELECT * FROM dead_letters")) == 1


def test_unpublished_events_are_told_without_the_address_and_dead_letters_are_not(world, console, ann):
    before = world.told()
    assert [told["recipient"] for told in before].count("bob@a.test") == 1
    assert [told["recipient"].lower() for told in before].count("ann@a.test") == 4
    console.type("forget", "ann@a.test", "--yes")
    after = world.told()
    assert [told["recipient"] for told in after].count("") == 4
    assert [told | {"recipient": ""} for told in after] == [told | {"recipient": ""} for told in before]
    letters = world.rows("SELECT keys, values FROM outbox WHERE topic = 'email-dlq'")
    assert [[json.loads(value)["value"] for value in row["values"]] for row in letters] == [["bob@a.test"]]
    assert letters[0]["keys"] == [None]


def test_an_outbox_row_of_that_person_alone_is_gone(world, console):
    publish(world, "email-dlq", ["j"], [dlq("ann@a.test")])
    assert "1 unpublished" in console.type("forget", "ann@a.test", "--yes").text
    assert world.count("outbox") == 0


@pytest.mark.parametrize("number", [0, 3, 120])
def test_however_much_waits_to_be_published_all_of_it_is_looked_at(world, console, number):
    for n in range(number):
        publish(world, "email-dlq", [None], [dlq(f"bob{n}@a.test")])
    publish(world, "email-dlq", [None], [dlq("ann@a.test")])
    console.type("forget", "ann@a.test", "--yes")
    assert world.count("outbox") == number


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_settings(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    host, port = urlsplit(redis_server.url).hostname, urlsplit(redis_server.url).port
    return {"REDIS_HOST": host, "REDIS_PORT": str(port), "REDIS_DB": "0"}


@pytest.fixture
def client(redis_server):
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as made:
        yield made


def test_statuses_and_dead_letters_in_redis_go_too(world, console, ann, client, redis_settings):
    for sent in ann.values():
        client.set(f"email:status:0:{sent.job_id}", "delivered")
    (row,) = world.rows("SELECT id FROM dead_letters WHERE row_id IS NOT NULL")
    named = json.dumps({"id": row["id"], "reason": "rejected", "row": row["id"]})
    others = [dlq(f"bob{n}@a.test") for n in range(300)]
    theirs = [dlq("Ann@a.test"), dlq(None, "QU5OQEEudGVzdCBoZWxsbw=="), named]
    for letter in [*others[:150], *theirs, *theirs, *others[150:]]:
        client.rpush("email-dlq", letter)
    done = console.type("forget", "ann@a.test", "--yes", **redis_settings)
    assert "8 copies in Redis" in done.text, done.stderr
    assert client.lrange("email-dlq", 0, -1) == others
    assert set(client.keys()) == {f"email:status:0:{ann['other'].job_id}", "email-dlq"}
    assert world.rows("SELECT details FROM audit_log")[0]["details"]["redis"] == 8


def test_where_redis_does_not_answer_nothing_is_done_and_it_is_said(world, console, ann):
    refused = console.type("forget", "ann@a.test", "--yes", REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert refused.returncode == 1
    assert "nothing was done" in refused.text
    assert "email_jobs" in anywhere(world, "ann@a.test")
    assert world.count("audit_log") == 0


def test_somebody_who_was_forgotten_still_gets_no_mail(world, console, ann):
    console.type("forget", "ann@a.test", "--yes")
    batch = letters_of(record_of(job_bytes("again", "Ann@a.test")), record_of(job_bytes("fine", "carl@a.test")))
    opened = world.open(world.claim(), batch)
    assert [letter.job.job_id for letter in batch.letters if letter.attempt_id in opened] == ["fine"]
    assert "removed" in console.type("suppress", "remove", "ann@a.test").text
    assert world.count("forgotten_suppressions") == 0


def test_a_hash_stops_as_much_as_the_entry_did(world, console):
    """For tenant 0 alone, for everybody, and an unsubscribe made in another mail than this marketing."""
    world.apply(event("complained", world.send("own@a.test")))
    console.type("suppress", "add", "all@a.test")
    world.apply(event("unsubscribed", world.send("shy@a.test", stream="transactional")))
    for address in ("own@a.test", "all@a.test", "shy@a.test"):
        console.type("forget", address, "--yes")
    assert world.count("suppressions") == 0
    jobs = [(f"{address}-{tenant}", address, tenant) for address in ("own@a.test", "all@a.test", "shy@a.test") for tenant in (0, 5)]
    batch = letters_of(*(record_of(job_bytes(name, address, tenant=tenant)) for name, address, tenant in jobs))
    for letter in batch.letters:
        letter.is_marketing = True
    opened = world.open(world.claim(), batch)
    sent = [letter.job.job_id for letter in batch.letters if letter.attempt_id in opened]
    assert sent == ["own@a.test-5", "shy@a.test-5"]


def test_the_audit_log_tells_who_was_forgotten_by_hash_and_what_was_done(world, console, ann):
    console.type("forget", "ann@a.test", "--yes")
    (row,) = world.rows("SELECT action, subject, details, actor FROM audit_log")
    assert (row["action"], row["subject"][:7]) == ("forget", "sha256:")
    assert row["details"]["jobs"] == 2
    assert row["actor"]


def test_stored_bytes_that_others_still_need_are_kept_for_them_and_said(world, console):
    one, other = world.send("ann@a.test", answer="throttled"), world.send("bob@a.test", answer="throttled")
    for sent in (one, other):
        store(world, sent.row_id, b"one request for ann@a.test and bob@a.test")
    assert "1 stored originals are shared" in console.type("forget", "ann@a.test", "--yes").text
    assert world.count("email_payloads") == world.count("email_payload_bodies") == 1


def test_without_a_yes_nothing_is_done(world, console, ann):
    assert console.type("forget", "ann@a.test").returncode != 0
    assert "email_jobs" in anywhere(world, "ann@a.test")


def test_an_unknown_person_is_no_error(world, console):
    assert "0 emails" in console.type("forget", "nobody@a.test", "--yes").text
