"""From jobs in Kafka to what their readers did: forked workers, fake ESPs that call back, and the same story on both sides.

Some requests are taken and never answered, so that only their events can tell; some events come twice, and out of order; and both
webhook workers are killed over it.
"""

import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from confluent_kafka import Producer

from mail.event import STATUS_RANK
from mail.template import is_marketing
from sandbox import fakes, traffic
from sandbox.children import wait_until
from sandbox.fakes.callbacks import Happening, Kind
from sandbox.fakes.ledger import read_ledger
from sandbox.fates import Fates
from sandbox.feedback import load_builders
from sandbox.product import Product
from sandbox.world import World
from tests.world.town import KAFKA

pytestmark = [pytest.mark.thorough, pytest.mark.world, *([pytest.mark.integration] if KAFKA != "mock" else [])]
EMAILS = 400
LIMIT_S = 60.0
SEED, SPEED = 3, 5_000_000.0
RATES = {
    "*": {
        "dropped": 0.03,
        "hard": 0.1,
        "soft": 0.05,
        "block": 0.05,
        "deferred": 0.2,
        "late": 0.05,
        "open": 0.5,
        "click": 0.3,
        "unsubscribe": 0.2,
        "complaint": 0.1,
    }
}
OPTIONS = {"seed": SEED, "speed": SPEED, "repeats": 0.3, "shuffle_s": 3_000_000.0, "rates": RATES}
UNANSWERED = {"reset_after": 0.15}
STATUSES = {
    "processed": "sent",
    "hard_bounce": "bounced",
    "late_bounce": "bounced",
    "soft_bounce": "bounced",
    "block": "bounced",
    "open": "opened",
    "machine_open": "opened",
    "click": "clicked",
    "complaint": "complained",
    "unsubscribe": "unsubscribed",
}


BUILDERS = load_builders(fakes.names())  # these only word and count: the world's own process signs with keys of its own


class Story(NamedTuple):
    """What the product has on record, and what the fakes' ledgers and fates say: by recipient, what is told, and in how many events."""

    jobs: dict[str, dict[str, Any]]
    happened: dict[str, list[str]]
    told: Counter[str]
    mails: Counter[str]
    tables: dict[str, list[tuple[Any, ...]]]
    log: list[dict[str, Any]]


@pytest.fixture(scope="module")
def story(server_folder: Path) -> Iterator[Story]:
    calling = sorted(BUILDERS)
    with World(server_folder / "feedback", kafka=KAFKA, feedback=OPTIONS, esp_options=dict.fromkeys(calling, UNANSWERED)) as world:
        world.esp_addresses = {esp: url for esp, url in world.esp_addresses.items() if esp in calling}
        extra = {"WORKER_BATCH_SIZE": "20", "EXPRESS_WORKERS": "0", "WEBHOOK_WORKERS": "2"}
        product = Product(world, 2, extra)
        product.prepare()
        product.start()
        try:
            _produce(world)
            _kill_readers(product)
            wanted = _await_end(product, world)
            _await_silence(product)
            found = _look(product, world, *wanted)
        finally:
            code = product.stop()
        assert code == 0
        log = [json.loads(line) for line in product.supervisor.log.read_text().splitlines() if line.startswith("{")]
        yield found._replace(log=log)


def _produce(world: World) -> None:
    producer = Producer({"bootstrap.servers": world.bootstrap_servers})
    for piece in traffic.make(EMAILS, SEED, repeats=0.0, bad=0.0):
        producer.produce(piece.topic, piece.value, piece.key)
    assert producer.flush(10) == 0


def _kill_readers(product: Product) -> None:
    """Each webhook worker once, with events in hand."""
    for slot, kept in ((0, 100), (1, 400)):
        wait_until(lambda kept=kept: _count_kept(product) >= kept, LIMIT_S, "events to kill over", lambda: str(product.counts()))  # type: ignore[misc]
        (victim,) = [member["pid"] for member in product.state()["members"] if (member["role"], member["slot"]) == ("webhook", slot)]
        os.kill(victim, signal.SIGKILL)


def _count_kept(product: Product) -> int:
    with closing(product.database()) as database:
        return int(database.read("SELECT count(*) FROM email_tracking WHERE job_id IS NOT NULL")[0][0])


