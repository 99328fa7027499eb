"""A dead-letter queue of every kind is replayed by two operators at once while two workers drain it: each email goes out exactly once.

REPLAYS says how many dead letters (default 3,000); the evidence is 10,000.
"""

import json
import os
import threading
from collections import Counter

import pytest

from db import dead_letters, due, templates
from db.dead_letters import DeadLetter
from db.payloads import Vault
from mail.ids import new_id
from mail.outcome import NoReply
from mail.template import Template
from tests.operations.console import Console
from tests.workers.ledger_world import job_bytes
from tests.workers.loop_world import Loop

REPLAYS = int(os.environ.get("REPLAYS", "3000"))
PAGE = 500
LANES = ["high", "normal", "bulk"]
# Of twenty letters, in turn. The last two kinds cannot be sent by any replay.
KINDS = (
    ("rejected",) * 9
    + ("no template",) * 3
    + ("personalization",) * 2
    + ("unseen",) * 2
    + ("whole record", "abandoned", "reused", "no job")
)


def address(number, part=""):
    return f"r{number}{part}@example.com"


def request_of(number, *people):
    body = {"From": "me@example.com", "Subject": "s", "TextBody": "t", "Personalizations": [{"To": person} for person in people]}
    return json.dumps({"MessageID": f"m{number}", "UserID": 0, "body": body}).encode()


def value_of(number, kind):
    return {
        "no template": lambda: job_bytes(f"j{number}", address(number), type="email", template="late"),
        "personalization": lambda: request_of(number, address(number)),
        "whole record": lambda: request_of(number, address(number, "a"), address(number, "b")),
        "reused": lambda: job_bytes("taken", address(number)),
        "no job": lambda: b"\xff" + str(number).encode(),
    }.get(kind, lambda: job_bytes(f"j{number}", address(number)))()


def kill_all(loop, kinds):
    """Each becomes a dead letter in its own way."""
    loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
    loop.deliver(job_bytes("taken", "first@example.com"))
    loop.wire.accepted.clear()
    by_kind = {kind: [n for n, k in enumerate(kinds) if k == kind] for kind in set(kinds)}
    for kind, numbers in by_kind.items():
        loop.wire.behave = lambda r, kind=kind: NoReply(True, "no answer") if kind == "abandoned" else ["rejected"] * len(r.messages)
        values = [value_of(n, kind) for n in numbers]
        if kind in ("unseen", "whole record"):
            letters = [DeadLetter(new_id(), "crashes-worker", "", None, 0, {"topic": "email-jobs"}, value) for value in values]
            loop.ledger.database.run(lambda cursor, letters=letters: dead_letters.insert(cursor, letters))
        else:
            for start in range(0, len(values), PAGE):
                loop.deliver(*values[start : start + PAGE])


def drain(loop, is_over, sent):
    """What a worker does: lease and deliver, until nothing is due and no operator is at work."""
    while True:
        was_over = is_over.is_set()
        rows = loop.ledger.database.run(lambda c: due.lease(c, loop.slot.place, LANES, PAGE, 300, Vault()))
        loop.source.waiting += rows
        loop.delivery.turn()
        if was_over and not rows:
            break
    sent += [address for _, address in loop.wire.accepted]


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_each_of_a_mixed_queue_is_sent_exactly_once_however_many_replay_it(database, tmp_path):
    kinds = [KINDS[n % len(KINDS)] for n in range(REPLAYS)]
    loops = [Loop(database, tmp_path, slot=n) for n in (0, 1)]
    console = Console(database, tmp_path)
    kill_all(loops[0], kinds)
    console.call("uncertain", "abandon", "--all")
    letters = loops[0].ledger.count("dead_letters")
    assert (letters, loops[0].wire.accepted) == (REPLAYS, [])
    late = Template(name="late", version="", type="transactional", subject="s", html="h", text="t", variables=(), is_active=True)
    loops[0].ledger.database.run(lambda cursor: templates.insert_missing(cursor, [late]))
    for loop in loops:
        loop.wire.behave = lambda request: ["accepted"] * len(request.messages)
        loop.delivery = type(loop.delivery)(loop._tools(), PAGE, 60.0)  # with an empty shelf: the template is new

    is_over, sent, said = threading.Event(), [], []
    workers = [threading.Thread(target=drain, args=(loop, is_over, sent)) for loop in loops]
    operators = [threading.Thread(target=lambda: said.append(console.type("dlq", "replay", "--all").text)) for _ in range(2)]
    for thread in workers + operators:
        thread.start()
    for thread in operators:
        thread.join()
    said.append(console.type("dlq", "replay", "--all").text)
    is_over.set()
    for thread in workers:
        thread.join()
    judge(loops[0].ledger, kinds, sent, said)
    for loop in loops:
        loop.flight_log.close()
        loop.ledger.database.close()


def judge(ledger, kinds, sent, said):
    wanted = Counter(address(n) for n, kind in enumerate(kinds) if kind not in ("whole record", "reused", "no job"))
    wanted += Counter(address(n, part) for n, kind in enumerate(kinds) if kind == "whole record" for part in "ab")
    assert Counter(sent) == wanted, said
    stay = sum(kind in ("reused", "no job") for kind in kinds)
    assert ledger.count("dead_letters", "replayed_at IS NULL AND reason IN ('id-reused', 'not-json')") == stay
    assert ledger.count("dead_letters", "replayed_at IS NOT NULL") == len(kinds) - stay
    assert ledger.count("dead_letters") == len(kinds), "history is kept, and nobody died again"
    rejected = sum(kind in ("rejected", "personalization") for kind in kinds)
    assert ledger.count("email_attempts", "state = 'rejected'") == rejected
    assert ledger.count("email_jobs", "status = 'sent' AND generation = 1 AND attempts = 2") == rejected + kinds.count("abandoned")
    replayed = [id_ for (ids,) in ledger.database.read("SELECT details->'ids' FROM audit_log WHERE action = 'dlq replay'") for id_ in ids]
    assert len(replayed) == len(set(replayed)) == len(kinds) - stay
    assert ledger.count("email_jobs", "status NOT IN ('sent')") == 0
