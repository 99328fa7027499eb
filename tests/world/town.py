"""A running product between a Kafka that bad input goes into and fakes that good mail comes out of, and all that can be asked about it.

TEST_KAFKA=apache runs it with Apache Kafka instead of librdkafka's mock cluster.
"""

import json
import os
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from db import slots
from db.connection import Cursor
from db.ledger import Slot
from db.payloads import Vault
from mail.decode import decode
from mail.limits import DecodeLimits
from mail.record import Record
from sandbox.fakes.ledger import read_ledger
from sandbox.product import Product
from sandbox.world import World
from tests.world.bad_templates import Stored
from tests.world.records import MAX_JOB_BYTES, Json, Mail, spell, template_job
from workers.steps.bookkeeping import Bookkeeper, Topics
from workers.steps.letter import AGAIN, Batch

KAFKA = os.environ.get("TEST_KAFKA", "mock")
MARKER = "deadly-words"
WORKERS = 2  # the first serves the high lane, the second all others
NEIGHBOURS = 10  # before a case, and again after it
_STORE = """
    INSERT INTO email_templates (name, subject, html_content, text_content, variables, is_active)
    VALUES (%(name)s, %(subject)s, %(html)s, %(text)s, %(variables)s::jsonb, %(is_active)s)
"""
_DEAD = "SELECT source, reason, error, job_id, value, attempts, record_index FROM dead_letters"


class Source(NamedTuple):
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


class Dead(NamedTuple):
    """A row of dead_letters."""

    source: Source
    reason: str
    error: str
    job_id: str | None
    value: bytes
    attempts: int
    item: int | None


class Town:
    """The world, the product in it, and what was sent into it."""

    def __init__(self, world: World, folder: Path):
        self.world = world
        extra = {
            "WORKER_BATCH_SIZE": "25",
            "EXPRESS_WORKERS": "1",
            "MAX_JOB_BYTES": str(MAX_JOB_BYTES),
            "EMAIL_RETRY_DELAY_SECONDS": "1",
            "FAILPOINTS": f"record:{MARKER};{folder}",
        }
        self.product = Product(world, WORKERS, extra)
        self._producer = Producer({"bootstrap.servers": world.bootstrap_servers, "linger.ms": 5, "log_level": 0})

    def open(self, templates: Sequence[Stored]) -> None:
        self.product.prepare()
        with closing(self.product.database()) as database:
            for template in templates:
                database.run(partial(_store, template))
        self.product.start()

    # -- what goes in --------------------------------------------------------------------------------------------------

    def produce(self, values: Sequence[bytes | None], topic: str, partition: int) -> list[Source]:
        """Put these records into one partition, in this order; returns where they stand once the broker has them."""
        stands: list[Source] = []

        def note(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            stands.append(Source(topic, partition, message.offset() or 0))

        for value in values:
            self._producer.produce(topic, value, partition=partition, on_delivery=note)
        assert self._producer.flush(10) == 0
        return stands

    def store_due(self, value: bytes) -> str:
        """Put a template job where a throttled one waits: a row that is due. Returns the row's id."""
        record = Record(value, "normal", "email-jobs", 0, 0)
        batch = Batch([record])
        (job,) = decode(value, DecodeLimits())
        batch.add(record, job)
        batch.letters[0].fate = AGAIN
        books = Bookkeeper(Slot("elsewhere", 0, 1), Vault(), Topics("email-events", "email-dlq"), max_retries=3)
        with closing(self.product.database()) as database:
            database.run(lambda cursor: books.record(cursor, batch, []))
        return batch.letters[0].row_id

    def note_a_death_elsewhere(self, record: str) -> None:
        """As if another host had lost a worker over this record."""
        with closing(self.product.database()) as database:
            database.run(lambda cursor: slots.add_suspect(cursor, record))

    # -- what comes out ------------------------------------------------------------------------------------------------

    def ledger(self) -> Counter[str]:
        """How often each recipient got a mail."""
        return Counter(line["recipient"] for esp in self.world.esp_addresses for line in read_ledger(self.world.ledger(esp)))

    def dead_letters(self) -> list[Dead]:
        with closing(self.product.database()) as database:
            return [_dead(row) for row in database.read(_DEAD)]

    def count_dead_letters(self) -> int:
        with closing(self.product.database()) as database:
            return int(database.read("SELECT count(*) FROM dead_letters")[0][0])

    def suspects(self) -> dict[str, int]:
        """Records under whose hand workers died, and how often."""
        with closing(self.product.database()) as database:
            return database.run(slots.find_suspects)

    def status(self, row_id: str) -> str:
        with closing(self.product.database()) as database:
            return str(database.read("SELECT status FROM email_jobs WHERE id = %(id)s", {"id": row_id})[0][0])

    def told_dead_letters(self, count: int, limit_s: float = 10.0) -> dict[tuple[Source, int | None], tuple[bytes | None, Json]]:
        """What the dead letter topic says, by source and index: key and message; `count` says after how many to stop waiting."""
        settings = {"bootstrap.servers": self.world.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
        told: dict[tuple[Source, int | None], tuple[bytes | None, Json]] = {}
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition("email-dlq", 0, OFFSET_BEGINNING)])
            while len(told) < count and (message := consumer.poll(limit_s)) is not None:
                assert message.error() is None, message.error()
                letter = json.loads(message.value() or b"")
                told[Source(**letter["source"]), letter["index"]] = (message.key(), letter)
        return told

    def mails(self, recipient: str) -> list[Mail]:
        """The mails of one recipient, whole."""
        found = self._ask(f"api/mails?recipient={urllib.parse.quote(recipient)}")["mails"]
        return [_mail(self._ask(f"api/mails/{one['n']}")) for one in found if one["recipient"] == recipient]

    def requests(self, esp: str) -> bytes:
        """The bodies of all requests that a fake took, one after the other."""
        return b"".join(path.read_bytes() for path in sorted((self.world.folder / "mails").glob(f"{esp}-*.mails")))

    def processes(self) -> dict[str, tuple[int, int]]:
        """Process id and number of restarts of each process."""
        return {member["name"]: (member["pid"], member["restarts"]) for member in self.product.state()["members"]}

    def log(self) -> list[Json]:
        return [json.loads(line) for line in self.product.supervisor.log.read_text().splitlines() if line.startswith("{")]

    def _ask(self, path: str) -> Json:
        with urllib.request.urlopen(f"{self.world.inbox_address.rstrip('/')}/{path}", timeout=5) as answer:
            found: Json = json.load(answer)
        return found


