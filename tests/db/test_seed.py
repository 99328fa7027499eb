"""The made-up month: it agrees with itself, fits its weights, can be told again, and never touches a database in use."""

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config.catalog import CATALOG, read_catalog
from config.settings import Settings, load_settings
from db import due, ledger, migrate, queries
from db.connection import Database
from db.payloads import Vault
from db.seed.fill import fill
from db.seed.plan import Esp, Plan
from db.seed.quality import quality_of
from mail.decode import decode
from mail.errors import BadSettings
from mail.event import STATUS_RANK
from mail.ids import job_key
from mail.job import Job
from mail.limits import DecodeLimits
from mail.template import JOB_TYPES
from operations import seed
from routing.apportion import normalise
from routing.mailbox_provider import mailbox_provider
from routing.snapshot import SIZE_BYTES, SnapshotReader, SnapshotWriter
from sandbox.postgres import Postgres

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 18, 14, 40, tzinfo=UTC)
ESPS = (
    Esp("sendgrid", 100, True),
    Esp("postmark", 100, True),
    Esp("sparkpost", 50, True),
    Esp("ses", 100, True),
    Esp("smtp", 50, False),
)
TABLES = (
    *("users", "email_service_providers", "email_jobs", "email_job_keys", "email_attempts", "email_tracking", "send_cohorts"),
    *("esp_cohort_stats", "suppressions", "dead_letters", "esp_weights", "campaigns", "email_batches", "audit_log"),
)
DOCUMENTATION = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]


def plan(**changes: Any) -> Plan:
    return Plan(NOW, ESPS, lambda template, data: f"About {template.name}", normalise)._replace(**changes)


def opened(parameters: Mapping[str, Any]) -> Database:
    """A migrated database."""
    made = Database({name: str(value) for name, value in parameters.items()})
    migrate.migrate(made)
    return made


def checksums(database: Database) -> dict[str, str]:
    text = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
    return {table: database.read(text.format(table))[0][0] for table in TABLES}


def settings_for(database: Mapping[str, Any], **changes: str) -> Settings:
    names = {"DB_HOST": "host", "DB_PORT": "port", "DB_NAME": "dbname", "DB_USER": "user", "DB_PASSWORD": "password"}
    given = {name: str(database[key]) for name, key in names.items() if key in database}
    return load_settings({"ENVIRONMENT": "development", "DB_SSL_MODE": "disable", **given, **changes}, None)


@pytest.fixture(scope="module")
def month(postgres: Postgres) -> Iterator[Database]:
    """A database that holds the whole month; tests only read it."""
    postgres.create_database("seeded_month")
    made = opened(postgres.parameters("seeded_month"))
    made.run(lambda cursor: fill(cursor, plan()))
    yield made
    made.close()
    postgres.drop_database("seeded_month")


