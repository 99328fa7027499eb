"""Doubt in a whole world without webhooks: what an ESP took and its own search finds counts as sent; all else is held, and nothing
goes out twice, though no grace is given and every policy says resend."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from sandbox import traffic
from sandbox.children import wait_until
from sandbox.fakes.ledger import read_ledger
from sandbox.product import Product
from sandbox.world import World
from tests.world.town import KAFKA
from workers.keeping.doubt_keeper import FOUND

pytestmark = [pytest.mark.thorough, pytest.mark.world, *([pytest.mark.integration] if KAFKA != "mock" else [])]
EMAILS, SEED, LIMIT_S = 120, 5, 90.0
SILENCES = {"reset_after": 0.2, "reset_before": 0.2}
ESPS = {"postmark": "search", "sparkpost": "search", "sendgrid": "no search"}
SETTINGS = {
    "WORKER_BATCH_SIZE": "4",
    "EXPRESS_WORKERS": "0",
    "UNCERTAIN_GRACE_SECONDS": "0",
    "UNCERTAIN_POLICY_MARKETING": "resend",
    "UNCERTAIN_POLICY_SMTP": "resend",
}


class Job(NamedTuple):
    status: str
    provider: str
    waits_for: str | None


class End(NamedTuple):
    jobs: dict[str, Job]
    mails: Counter[str]
    resends: int
    found_by: set[str]


@pytest.fixture(scope="module")
def end(server_folder: Path) -> Iterator[End]:
    with World(server_folder / "doubt", kafka=KAFKA, esp_options={"seed": SEED, **dict.fromkeys(ESPS, SILENCES)}) as world:
        world.esp_addresses = {esp: url for esp, url in world.esp_addresses.items() if esp in ESPS}
        product = Product(world, 2, SETTINGS)
        product.prepare()
        product.start()
        try:
            _produce(world)
            wait_until(lambda: _is_over(product), LIMIT_S, "every doubt to be looked at", lambda: str(product.counts()))
            yield _look(product, world)
        finally:
            code = product.stop()
        assert code == 0


def _produce(world: World) -> None:
    producer = Producer({"bootstrap.servers": world.bootstrap_servers})
    for piece in traffic.make(EMAILS, SEED, repeats=0.0, bad=0.0):
        producer.produce(piece.topic, piece.value, piece.key)
    assert producer.flush(10) == 0


def _is_over(product: Product) -> bool:
    """Is everything sent, or held for want of a watermark?"""
    counts = product.counts()
    with closing(product.database()) as database:
        held = database.read("SELECT count(*) FROM uncertain_attempts WHERE waits_for = 'no-watermark'")[0][0]
    return sum(counts.values()) >= EMAILS and counts.get("sent", 0) + held == sum(counts.values())


def _look(product: Product, world: World) -> End:
    with closing(product.database()) as database:
        rows = database.read(
            "SELECT j.recipient_email, j.status, j.provider, u.waits_for FROM email_jobs j LEFT JOIN uncertain_attempts u ON u.job_id = j.id"
        )
        resends = database.read("SELECT count(*) FROM audit_log")[0][0]
        found = database.read("SELECT DISTINCT provider FROM email_attempts WHERE error = %(found)s", {"found": FOUND})
    mails = Counter(line["recipient"] for esp in ESPS for line in read_ledger(world.ledger(esp)))
    return End({row[0]: Job(*row[1:]) for row in rows}, mails, resends, {row[0] for row in found})


def test_nothing_went_out_twice_and_no_policy_decided_anything(end: End) -> None:
    assert [recipient for recipient, count in end.mails.items() if count > 1] == []
    assert end.resends == 0


def test_what_an_esp_took_and_can_be_asked_about_is_sent(end: End) -> None:
    wrong = [r for r, job in end.jobs.items() if ESPS[job.provider] == "search" and (job.status == "sent") != (r in end.mails)]
    assert wrong == []
    assert end.found_by == {esp for esp, kind in ESPS.items() if kind == "search"}


def test_what_was_not_taken_or_cannot_be_asked_about_is_held(end: End) -> None:
    held = [(recipient, job) for recipient, job in end.jobs.items() if job.status == "uncertain"]
    assert all(job.waits_for == "no-watermark" for _, job in held)
    assert {job.provider for recipient, job in held if recipient in end.mails} == {"sendgrid"}
    assert {job.provider for recipient, job in held if recipient not in end.mails} == set(ESPS)
