"""Every fault that an ESP can make, and what must become of the mails that meet it.

A run sends a few mails for each fault through one ESP, half of the requests into the fault and half beside it, lets everything
that waits go again, and compares the fakes' ledger with ours. It must never take a doubt for explained whose own words do not
name the fault of its mail.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from sandbox.traffic import Wanted
from tests.chaos.judge import AttemptRow, JobRow, Material, Rows, Verdict, judge
from tests.chaos.run import read_rows, taken_in
from tests.workers.ledger_world import job_bytes
from tests.world.wired_loop import WiredLoop

TENANTS = tuple(range(1, 9))  # an account each, so that eight requests leave at once
MAILS = 3  # of each tenant, for each fault
HASTE_S = 0.5  # the total deadline where the ESP lets us wait
ASKED_S, CLAMPED_S, OURS_S = 900.0, 3600.0, 60.0
RESET = r"reset|aborted|disconnected|without response|broken pipe|timed out"
SMTP, SPARKPOST, POSTMARK = frozenset({"smtp"}), frozenset({"sparkpost"}), frozenset({"postmark"})
# Its 202 is all it says: what happens to the body after that is nobody's loss.
SENDGRID = frozenset({"sendgrid"})


class Fate(StrEnum):
    SENT = "sent"
    AGAIN = "again"  # certainly not taken, and sent later
    DOUBT = "in doubt"
    DEAD = "dead"  # the bad address itself, nobody else


class Fault(NamedTuple):
    """`step` is what the fake is told, `words` what a doubt must say, `but` the ESPs for which something else comes of it.

    `wait_s` is how long a refused mail has to wait then, `is_slow`: our own deadline ends it. At the ESPs of `mended` some of those
    who met it may be sent all the same.
    """

    name: str
    step: Mapping[str, Any]
    fate: Fate
    words: str = ""
    but: tuple[tuple[frozenset[str], Fate], ...] = ()
    wait_s: float | None = None
    is_slow: bool = False
    mended: frozenset[str] = frozenset()

    def fate_at(self, esp: str) -> Fate:
        return next((fate for esps, fate in self.but if esp in esps), self.fate)


def _throttle(form: str, wait_s: float) -> Fault:
    return Fault(f"429, Retry-After {form}", {"do": "throttle", "retry_after": form}, Fate.AGAIN, wait_s=wait_s)


def _before(status: int, *but: tuple[frozenset[str], Fate]) -> Fault:
    # over SMTP a refusal is a no
    step = {"do": "error_before", "status": status}
    return Fault(f"{status} before taking", step, Fate.DOUBT, f"HTTP {status}", but=((SMTP, Fate.AGAIN), *but))


def _after(status: int) -> Fault:
    return Fault(f"{status} after taking", {"do": "error_after", "status": status}, Fate.DOUBT, f"HTTP {status}|{RESET}")


def _slow(name: str, deed: str, *but: tuple[frozenset[str], Fate]) -> Fault:
    return Fault(name, {"do": deed}, Fate.DOUBT, "total deadline", but=but, is_slow=True)


PARTIAL = Fault("one bad address a request", {}, Fate.DEAD, "recipients accepted, not told which", but=((SPARKPOST, Fate.DOUBT),))
FAULTS = (
    *[_throttle(form, ASKED_S) for form in ("seconds", "date", "fraction")],
    *[_throttle(form, OURS_S) for form in ("none", "past", "negative", "garbage")],
    _throttle("endless", CLAMPED_S),
    *[_before(status) for status in (500, 502)],
    _before(503, (POSTMARK, Fate.AGAIN)),  # its maintenance is a documented no
    _before(504),
    *[_after(status) for status in (500, 502, 503, 504)],
    _slow("hang before taking", "hang_before"),
    _slow("hang after taking", "hang_after"),
    # over SMTP nothing of the mail has been said by then, and what met it on a kept connection is sent over a fresh one at once
    Fault("reset before the body", {"do": "reset_unread"}, Fate.DOUBT, RESET, but=((SMTP, Fate.AGAIN),), mended=SMTP),
    Fault("reset before taking", {"do": "reset_before"}, Fate.DOUBT, RESET),
    Fault("reset after taking", {"do": "reset_after"}, Fate.DOUBT, RESET),
    _slow("slow drip, body", "drip", (SENDGRID, Fate.SENT)),
    _slow("slow drip, headers", "drip_headers"),
    Fault("malformed", {"do": "malformed"}, Fate.DOUBT, "HTTP 200|SMTP -1", but=((SENDGRID, Fate.SENT),)),
    Fault("a hotel's page", {"do": "answer", "status": 200, "body": "<html>Log in"}, Fate.DOUBT, "(HTTP|SMTP) 200 <html>"),
    Fault("cut off", {"do": "cut"}, Fate.DOUBT, "IncompleteRead|ended within a reply"),
    Fault("huge", {"do": "huge"}, Fate.DOUBT, "HTTP 200|reply has no end", but=((SENDGRID, Fate.SENT),)),
    Fault("redirect", {"do": "redirect"}, Fate.DOUBT, "HTTP 307|SMTP 354"),
    PARTIAL,
)
EMAILS_A_ROUND = len(FAULTS) * len(TENANTS) * MAILS
# how long a refused mail waits, from the moment at which that was written down
_WAITS = """
    SELECT recipient_email, EXTRACT(EPOCH FROM next_attempt_at - updated_at)::float8 FROM email_jobs WHERE next_attempt_at IS NOT NULL