def count(database: Database, table: str, where: str = "true") -> int:
    return int(database.read(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


# -- sums agree --------------------------------------------------------------------------------------------------------


def test_cohort_counters_are_the_numbers_of_their_attempts(month: Database) -> None:
    from_attempts = """
        SELECT a.cohort_id, a.provider, a.mailbox_provider, count(*), count(a.delivered_at), count(a.opened_first_at),
               count(m.attempt_id), count(a.clicked_first_at), count(a.bounced_at), count(a.complained_at)
        FROM email_attempts a
        LEFT JOIN (SELECT DISTINCT attempt_id FROM email_tracking WHERE event_type = 'opened' AND event_data ? 'is_machine') m
               ON m.attempt_id = a.id
        WHERE a.state = 'accepted' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    from_counters = """
        SELECT cohort_id, provider, mailbox_provider, sum(sent), sum(delivered), sum(opened), sum(opened_machine), sum(clicked),
               sum(bounced), sum(complained)
        FROM esp_cohort_stats GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    counted = month.read(from_counters)
    assert month.read(from_attempts) == counted
    assert len({row[0] for row in counted}) > 500
    assert all(sum(int(row[column]) for row in counted) > 0 for column in range(3, 10))


def test_every_attempt_has_its_cohort_and_every_cohort_begins_with_its_first_attempt(month: Database) -> None:
    wrong = """
        SELECT c.id FROM send_cohorts c
        FULL JOIN (SELECT cohort_id, min(opened_at) AS first, min(tenant_id) AS tenant_id FROM email_attempts GROUP BY 1) a
               ON a.cohort_id = c.id
        WHERE c.id IS NULL OR a.cohort_id IS NULL OR a.first <> c.started_at OR a.tenant_id <> c.tenant_id"""
    assert month.read(wrong) == []


def test_first_times_of_attempts_are_those_of_their_events_and_machine_opens_do_not_count(month: Database) -> None:
    wrong = """
        SELECT a.id FROM email_attempts a
        LEFT JOIN (
            SELECT attempt_id,
                   min(occurred_at) FILTER (WHERE event_type = 'delivered') AS delivered,
                   min(occurred_at) FILTER (WHERE event_type = 'opened' AND NOT event_data ? 'is_machine') AS opened,
                   min(occurred_at) FILTER (WHERE event_type = 'clicked') AS clicked,
                   min(occurred_at) FILTER (WHERE event_type = 'bounced') AS bounced,
                   min(occurred_at) FILTER (WHERE event_type = 'complained') AS complained
            FROM email_tracking GROUP BY 1) t ON t.attempt_id = a.id
        WHERE (a.delivered_at, a.opened_first_at, a.clicked_first_at, a.bounced_at, a.complained_at)
              IS DISTINCT FROM (t.delivered, t.opened, t.clicked, t.bounced, t.complained)"""
    assert month.read(wrong) == []
    assert count(month, "email_tracking", "event_data ? 'is_machine'") > 100


def test_events_belong_to_accepted_attempts_that_went_out_before_them(month: Database) -> None:
    wrong = """
        SELECT t.id FROM email_tracking t LEFT JOIN email_attempts a ON a.id = t.attempt_id
        WHERE a.state IS DISTINCT FROM 'accepted' OR a.answered_at > t.occurred_at OR a.job_id <> t.job_id
           OR a.message_id <> t.message_id OR a.provider <> t.provider"""
    assert month.read(wrong) == []
    assert count(month, "email_tracking", "provider = 'smtp'") == 0
    assert count(month, "email_attempts", "provider = 'smtp'") > 0


def test_a_jobs_status_is_the_highest_of_its_events_and_all_of_them_occur(month: Database) -> None:
    rows = month.read("""
        SELECT j.status, array_agg(t.event_type) FILTER (WHERE NOT t.event_data ? 'is_machine') FROM email_jobs j
        LEFT JOIN email_tracking t ON t.job_id = j.id WHERE j.sent_at IS NOT NULL GROUP BY j.id, j.status""")
    for status, events in rows:
        assert status == max(["sent", *(events or [])], key=lambda name: STATUS_RANK.get(name, 0))
    assert {status for status, _ in rows} == set(STATUS_RANK)
    others = {row[0] for row in month.read("SELECT DISTINCT status FROM email_jobs WHERE sent_at IS NULL")}
    assert others == {"dead", "suppressed", "expired", "cancelled"}


def test_a_job_stands_at_the_last_of_its_attempts(month: Database) -> None:
    wrong = """
        SELECT j.id FROM email_jobs j
        LEFT JOIN (
            SELECT job_id, count(*) AS attempts, max(number) AS last, min(opened_at) AS first,
                   (array_agg(id ORDER BY number DESC))[1] AS newest, (array_agg(id ORDER BY opened_at DESC))[1] AS latest,
                   (array_agg(state ORDER BY number DESC))[1] AS state, (array_agg(provider ORDER BY number DESC))[1] AS provider,
                   (array_agg(message_id ORDER BY number DESC))[1] AS message_id
            FROM email_attempts GROUP BY 1) a ON a.job_id = j.id
        WHERE j.attempts <> coalesce(a.attempts, 0) OR a.last <> a.attempts OR a.newest <> a.latest
           OR (j.attempt_id, j.provider, j.message_id, j.processed_at) IS DISTINCT FROM (a.newest, a.provider, a.message_id, a.first)
           OR (j.sent_at IS NOT NULL) <> (coalesce(a.state, '') = 'accepted')"""
    assert month.read(wrong) == []
    assert count(month, "email_attempts", "number > 1") > 50
    assert {row[0] for row in month.read("SELECT DISTINCT state FROM email_attempts")} == {"accepted", "rejected", "not_taken", "uncertain"}


def test_every_dead_job_has_its_dead_letter_and_some_letters_have_no_job(month: Database) -> None:
    wrong = """
        SELECT j.id, d.id FROM (SELECT * FROM email_jobs WHERE status = 'dead') j
        FULL JOIN (SELECT * FROM dead_letters WHERE row_id IS NOT NULL) d ON d.row_id = j.id
        WHERE d.id IS NULL OR j.id IS NULL OR d.attempts <> j.attempts OR d.job_id <> j.job_id OR d.error <> j.error_message"""
    assert month.read(wrong) == []
    reasons = {row[0] for row in month.read("SELECT DISTINCT reason FROM dead_letters")}
    assert reasons == {"missing-variables", "rejected", "retries-exhausted", "not-json", "invalid-job"}


def test_campaign_and_batch_count_the_emails_that_they_have(month: Database) -> None:
    ((campaign, tenant),) = month.read("SELECT campaign_id, tenant_id FROM campaigns WHERE status = 'completed'")
    assert count(month, "email_jobs", f"campaign_id = '{campaign}' AND tenant_id = {tenant} AND lane = 'bulk'") == 200
    ((batch, total, pinned),) = month.read("SELECT batch_id, total_messages, plan FROM email_batches WHERE status = 'completed'")
    assert count(month, "email_jobs", f"batch_id = {batch} AND template = 'inline'") == total == 120
    assert count(month, "send_cohorts", f"batch_id = {batch}") == 1
    assert all(sum(row.values()) == 1000 for row in pinned.values())


# -- the weights fit ---------------------------------------------------------------------------------------------------


def newest_weights(month: Database) -> tuple[dict[str, Any], dict[str, Any]]:
    ((weights, inputs, reason),) = month.read("SELECT weights, inputs, reason FROM esp_weights")
    assert "30 days" in reason
    return weights, inputs["cells"]


def test_every_row_of_weights_sums_up_to_1000_over_esps_that_the_tenant_may_use(month: Database) -> None:
    weights, _ = newest_weights(month)
    enabled: dict[str, set[str]] = {"0": {esp.provider for esp in ESPS}}
    for tenant, provider in month.read("SELECT tenant_id, provider_name FROM email_service_providers WHERE enabled"):
        enabled.setdefault(str(tenant), set()).add(provider)
    assert weights.keys() == enabled.keys()
    assert enabled["4"] < enabled["0"]
    for tenant, rows in weights.items():
        assert "*" in rows
        for row in rows.values():
            assert sum(row.values()) == 1000
            assert row.keys() == enabled[tenant] and min(row.values()) > 0
    used = {(str(tenant), provider) for tenant, provider in month.read("SELECT DISTINCT tenant_id, provider FROM email_attempts")}
    assert all(provider in enabled[tenant] for tenant, provider in used)


def test_the_inputs_are_the_counts_of_the_attempts(month: Database) -> None:
    _, cells = newest_weights(month)
    found = month.read("""
        SELECT mailbox_provider, provider, count(*), count(delivered_at), count(opened_first_at)
        FROM email_attempts WHERE state = 'accepted' GROUP BY 1, 2""")
    for mailbox, provider, sent, delivered, read in found:
        told = cells["0"][mailbox][provider]
        assert (told["sent"], told["delivered"], told["opened"]) == (sent, delivered, read)
    assert sum(cell["sent"] for cell in cells["0"]["*"].values()) == sum(row[2] for row in found)


def test_whoever_did_better_in_a_cell_gets_at_least_as_much(month: Database) -> None:
    weights, cells = newest_weights(month)
    for tenant, rows in weights.items():
        for mailbox, row in rows.items():
            score = {p: cell["score"] for p, cell in cells[tenant][mailbox].items() if p != "smtp"}
            ranked = sorted(score, key=lambda p: score[p])
            for worse, better in pairwise(ranked):
                assert row[worse] <= row[better]
            assert row["smtp"] <= 30 if "smtp" in row else tenant == "4"


def truth(provider: str, mailbox: str) -> float:
    quality = quality_of(1, provider, mailbox)
    return (1 - quality.blocked) * quality.inboxed


def test_in_every_cell_the_favourite_was_really_read_more_and_the_weights_point_to_the_truth(month: Database) -> None:
    weights, cells = newest_weights(month)
    reporting = [esp.provider for esp in ESPS if esp.has_callbacks]
    for mailbox in ("gmail", "outlook", "yahoo", "icloud", "gmx", "other"):
        row = {p: weights["0"][mailbox][p] for p in reporting}
        rate = {p: cells["0"][mailbox][p]["opened"] / cells["0"][mailbox][p]["sent"] for p in reporting}
        assert rate[max(row, key=lambda p: row[p])] > rate[min(row, key=lambda p: row[p])]
        by_weight = sum(truth(p, mailbox) * row[p] for p in reporting) / sum(row.values())
        assert by_weight > sum(truth(p, mailbox) for p in reporting) / len(reporting)


def test_day_by_day_mail_moves_to_better_esps(month: Database) -> None:
    def quality_between(first_day: int, last_day: int) -> float:
        start = (NOW - timedelta(days=29)).replace(hour=0, minute=0)
        values = {"from": start + timedelta(days=first_day), "to": start + timedelta(days=last_day)}
        text = "SELECT provider, mailbox_provider FROM email_attempts WHERE provider <> 'smtp'"
        sent = month.read(f"{text} AND opened_at >= %(from)s AND opened_at < %(to)s", values)
        return sum(truth(*cell) for cell in sent) / len(sent)

    assert quality_between(0, 1) + 0.02 < quality_between(10, 20) < quality_between(20, 30) + 0.02


def test_the_weights_fit_into_the_snapshot_that_workers_read(month: Database) -> None:
    buffer = bytearray(SIZE_BYTES)
    weights, _ = newest_weights(month)
    assert SnapshotWriter(buffer).write({int(tenant): rows for tenant, rows in weights.items()})
    snapshot = SnapshotReader(buffer).read()
    assert snapshot is not None and snapshot.weights(1, "gmail") == weights["1"]["gmail"]


# -- it can be believed, and harms nobody ------------------------------------------------------------------------------


def test_the_month_has_thirty_days_of_about_300_emails_with_quiet_weekends(month: Database) -> None:
    days = month.read("SELECT created_at::date, count(*) FROM email_jobs WHERE campaign_id IS NULL AND batch_id = 0 GROUP BY 1 ORDER BY 1")
    assert [day for day, _ in days] == [(NOW - timedelta(days=ago)).date() for ago in reversed(range(30))]
    whole = dict(days[:28])
    assert 285 < sum(whole.values()) / 28 < 315
    assert max(n for day, n in whole.items() if day.weekday() >= 5) < min(n for day, n in whole.items() if day.weekday() < 5)


def test_nothing_is_due_open_in_doubt_or_on_its_way(month: Database) -> None:
    assert count(month, "email_jobs", "next_attempt_at IS NOT NULL OR leased_by IS NOT NULL") == 0
    assert count(month, "email_jobs", "status IN ('pending', 'scheduled', 'sending', 'retrying', 'uncertain')") == 0
    assert count(month, "email_attempts", "state = 'open' OR answered_at IS NULL") == 0
    assert [count(month, table) for table in ("uncertain_attempts", "outbox", "email_payloads", "workers", "worker_hosts")] == [0] * 5
    assert month.run(lambda cursor: due.lease(cursor, "host/0/1", ["high", "normal", "bulk"], 10, 60.0, Vault())) == []


def test_nothing_lies_in_the_future_or_in_a_default_partition(month: Database) -> None:
    last = month.read("""
        SELECT greatest((SELECT max(updated_at) FROM email_jobs), (SELECT max(answered_at) FROM email_attempts),
                        (SELECT max(occurred_at) FROM email_tracking), (SELECT max(at) FROM suppressions),
                        (SELECT max(created_at) FROM dead_letters), (SELECT max(end_time) FROM email_batches))""")[0][0]
    assert NOW - timedelta(hours=1) < last <= NOW + timedelta(seconds=1)
    assert [count(month, f"{table}_default") for table in ("email_jobs", "email_attempts", "email_tracking")] == [0, 0, 0]


def test_ids_say_the_time_of_their_rows(month: Database) -> None:
    milliseconds = "('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint"
    assert count(month, "email_jobs", f"abs(extract(epoch FROM created_at) * 1000 - {milliseconds}) > 1") == 0
    assert count(month, "email_attempts", f"abs(extract(epoch FROM opened_at) * 1000 - {milliseconds}) > 1") == 0
    assert count(month, "email_jobs", "substr(id::text, 15, 1) <> '7' OR substr(id::text, 20, 1) NOT IN ('8', '9', 'a', 'b')") == 0


def test_nobody_who_asked_to_be_left_alone_gets_mail_afterwards(month: Database) -> None:
    sent_all_the_same = """
        SELECT j.id FROM suppressions s
        JOIN email_jobs j ON j.recipient_email = s.address AND j.tenant_id = s.tenant
        WHERE j.processed_at > s.at + interval '3 seconds'
          AND (s.reason <> 'unsubscribe' OR j.type IN ('newsletter', 'special-offer', 'event-announcement'))"""
    assert month.read(sent_all_the_same) == []
    assert count(month, "email_jobs", "status = 'suppressed'") > 10
    assert {row[0] for row in month.read("SELECT reason FROM suppressions")} == {"hard-bounce", "complaint", "unsubscribe", "manual"}
    events = "SELECT count(*) FROM email_tracking WHERE event_type = 'complained' OR event_data->>'bounce' = 'hard'"
    entries = "SELECT count(*) FROM suppressions WHERE reason IN ('complaint', 'hard-bounce')"
    assert month.read(events)[0][0] >= month.read(entries)[0][0] > 5


def test_no_address_can_be_somebodys(month: Database) -> None:
    for address, provider in month.read(
        "SELECT DISTINCT j.recipient_email, a.mailbox_provider FROM email_jobs j JOIN email_attempts a ON a.job_id = j.id"
    ):
        local, _, domain = address.partition("@")
        assert mailbox_provider(address) == provider
        if not domain.endswith(("example.com", "example.org", "example.net")):
            assert 32 < len(local) <= 64 and "no-such-mailbox" in local
    for (address,) in month.read("SELECT DISTINCT host(ip_address) FROM email_tracking WHERE ip_address IS NOT NULL"):
        ip = ipaddress.ip_address(address)
        assert any(ip in network for network in DOCUMENTATION)
    senders = [row[0] for row in month.read("SELECT from_email FROM users")]
    assert senders.count(None) == len(senders) - 1
    assert count(month, "email_service_providers", "credentials IS NOT NULL") == 0


def test_a_seeded_job_that_comes_again_is_a_repeat(month: Database) -> None:
    letters = month.read("SELECT value, row_id FROM dead_letters WHERE row_id IS NOT NULL AND starts_with(job_id, 'job-')")
    assert len(letters) > 20
    for value, row_id in letters:
        (job,) = decode(bytes(value), DecodeLimits())
        assert isinstance(job, Job) and job.type in JOB_TYPES
        key = job_key(job.tenant, job.job_id)
        assert month.run(partial(ledger.find_keys, keys=[key])) == {key: (row_id, job.content_hash)}


def test_records_that_are_no_jobs_are_refused_for_the_reason_that_is_told(month: Database) -> None:
    letters = month.read("SELECT value, reason, error FROM dead_letters WHERE row_id IS NULL")
    for value, reason, error in letters:
        (refusal,) = decode(bytes(value), DecodeLimits())
        assert not isinstance(refusal, Job)
        assert (refusal.reason, refusal.error) == (reason, error)  # type: ignore[union-attr]


def test_every_job_has_the_key_that_its_id_makes(month: Database) -> None:
    rows = month.read("SELECT j.tenant_id, j.job_id, k.key FROM email_jobs j LEFT JOIN email_job_keys k ON k.id = j.id")
    assert all(job_key(tenant, job_id) == key for tenant, job_id, key in rows)
    assert len(rows) == count(month, "email_job_keys")


def test_every_statement_of_the_product_holds_on_the_seeded_database(month: Database) -> None:
    month.run(queries.check)
    assert count(month, "email_templates") == len(JOB_TYPES)


# -- the same again ----------------------------------------------------------------------------------------------------


def test_the_same_seed_and_clock_tell_the_same_month_and_another_seed_another(postgres: Postgres, database: dict[str, Any]) -> None:
    short = plan(days=4, emails_a_day=40)
    found = []
    for number, story in enumerate((short, short, short._replace(seed=2))):
        postgres.create_database(name := f"{database['dbname']}_{number}")
        made = opened(postgres.parameters(name))
        made.run(partial(fill, plan=story))
        found.append(checksums(made))
        made.close()
        postgres.drop_database(name)
    first, second, other = found
    assert first == second
    assert all(first[table] != other[table] for table in ("email_jobs", "email_attempts", "email_tracking", "esp_weights"))


@pytest.mark.parametrize("esps", [ESPS[:1], ESPS[4:], ESPS[:2]])
def test_a_catalogue_of_any_size_makes_a_month(esps: tuple[Esp, ...], database: dict[str, Any]) -> None:
    made = opened(database)
    counts = made.run(lambda cursor: fill(cursor, plan(days=2, emails_a_day=30, esps=esps)))
    made_weights = made.read("SELECT weights FROM esp_weights")[0][0]
    assert counts["email_jobs"] > 20
    assert all(sum(row.values()) == 1000 for rows in made_weights.values() for row in rows.values())
    made.close()


# -- only where it may -------------------------------------------------------------------------------------------------


def test_the_command_fills_a_development_database_in_time_and_a_second_run_changes_nothing(
    database: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made, settings = opened(database), settings_for(database)
    start_s = time.process_time()  # the time on a busy machine's clock would say more about its neighbours
    seed.run(settings)
    assert time.process_time() - start_s < 10
    printed = capsys.readouterr().out
    assert "email_jobs" in printed and "is seeded" in printed
    assert count(made, "email_jobs", "created_at > now() - interval '2 days'") > 50
    weights = made.read("SELECT weights FROM esp_weights")[0][0]
    known = {stanza.provider for stanza in read_catalog(CATALOG)[0]}
    assert all(row.keys() <= known for rows in weights.values() for row in rows.values())
    assert count(made, "email_jobs", "position('{{' in subject) > 0 OR subject = ''") == 0
    before = checksums(made)
    seed.run(settings)
    assert "seeded before" in capsys.readouterr().out
    assert checksums(made) == before
    made.close()


@pytest.mark.parametrize("environment", ["production", "prod", "Production"])
def test_production_is_refused_before_anything_is_touched(environment: str) -> None:
    nowhere = {"host": "127.0.0.1", "port": 1, "dbname": "real", "user": "u"}
    with pytest.raises(BadSettings, match="ENVIRONMENT"):
        seed.run(settings_for(nowhere, ENVIRONMENT=environment))


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("email_jobs", "INSERT INTO email_jobs (id, job_id) VALUES (gen_random_uuid(), 'real')"),
        ("users", "INSERT INTO users (id) VALUES (77)"),
        ("suppressions", "INSERT INTO suppressions (address, reason) VALUES ('a@example.com', 'manual')"),
    ],
)
def test_a_database_with_rows_of_its_own_is_refused_and_left_as_it_was(table: str, statement: str, database: dict[str, Any]) -> None:
    made = opened(database)
    made.run(lambda cursor: cursor.execute(statement))
    before = checksums(made)
    with pytest.raises(BadSettings, match=rf"DB_NAME: .*\({table}\)"):
        seed.run(settings_for(database))
    assert checksums(made) == before
    assert count(made, "email_templates") == 0
    made.close()


def test_a_seeding_that_breaks_leaves_nothing(database: dict[str, Any]) -> None:
    def broken_subject(template: Any, data: Any) -> str:
        return "NUL \0 cannot be stored"

    made = opened(database)
    before = checksums(made)
    with pytest.raises(psycopg2.DataError):
        made.run(lambda cursor: fill(cursor, plan(days=2, emails_a_day=5, subject_of=broken_subject)))
    assert checksums(made) == before
    made.close()


def test_the_whole_program_ends_well_or_says_why_not(database: dict[str, Any], tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    opened(database).close()
    names = {"DB_HOST": "host", "DB_PORT": "port", "DB_NAME": "dbname", "DB_USER": "user", "DB_PASSWORD": "password"}
    given = {name: str(database[key]) for name, key in names.items() if key in database}
    environment = {"PATH": os.environ["PATH"], "STATE_DIR": str(tmp_path / "state"), "DB_SSL_MODE": "disable", **given}

    def seed_in(kind: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "supervisor.py"), "--seed"]
        return subprocess.run(command, cwd=tmp_path, env=environment | {"ENVIRONMENT": kind}, capture_output=True, text=True, timeout=60)

    refused = seed_in("production")
    assert refused.returncode == 3 and "--seed makes up emails" in refused.stderr
    done, again = seed_in("development"), seed_in("development")
    assert done.returncode == 0 and "is seeded" in done.stdout
    assert again.returncode == 0 and "seeded before" in again.stdout


def test_texts_with_tabs_backslashes_and_line_ends_come_out_as_they_went_in(database: dict[str, Any]) -> None:
    made = opened(database)
    odd = "a\tb\\n c\r\nd \\. \\N é"
    made.run(lambda cursor: fill(cursor, plan(days=1, emails_a_day=10, subject_of=lambda template, data: odd)))
    assert made.read("SELECT DISTINCT subject FROM email_jobs WHERE template <> 'inline'") == [(odd,)]
    made.close()
