"""One bad address among a thousand costs itself only, and few requests: counted at the fake, through the real loop and adapters."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from esp import base
from esp.call import Answer
from esp.sparkpost import Esp
from mail.ids import from_wire
from mail.outcome import Reply, Request
from sandbox.fakes.ledger import read_ledger
from tests.world.wired_loop import Fakes, Wire, WiredLoop, running_fakes

RECIPIENTS = 1_000
BAD = "person-0777@neighbours.example"
HALVINGS = math.ceil(math.log2(RECIPIENTS))

pytestmark = [pytest.mark.world, pytest.mark.thorough]


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[Fakes]:
    with running_fakes(tmp_path) as running:
        yield running


@pytest.fixture
def open_loop(fakes: Fakes, database: dict[str, Any], tmp_path: Path) -> Iterator[Callable[[str], WiredLoop]]:
    loops: list[WiredLoop] = []

    def start(provider: str) -> WiredLoop:
        fakes.behave(provider, bad_recipients=[BAD])
        loops.append(WiredLoop(database, tmp_path, fakes, provider))
        return loops[-1]

    yield start
    for loop in loops:
        loop.close()


def a_thousand() -> bytes:
    """One content request; so all its mails are one batch."""
    people = [{"To": {"email": f"person-{n:04}@neighbours.example"}, "Substitutions": {"name": f"P{n}"}} for n in range(RECIPIENTS)]
    body = {
        "From": {"email": "me@example.com"},
        "Subject": "Hello {{name}}",
        "Content": [{"type": "text/plain", "value": "Hello {{name}}"}],
        "Personalizations": people,
    }
    return json.dumps({"BatchID": 0, "MessageID": "thousand", "UserID": 0, "headers": {}, "body": body}).encode()


class Mumbling(Wire):
    """As some refusals are: they say that something is wrong, and not with whom."""

    def send_all(
        self, requests: Sequence[Request], on_leaving: Callable[[Request], bool], may_begin: Callable[[Request], bool] = lambda r: True
    ) -> Iterator[Answer]:
        vague = json.dumps({"errors": [{"message": "Bad Request", "field": None, "help": None}]}).encode()
        for request, reply in super().send_all(requests, on_leaving, may_begin):
            is_no = isinstance(reply, Reply) and reply.status == 400
            yield request, msgspec.structs.replace(reply, body=vague) if is_no else reply


def statuses(loop: WiredLoop) -> dict[str, int]:
    return dict(loop.ledger.database.read("SELECT status, count(*) FROM email_jobs GROUP BY status"))


def taken(loop: WiredLoop) -> list[str]:
    return sorted(line["recipient"] for line in read_ledger(loop.fakes.ledger(loop.provider)))


def good() -> list[str]:
    return sorted({f"person-{n:04}@neighbours.example" for n in range(RECIPIENTS)} - {BAD})


def assert_one_is_dead(loop: WiredLoop, most_requests: int) -> None:
    assert taken(loop) == good()
    assert statuses(loop) == {"sent": RECIPIENTS - 1, "dead": 1}
    dead = loop.ledger.database.read("SELECT j.recipient_email, d.reason FROM dead_letters d JOIN email_jobs j ON j.id = d.row_id")
    assert dead == [(BAD, "rejected")]
    assert loop.ledger.count("email_attempts") == RECIPIENTS, "what was refused for a neighbour goes again under the same attempt"
    requests = loop.fakes.done(loop.provider).total()
    print(f"\n{loop.provider}: {requests} requests for {RECIPIENTS} mails")
    assert requests <= most_requests


@pytest.mark.parametrize(
    ("provider", "most_requests"),
    [
        ("sendgrid", 2),  # all together, then all but the one that was named
        ("postmark", 2),  # each has an answer of its own
        ("socketlabs", 100),  # the failures are listed
        ("ses", 20 + 2 * math.ceil(math.log2(50))),  # a bad address refuses all fifty
        ("smtp", 1_000),
    ],
)
def test_one_bad_address_among_a_thousand_costs_itself_only(
    open_loop: Callable[[str], WiredLoop], provider: str, most_requests: int
) -> None:
    loop = open_loop(provider)
    loop.deliver(a_thousand())
    assert_one_is_dead(loop, most_requests)


def test_a_refusal_that_names_nobody_is_halved_until_the_bad_one_is_alone(
    open_loop: Callable[[str], WiredLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.world.wired_loop.Wire", Mumbling)
    loop = open_loop("sendgrid")
    loop.deliver(a_thousand())
    assert_one_is_dead(loop, 2 * HALVINGS + 1)
    assert loop.fakes.done("sendgrid").total() > HALVINGS


def test_sparkpost_only_counts_so_all_are_in_doubt_until_its_events_tell(open_loop: Callable[[str], WiredLoop]) -> None:
    loop = open_loop("sparkpost")
    loop.deliver(a_thousand())
    assert taken(loop) == good()
    assert statuses(loop) == {"uncertain": RECIPIENTS}
    assert loop.fakes.done("sparkpost").total() == 1
    rows = loop.ledger.database.read("SELECT attempt_id::text, recipient_email FROM email_jobs")
    found = search(loop, [base.Sought(*row) for row in rows])
    assert [recipient for attempt_id, recipient in rows if not found[attempt_id]] == [BAD]
    assert {from_wire(str(line["attempt_id"])) for line in read_ledger(loop.fakes.ledger("sparkpost"))} == {i for i in found if found[i]}


def search(loop: WiredLoop, attempts: list[base.Sought]) -> dict[str, bool]:
    """What the ESP's own records say ten minutes later, over the wire."""
    esp = Esp(loop.accounts[0], now=lambda: time.time() + 600.0)
    searches = {id(one.request): one for one in esp.find(attempts)}
    found: dict[str, bool] = {}
    with closing(Wire()) as wire:
        for request, reply in wire.send_all([one.request for one in searches.values()], lambda _: True):
            found |= esp.read_found(searches[id(request)], reply)
    return found