"""
_BEHAVIOUR = {"retry_after_s": int(ASKED_S), "drip_interval_s": 0.1, "huge_bytes": 5 << 20}


@dataclass
class Cell:
    """What one fault came to at one ESP. `met` counts the mails whose first request met it."""

    fault: Fault
    met: int = 0
    recipients: list[str] = field(default_factory=list)
    waits_s: dict[str, float] = field(default_factory=dict)
    fates: Counter[Fate] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


@dataclass
class Run:
    """All faults at one ESP, and the judge's word over all mails together."""

    esp: str
    cells: list[Cell]
    taken: int
    verdict: Verdict

    @property
    def red(self) -> list[str]:
        """Everything that is not as it must be."""
        found = [f"{check}: {sentence}" for check, sentences in self.verdict.findings.items() for sentence in sentences]
        return found + [f"{cell.fault.name}: {sentence}" for cell in self.cells for sentence in cell.findings]


def run(loop: WiredLoop, rounds: int) -> Run:
    """Send through every fault, `rounds` times over."""
    cells = [Cell(fault) for fault in FAULTS]
    wanted = [one for turn in range(rounds) for cell in cells for one in _meet(loop, cell, turn)]
    rows = read_rows(loop.ledger.database)
    taken = taken_in([loop.fakes.ledger(loop.provider)])
    for cell in cells:
        _look(loop.provider, cell, rows)
    return Run(loop.provider, cells, len(taken), judge(Material(wanted, taken, rows, deaths=[], has_faults=True)))


def _meet(loop: WiredLoop, cell: Cell, turn: int) -> list[Wanted]:
    """One round of one fault: the mails meet it, the fake calms down, what waits goes again."""
    fault, fakes, esp = cell.fault, loop.fakes, loop.provider
    mails = list(_mails(fault, turn))
    before = fakes.done(esp)
    fakes.behave(esp, **_BEHAVIOUR, **_orders(fault, len(mails)))
    loop.wire.timeout_s = HASTE_S if fault.is_slow else 20.0
    loop.deliver(*[job_bytes(name, recipient, tenant=tenant) for name, recipient, tenant in mails])
    requests = fakes.done(esp) - before
    cell.met += _count_met(esp, fault, requests)
    cell.waits_s |= dict(loop.ledger.database.read(_WAITS))
    fakes.behave(esp, bad_recipients=["@refused.example"])
    loop.wire.timeout_s = 20.0
    loop.settle()
    cell.recipients += [recipient for _, recipient, _ in mails]
    return [Wanted(r, name, "rejected" if is_bad(r) and fault.fate_at(esp) is Fate.DEAD else "") for name, r, _ in mails]


def _orders(fault: Fault, mails: int) -> dict[str, Any]:
    return {"script": [fault.step, "ok"] * mails} if fault.step else {"bad_recipients": ["@refused.example"]}


def _count_met(esp: str, fault: Fault, requests: Counter[str]) -> int:
    """How many mails a round's requests brought to the fault."""
    if fault is PARTIAL:
        return len(TENANTS) * (MAILS if fault.fate_at(esp) is Fate.DOUBT else 1)
    return requests[fault.step["do"]] * (1 if esp == "smtp" else MAILS)


def _mails(fault: Fault, turn: int) -> Iterator[tuple[str, str, int]]:
    """Job id, recipient and tenant of each mail; where addresses are the fault, each tenant's first is bad."""
    prefix = f"f{FAULTS.index(fault)}-{turn}"
    for tenant in TENANTS:
        for number in range(MAILS):
            domain = "refused.example" if fault is PARTIAL and number == 0 else "faults.example"
            yield f"{prefix}-{tenant}-{number}", f"{prefix}-{tenant}-{number}@{domain}", tenant


def is_bad(recipient: str) -> bool:
    return recipient.endswith("@refused.example")