def _await_end(product: Product, world: World) -> tuple[dict[str, list[str]], Counter[str]]:
    """Until every event that the ESPs report is a tracking row; by recipient, what happened, and how many events tell it."""
    wait_until(lambda: len(_mails(world)) == EMAILS, LIMIT_S, "all mails to be taken", lambda: str(product.counts()))
    happened, told = _happened(world)
    wait_until(lambda: _count_kept(product) >= told.total(), LIMIT_S, "all events to be on record", lambda: str(product.counts()))
    return happened, told


def _await_silence(product: Product) -> None:
    """Until it is known of every partition that all that was in it a moment ago is applied, though its reader was killed and nothing
    comes any more."""
    with closing(product.database()) as database:
        (now,) = database.read("SELECT now()")[0]
        so_far = "SELECT topic, min(coalesce(applied_until, '-infinity')) >= %(now)s FROM webhook_progress GROUP BY topic"
        all_known = dict.fromkeys((f"webhook-{esp}" for esp in BUILDERS), True)
        wait_until(
            lambda: dict(database.read(so_far, {"now": now})) == all_known,
            LIMIT_S,
            "all partitions to be known",
            lambda: str(database.read(so_far, {"now": now})),
        )


def _mails(world: World) -> Counter[str]:
    """How often each recipient got a mail."""
    return Counter(line["recipient"] for esp in world.esp_addresses for line in read_ledger(world.ledger(esp)))


def _happened(world: World) -> tuple[dict[str, list[str]], Counter[str]]:
    fates = Fates(SEED, SPEED, RATES)
    found: dict[str, list[str]] = defaultdict(list)
    told: Counter[str] = Counter()
    for esp in world.esp_addresses:
        for line in read_ledger(world.ledger(esp)):
            events = {happening.kind: _count_events(happening) for happening in fates.of(line)}
            found[line["recipient"]] += [kind for kind, count in events.items() if count]
            told[line["recipient"]] += sum(events.values())
    return found, told


def _count_events(happening: Happening) -> int:
    documents = [json.loads(post.body) for post in BUILDERS[happening.line["provider"]].posts([happening], happening.at)]
    return sum(len(document) if isinstance(document, list) else 1 for document in documents)


def _look(product: Product, world: World, wanted: dict[str, list[str]], told: Counter[str]) -> Story:
    with closing(product.database()) as database:
        names = ("recipient", "job_id", "status", "delivered_at", "opened_at", "clicked_at", "next_attempt_at")
        rows = database.read("SELECT recipient_email, job_id, status, delivered_at, opened_at, clicked_at, next_attempt_at FROM email_jobs")
        tables = {
            "suppressions": database.read("SELECT address, reason, source FROM suppressions"),
            "unsubscribed": database.read(
                "SELECT j.type, s.stream FROM suppressions s JOIN email_jobs j ON lower(j.recipient_email) = s.address AND j.tenant_id = s.tenant"
                " WHERE s.reason = 'unsubscribe'"
            ),
            "uncertain": database.read("SELECT attempt_id FROM uncertain_attempts"),
            "dead": database.read("SELECT reason FROM dead_letters"),
            "unmatched": database.read("SELECT id FROM unmatched_events"),
            "tracking": database.read("SELECT recipient, event_type, job_id FROM email_tracking"),
            "counters": database.read(
                "SELECT sum(sent), sum(delivered), sum(opened + opened_machine), sum(bounced), sum(bounced_hard), sum(complained)"
                " FROM esp_cohort_stats"
            ),
            "doubted": database.read("SELECT count(*) FROM email_attempts WHERE error IS NOT NULL AND state = 'accepted'"),
            "told": database.read("SELECT DISTINCT provider, event_type FROM email_tracking WHERE job_id IS NOT NULL"),
            "watermarks": database.read("SELECT provider FROM webhook_watermarks"),
            "progress": database.read("SELECT topic, count(*) FROM webhook_progress GROUP BY topic"),
        }
    return Story({row[0]: dict(zip(names, row, strict=True)) for row in rows}, wanted, told, _mails(world), tables, [])


