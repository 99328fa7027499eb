"""The operator's commands as an operator types them, against a database of their own."""

import json

import pytest

from db import dead_letters, default_templates, migrate, templates
from db.connection import Database
from mail.ids import new_id

pytestmark = pytest.mark.thorough


@pytest.fixture
def store(database):
    made = Database({key: str(value) for key, value in database.items()})
    yield made
    made.close()


def dead_letter(reason="not-json", value=b"\xffoops", **fields):
    return dead_letters.DeadLetter(new_id(), reason, "value: is no JSON", fields.pop("job_id", None), 0, {"topic": "t", "offset": 3}, value)


def test_migrate_makes_everything_and_the_second_time_nothing(console):
    first, second = console.type("migrate", "--no-topics"), console.type("migrate", "--no-topics")
    assert (first.returncode, second.returncode) == (0, 0)
    assert "applied 0001_tables" in first.text
    assert "complete" in second.text


def test_check_says_what_is_missing_and_what_to_do(console):
    done = console.type("check")
    assert done.returncode == 1
    assert "run `python manage.py migrate`" in done.text
    assert "no ESP is on" in done.text
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.text


def test_bad_settings_are_all_listed_and_nothing_is_done(console):
    done = console.type("check", WORKER_BATCH_SIZE="many", DB_PORT="x")
    assert done.returncode == 4
    assert b"WORKER_BATCH_SIZE" in done.stderr and b"DB_PORT" in done.stderr


def test_a_database_that_is_away_is_said_so_without_a_traceback(console):
    done = console.type("dlq", "list", DB_PORT="1")
    assert done.returncode == 3
    assert b"DB_" in done.stderr and b"Traceback" not in done.stderr


def test_dead_letters_are_listed_counted_and_shown_with_their_bytes(console, store):
    migrate.migrate(store)
    letters = [dead_letter(job_id="j-7"), dead_letter("invalid-job", b"{}")]
    store.run(lambda cursor: dead_letters.insert(cursor, letters))
    listing = console.type("dlq", "list")
    assert "1 invalid-job, 1 not-json" in listing.text and "j-7" in listing.text
    assert "invalid-job" not in "\n".join(console.type("dlq", "list", "--reason", "not-json").text.splitlines()[:3])
    shown = console.type("dlq", "show", letters[0].id[:30])
    assert "5 original bytes:\n\\xffoops" in shown.text
    assert console.type("dlq", "show", letters[0].id, "--raw").stdout == b"\xffoops"
    assert console.type("dlq", "show", "nothing").returncode == 1


def test_templates_are_listed_and_previewed_with_own_data(console, store):
    migrate.migrate(store)
    assert "--seed" in console.type("templates", "list").text
    store.run(lambda cursor: templates.insert_missing(cursor, [template for template, _ in default_templates.load()]))
    assert len(console.type("templates", "list").text.splitlines()) == 17
    assert "<html" in console.type("templates", "preview", "welcome-email", "--part", "html").text
    missing = console.type("templates", "preview", "password-reset", "--data", "{}")
    assert missing.returncode == 1 and b"resetUrl" in missing.stderr
    filled = console.type("templates", "preview", "password-reset", "--data", json.dumps({"resetUrl": "https://example.com/r/1"}))
    assert "https://example.com/r/1" in filled.text