# -- what came of it ---------------------------------------------------------------------------------------------------


def _look(esp: str, cell: Cell, rows: Rows) -> None:
    mine = set(cell.recipients)
    jobs = [job for job in rows.jobs if job.recipient in mine]
    attempts = Counter(attempt.row_id for attempt in rows.attempts)
    cell.fates = Counter(_fate_of(job, attempts[job.row_id]) for job in jobs)
    cell.findings = [*_wrong_fates(esp, cell), *_unnamed(cell.fault, jobs, rows), *_wrong_waits(esp, cell), *_resent(jobs, rows.attempts)]


def _fate_of(job: JobRow, attempts: int) -> Fate:
    if job.status == "uncertain":
        return Fate.DOUBT
    if job.status == "dead":
        return Fate.DEAD
    return Fate.AGAIN if attempts > 1 else Fate.SENT


def _wrong_fates(esp: str, cell: Cell) -> Iterator[str]:
    """Those who met the fault have its fate, all others were sent at once.

    A deadline as short as that of the slow faults may hit a neighbour too, or somebody who has not even left, where the machine
    is busy; who was hit must be told all the same.
    """
    due, met = cell.fault.fate_at(esp), cell.met
    wanted = Counter({due: met}) + Counter({Fate.SENT: len(cell.recipients) - met})
    is_near = cell.fault.is_slow and Fate.DEAD not in cell.fates and cell.fates[due] * 2 >= met
    is_mended = esp in cell.fault.mended and cell.fates.keys() <= {due, Fate.SENT} and cell.fates[due] <= met
    if not met or not (cell.fates == wanted or is_near or is_mended):
        yield f"{_spelled(cell.fates)}, but it should be {_spelled(wanted)}"


def _unnamed(fault: Fault, jobs: Sequence[JobRow], rows: Rows) -> Iterator[str]:
    """Doubts whose words do not name the fault that their mail met."""
    for job in jobs:
        words = rows.doubts.get(job.attempt_id, "no word at all")
        if job.status == "uncertain" and not (fault.words and re.search(fault.words, words, re.IGNORECASE)):
            yield f"{job.recipient} is in doubt, and no fault explains it: {words}"


def _wrong_waits(esp: str, cell: Cell) -> Iterator[str]:
    """A refused mail waits as long as the ESP asked for, an hour at most; SMTP has no word for it."""
    if cell.fault.wait_s is None:
        return
    due_s = OURS_S if esp == "smtp" else cell.fault.wait_s
    wrong = {round(wait_s) for wait_s in cell.waits_s.values() if abs(wait_s - due_s) > 30.0}
    if wrong or len(cell.waits_s) != cell.met:
        yield f"{len(cell.waits_s)} of {cell.met} wait, some for {sorted(wrong)} s, and {due_s:.0f} s are due"


def _resent(jobs: Sequence[JobRow], attempts: Sequence[AttemptRow]) -> Iterator[str]:
    """Attempts that were sent again although they had not been refused."""
    last = {job.row_id: job.attempt_id for job in jobs}
    for attempt in attempts:
        if attempt.row_id in last and attempt.attempt_id != last[attempt.row_id] and attempt.state != "not_taken":
            yield f"{attempt.attempt_id} is {attempt.state}, and another attempt followed"


def table(runs: Sequence[Run]) -> str:
    """Faults by ESPs: what became of the mails, and below the numbers that have to be 0."""
    rows = [[cell.fault.name, *[_spelled(run.cells[place].fates) for run in runs]] for place, cell in enumerate(runs[0].cells)]
    sums: list[tuple[str, list[int]]] = [
        ("emails", [run.verdict.emails + sum(cell.fates[Fate.DEAD] for cell in run.cells) for run in runs]),
        ("taken by the fake", [run.taken for run in runs]),
        ("in doubt", [run.verdict.uncertain for run in runs]),
        ("  of them unnamed", [sum("no fault explains" in found for found in run.red) for run in runs]),
        ("lost", [len(run.verdict.findings["lost"]) for run in runs]),
        ("doubled", [len(run.verdict.findings["doubled"]) for run in runs]),
        ("anything else wrong", [len(run.red) for run in runs]),
    ]
    rows += [[title, *map(str, numbers)] for title, numbers in sums]
    head = ["", *[run.esp for run in runs]]
    return "\n".join(f"  {row[0]:<28}" + "".join(f"{cell:>22}" for cell in row[1:]) for row in [head, *rows])


def _spelled(fates: Mapping[Fate, int]) -> str:
    return ", ".join(f"{fates[fate]} {fate}" for fate in Fate if fates.get(fate))