def test_every_job_stands_where_its_reader_left_it(story: Story) -> None:
    expected = {
        r: max((STATUSES.get(k, k) for k in kinds), key=STATUS_RANK.__getitem__, default="sent") for r, kinds in story.happened.items()
    }
    assert {recipient: job["status"] for recipient, job in story.jobs.items()} == expected
    assert len({job["status"] for job in story.jobs.values()}) >= 4


def test_everything_that_can_happen_to_a_mail_did_and_each_esp_told_of_it(story: Story) -> None:
    kinds = {kind for kinds in story.happened.values() for kind in kinds}
    assert kinds == set(get_args(Kind))
    for esp in BUILDERS:
        assert {"delivered", "deferred", "opened", "bounced"} <= {kind for provider, kind in story.tables["told"] if provider == esp}


def test_no_mail_was_sent_twice_and_nothing_is_in_doubt_or_waits(story: Story) -> None:
    assert set(story.mails.values()) == {1}
    assert story.tables["uncertain"] == story.tables["dead"] == story.tables["unmatched"] == []
    assert story.tables["doubted"][0][0] > 10, "many a request was taken and not answered"
    assert all(job["next_attempt_at"] is None for job in story.jobs.values())


def test_first_columns_say_what_happened(story: Story) -> None:
    for recipient, kinds in story.happened.items():
        job = story.jobs[recipient]
        assert (job["delivered_at"] is not None) == ("delivered" in kinds)
        assert (job["opened_at"] is not None) == bool({"open", "machine_open"} & set(kinds))
        assert (job["clicked_at"] is not None) == ("click" in kinds)


def test_each_event_is_one_tracking_row_though_a_third_came_twice(story: Story) -> None:
    kept = Counter(recipient for recipient, _, job_id in story.tables["tracking"] if job_id)
    assert kept == +story.told


def test_the_counters_add_up(story: Story) -> None:
    kinds = [set(kinds) for kinds in story.happened.values()]
    ((sent, delivered, opened, bounced, hard, complained),) = story.tables["counters"]
    assert sent == EMAILS
    assert delivered == sum("delivered" in k for k in kinds)
    assert opened == sum(bool({"open", "machine_open"} & k) for k in kinds)
    assert bounced == sum(bool({"hard_bounce", "soft_bounce", "block", "late_bounce"} & k) for k in kinds)
    surely_hard = sum(bool({"hard_bounce", "late_bounce"} & k) for k in kinds)
    assert surely_hard <= hard <= surely_hard + sum("dropped" in k for k in kinds), "some ESPs say that they dropped a dead address"
    assert complained == sum("complaint" in k for k in kinds)


def test_those_who_bounced_or_complained_are_suppressed_and_nobody_else(story: Story) -> None:
    reasons = {"hard_bounce": "hard-bounce", "late_bounce": "hard-bounce", "complaint": "complaint", "unsubscribe": "unsubscribe"}
    wanted = {(recipient, reasons[kind]) for recipient, kinds in story.happened.items() for kind in kinds if kind in reasons}
    # not all ESPs say why they dropped a mail, so a dropped one may be suppressed or not
    dropped = {(recipient, "hard-bounce") for recipient, kinds in story.happened.items() if "dropped" in kinds}
    assert {(address, reason) for address, reason, _ in story.tables["suppressions"]} - dropped == wanted


def test_an_unsubscribe_has_the_stream_of_its_mail(story: Story) -> None:
    assert story.tables["unsubscribed"]
    for job_type, stream in story.tables["unsubscribed"]:
        assert stream == ("marketing" if is_marketing(job_type) else "transactional"), job_type


def test_up_to_when_all_is_applied_is_known_of_every_partition(story: Story) -> None:
    assert {topic for topic, _ in story.tables["progress"]} == {f"webhook-{esp}" for esp in BUILDERS}


def test_every_esp_that_calls_back_has_a_watermark_and_no_error_was_logged(story: Story) -> None:
    assert {provider for (provider,) in story.tables["watermarks"]} == {"postmark", "sendgrid", "ses", "socketlabs", "sparkpost"}
    errors = [line["message"] for line in story.log if line["level"] == "error"]
    assert errors == []
    assert [line["message"] for line in story.log if line["level"] == "warning" and line["logger"].startswith("workers.")]
