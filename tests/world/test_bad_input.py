"""Bad input, through Kafka into forked workers, each piece between twenty good neighbours.

Every piece ends as a dead letter with its own bytes and a reason that names the field, or is sent as it should be; its neighbours
are sent once; and no worker dies, but over the one record that kills, which is set aside at the third death.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox.children import NotReady, wait_until
from sandbox.kafka_jars import missing_programs
from sandbox.world import World
from tests.conftest import refuse
from tests.world import bad_records, bad_templates, odd_records
from tests.world.records import Bad, Json, Odd, address, spell, template_job
from tests.world.town import KAFKA, MARKER, Dead, Source, Town, street

pytestmark = [pytest.mark.world, *([pytest.mark.integration] if KAFKA != "mock" else [])]
BAD = [*bad_records.all_of_them(), *bad_templates.all_of_them()]
ODD = odd_records.all_of_them()
ALL: list[Bad | Odd] = [*BAD, *ODD]
PARTITIONS = [(topic, number) for number in range(3) for topic in ("email-jobs", "email-jobs-high")]
FOR_TAGS = ("email-jobs-high", 3)
FOR_THE_KILLER = ("email-jobs", 7)
FOR_THE_KILLING_CALLBACK = ("webhook-sendgrid", 0)
LIMIT_S = 40.0
KILL_LIMIT_S = 60.0

each_bad = pytest.mark.parametrize("case", BAD, ids=[case.name for case in BAD])
each_odd = pytest.mark.parametrize("case", ODD, ids=[case.name for case in ODD])


class Fates(NamedTuple):
    """What became of the first wave: of each case its place in Kafka, of each group its neighbours."""

    stands: dict[str, Source]
    neighbours: dict[str, list[str]]
    dead: dict[tuple[Source, int | None], Dead]
    told: dict[tuple[Source, int | None], tuple[bytes | None, Json]]
    sent: Counter[str]
    processes_before: dict[str, tuple[int, int]]
    processes_after: dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def town(server_folder: Path) -> Iterator[Town]:
    if KAFKA == "apache" and (missing := missing_programs()):
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    folder = server_folder / "bad-input"
    with World(folder, kafka=KAFKA) as world:
        town = Town(world, folder / "kills")
        (folder / "kills").mkdir()
        town.open([*bad_templates.GOOD, *bad_templates.SPOILED])
        yield town
        assert town.product.stop() == 0


@pytest.fixture(scope="module")
def fates(town: Town) -> Fates:
    """Everything but the killer, in one wave over several partitions; what does not come in time is missed by its own test."""
    before = town.processes()
    stands: dict[str, Source] = {}
    neighbours: dict[str, list[str]] = {}
    groups = _grouped()
    for number, partition in enumerate(PARTITIONS):
        names = list(groups)[number :: len(PARTITIONS)]
        row = street(f"street-{number}", {name: [case.value for case in groups[name]] for name in names})
        sources = town.produce(row.values, *partition)
        for name in names:
            stands.update({case.name: sources[place] for case, place in zip(groups[name], row.places[name], strict=True)})
        neighbours |= row.neighbours
    _wait(town, _wanted_mails(neighbours))
    dead = {(letter.source, letter.item): letter for letter in town.dead_letters()}
    return Fates(stands, neighbours, dead, town.told_dead_letters(len(dead)), town.ledger(), before, town.processes())


def _grouped() -> dict[str, list[Bad | Odd]]:
    groups: dict[str, list[Bad | Odd]] = {}
    for case in ALL:
        groups.setdefault(case.group or case.name, []).append(case)
    return groups


def _wanted_mails(neighbours: dict[str, list[str]]) -> set[str]:
    good = {recipient for case in ALL for recipient in case.recipients}
    return good | {email for emails in neighbours.values() for email in emails}


def _wait(town: Town, wanted: set[str]) -> None:
    with suppress(NotReady):
        wait_until(lambda: len(town.ledger()) >= len(wanted) and town.count_dead_letters() >= len(BAD), LIMIT_S, "the end of the wave")


def test_no_two_cases_are_called_the_same() -> None:
    names = Counter(case.name for case in ALL)
    assert names.most_common(1)[0][1] == 1


@each_bad
def test_it_is_a_dead_letter_with_its_own_bytes_and_a_reason_that_names_the_field(fates: Fates, case: Bad) -> None:
    letter = _letter(fates, case)
    assert letter.value == case.value
    assert letter.reason == case.reason
    assert letter.error.startswith(case.field), letter.error
    assert letter.error.removeprefix(case.field)[:1] in (":", ",", " ", "", ".", "["), letter.error
    assert bad_templates.NAMED.get(case.name.removeprefix("template "), "") in letter.error
    assert "@cases" not in letter.error
    assert letter.attempts == 0


@each_bad
def test_consumers_of_the_dead_letter_topic_can_send_exactly_what_came_in(fates: Fates, case: Bad) -> None:
    letter = _letter(fates, case)
    key, told = fates.told[fates.stands[case.name], case.item]
    assert (told["reason"], told["error"], told["attempts"]) == (letter.reason, letter.error, 0)
    assert told["source"] == fates.stands[case.name]._asdict()
    assert told["at"]
    assert (key.decode() if key else None) == told["jobId"] == letter.job_id
    is_text = told.get("encoding") is None
    assert is_text == _is_utf8(case.value)
    assert (told["value"].encode() if is_text else base64.b64decode(told["value"], validate=True)) == case.value


@each_bad
def test_its_good_emails_and_its_neighbours_are_sent_once(fates: Fates, case: Bad) -> None:
    _assert_sent_once(fates, case)


@each_odd
def test_what_only_looks_like_trouble_is_sent_as_it_is(town: Town, fates: Fates, case: Odd) -> None:
    _assert_sent_once(fates, case)
    assert not [key for key in fates.dead if key[0] == fates.stands[case.name]]
    for recipient in case.recipients:
        (mail,) = town.mails(recipient)
        case.check(mail)


def _letter(fates: Fates, case: Bad) -> Dead:
    place = fates.stands[case.name], case.item
    assert place in fates.dead, f"no dead letter; of this record there are {[key for key in fates.dead if key[0] == place[0]]}"
    return fates.dead[place]


def _assert_sent_once(fates: Fates, case: Bad | Odd) -> None:
    neighbours = fates.neighbours[case.group or case.name]
    assert len(neighbours) == 20
    assert {email: fates.sent[email] for email in [*neighbours, *case.recipients]} == dict.fromkeys([*neighbours, *case.recipients], 1)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_nothing_else_is_sent_and_nothing_else_is_a_dead_letter(fates: Fates) -> None:
    assert fates.sent.keys() == _wanted_mails(fates.neighbours)
    assert fates.dead.keys() == {(fates.stands[case.name], case.item) for case in BAD}
    assert fates.told.keys() == fates.dead.keys()


def test_no_worker_died_over_any_of_it(fates: Fates) -> None:
    assert fates.processes_after == fates.processes_before


def test_the_database_says_the_same_as_the_fakes(town: Town, fates: Fates) -> None:
    wait_until(lambda: town.product.summary()["waiting"] == 0, 60, "the last batch on record")
    summary = town.product.summary()
    assert Counter(summary["sent"]) == fates.sent
    assert summary["uncertain"] == []


@pytest.mark.usefixtures("fates")
def test_no_error_and_no_address_is_in_the_log(town: Town) -> None:
    lines = town.log()
    assert lines
    assert {line["level"] for line in lines} <= {"info", "warning"}
    text = town.product.supervisor.log.read_text()
    assert not re.search(r"@(cases|neighbours|xn--bcher-kva)\.example|victim|Traceback", text)


@pytest.mark.usefixtures("fates")
def test_a_mail_whose_text_contains_another_mails_tag_arrives_unchanged(town: Town) -> None:
    tags = sorted({tag.decode() for tag in re.findall(rb"-[0-9a-f]{16}[sth]-", town.requests("sendgrid"))})
    assert len(tags) >= 3  # SendGrid's tags of mails that travelled together: the product made them up, nobody sent them in
    cases = [odd_records.tagged(f"real-tag-{n}", f"before {tag} after") for n, tag in enumerate(tags[:6])]
    row = street("tags", {"tags": [case.value for case in cases]})
    town.produce(row.values, *FOR_TAGS)
    recipients = [recipient for case in cases for recipient in case.recipients]
    wait_until(lambda: town.ledger().keys() >= {*recipients, *row.neighbours["tags"]}, LIMIT_S, "the mails with tags")
    for case in cases:
        (mail,) = town.mails(case.recipients[0])
        case.check(mail)
    ledger = town.ledger()
    assert all(ledger[email] == 1 for email in [*recipients, *row.neighbours["tags"]])


@pytest.mark.usefixtures("fates")
@pytest.mark.thorough
def test_a_record_that_kills_its_worker_is_set_aside_at_the_third_death(town: Town) -> None:
    before = town.processes()
    value = spell(template_job("killer", data={"words": MARKER}))
    row = street("killer", {"killer": [value]})
    stand = town.produce(row.values, *FOR_THE_KILLER)[row.places["killer"][0]]
    if KAFKA == "mock":  # where a dead member's partitions come back after 5 to 11 s only: one death of the three is another host's
        record = "/".join(map(str, stand))
        wait_until(lambda: record in town.suspects(), LIMIT_S, "the first death")
        town.note_a_death_elsewhere(record)
    letter = _wait_for_dead_letter(town, value)
    wait_until(lambda: town.ledger().keys() >= set(row.neighbours["killer"]), LIMIT_S, "the killer's neighbours")
    assert (letter.source, letter.reason, letter.attempts) == (stand, "crashes-worker", 0)
    ledger = town.ledger()
    assert {email: ledger[email] for email in row.neighbours["killer"]} == dict.fromkeys(row.neighbours["killer"], 1)
    assert ledger[address("killer")] == 0
    _assert_deaths(town, before, 2 if KAFKA == "mock" else 3)


@pytest.mark.usefixtures("fates")
def test_a_due_row_that_kills_its_worker_is_set_aside_at_the_third_death(town: Town) -> None:
    before = town.processes()
    value = spell(template_job("killing-row", data={"words": MARKER}, priority="high"))
    row_id = town.store_due(value)
    letter = _wait_for_dead_letter(town, value)
    assert letter.reason == "crashes-worker"
    assert town.status(row_id) == "dead"
    assert town.ledger()[address("killing-row")] == 0
    _assert_deaths(town, before, 3)
    assert town.suspects() == {}


@pytest.mark.usefixtures("fates")
@pytest.mark.thorough
def test_a_callback_that_kills_its_reader_is_set_aside_at_the_third_death(town: Town) -> None:
    before = town.processes()
    value = json.dumps({"headers": {}, "body": json.dumps([{"event": "open", "words": MARKER}])}).encode()
    stand = town.produce([value], *FOR_THE_KILLING_CALLBACK)[0]
    if KAFKA == "mock":
        record = "/".join(map(str, stand))
        wait_until(lambda: record in town.suspects(), LIMIT_S, "the first death")
        town.note_a_death_elsewhere(record)
    letter = _wait_for_dead_letter(town, value)
    assert (letter.source, letter.reason) == (stand, "crashes-worker")
    _assert_deaths(town, before, 2 if KAFKA == "mock" else 3)


def _wait_for_dead_letter(town: Town, value: bytes) -> Dead:
    wait_until(lambda: any(letter.value == value for letter in town.dead_letters()), KILL_LIMIT_S, "the killer's dead letter")
    (letter,) = [letter for letter in town.dead_letters() if letter.value == value]
    return letter


def _assert_deaths(town: Town, before: dict[str, tuple[int, int]], wanted: int) -> None:
    def deaths() -> int:
        return sum(restarts - before[name][1] for name, (_, restarts) in town.processes().items())

    wait_until(lambda: deaths() >= wanted, 60, "the last death in supervisor.json")
    assert deaths() == wanted
    assert town.processes().keys() == before.keys()