def _store(template: Stored, cursor: Cursor) -> None:
    cursor.execute(_STORE, template.row())


def _dead(row: Sequence[Any]) -> Dead:
    source, reason, error, job_id, value, attempts, item = row
    return Dead(Source(**source), reason, error, job_id, bytes(value), attempts, item)


def _mail(found: Mapping[str, Any]) -> Mail:
    content = found["content"]
    headers = dict(content["headers"])
    text = content["text"].removesuffix("\n")  # over SMTP the last line ends too
    return Mail(found["recipient"], content["subject"], content["html"], text, headers, content["metadata"])


def neighbour(name: str) -> tuple[str, bytes]:
    """A good job and its recipient."""
    email = f"{name}@neighbours.example"
    return email, spell(template_job(name, recipient={"email": email, "name": "Neighbour"}))


class Street(NamedTuple):
    """The records of one partition in order: ten neighbours, what stands between, ten neighbours, and so on."""

    values: list[bytes | None]
    places: dict[str, list[int]]
    neighbours: dict[str, list[str]]


def street(name: str, groups: Mapping[str, Sequence[bytes | None]]) -> Street:
    """Neighbours around and between the groups: each group has ten before and ten after it."""
    values: list[bytes | None] = []
    places: dict[str, list[int]] = {}
    rows = [[neighbour(f"{name}-{row}-{n}") for n in range(NEIGHBOURS)] for row in range(len(groups) + 1)]
    values += [value for _, value in rows[0]]
    for row, (group, records) in zip(rows[1:], groups.items(), strict=True):
        places[group] = list(range(len(values), len(values) + len(records)))
        values += [*records, *[value for _, value in row]]
    neighbours = {group: [email for email, _ in [*rows[n], *rows[n + 1]]] for n, group in enumerate(groups)}
    return Street(values, places, neighbours)
