"""The judge of a chaos run: what was asked for, what the fakes took, what the database says, and what the dead were doing.

Pure functions over lists. It must never excuse a finding because a worker was killed: only the flight log of that very worker,
copied at its death, excuses an uncertain row.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sandbox.product import WAITING
from sandbox.traffic import Wanted

SENT = frozenset({"sent", "deferred", "delivered", "opened", "clicked", "dropped", "bounced", "unsubscribed", "complained"})
# Far below the grace of 900 s: what certainly did not leave goes out again as soon as somebody has its bytes. In between lie
# further deaths of its partition's owners, and sessions of workers that were taken away; 107 s on a machine with other work.
SOON_S = 300.0
# How the settlement words its doubts (workers/flight/settlement.py); every other doubt is about an answer that a living worker got.
DOUBTS_OF_DEATHS = ("the worker died", "no flight log")


class Taken(NamedTuple):
    """A line of a fake's ledger; `attempt_id` is "" where the request carried none."""

    recipient: str
    attempt_id: str


class JobRow(NamedTuple):
    row_id: str
    recipient: str
    status: str
    attempt_id: str


class AttemptRow(NamedTuple):
    """Times are Unix seconds."""

    attempt_id: str
    row_id: str
    number: int
    state: str
    opened_s: float


class Rows(NamedTuple):
    """The database at the end: jobs, attempts, doubts (attempt id: reason) and dead letters by reason."""

    jobs: Sequence[JobRow]
    attempts: Sequence[AttemptRow]
    doubts: Mapping[str, str]
    dead_letters: Mapping[str, int]


class Death(NamedTuple):
    """A worker that was killed: where, when, and how far its requests were then (attempt ids)."""

    place: str
    pid: int
    at_s: float
    prepared: frozenset[str]
    leaving: frozenset[str]


class Material(NamedTuple):
    """All that is known of a run. `has_faults`: the fakes misbehaved, so that living workers may doubt an answer, too."""

    wanted: Sequence[Wanted]
    taken: Sequence[Taken]
    rows: Rows
    deaths: Sequence[Death]
    has_faults: bool = False


class Verdict(NamedTuple):
    """`findings` has a list of sentences for every check; `slowest_s` is the longest way from a death to the next attempt of an
    email that had not left."""

    findings: Mapping[str, list[str]]
    emails: int
    uncertain: int
    slowest_s: float

    @property
    def red(self) -> list[str]:
        """The checks that found something."""
        return [check for check, found in self.findings.items() if found]


def judge(material: Material) -> Verdict:
    """Run every check."""
    leaving = frozenset().union(*(death.leaving for death in material.deaths))
    returns = list(_returns(material.deaths, material.rows.attempts))
    findings = {
        "lost": find_lost(material),
        "doubled": find_doubled(material.taken),
        "unasked": find_unasked(material),
        "unopened": find_unopened(material.taken, material.rows.attempts),
        "unexplained": find_unexplained(material.rows, leaving, material.has_faults),
        "resent": find_resent(material.rows.attempts),
        "lying log": find_lies(material.deaths, material.taken, material.rows.attempts),
        "disagreeing": find_disagreements(material.rows, material.taken),
        "waiting": find_waiting(material.rows),
        "slow": [f"{attempt_id} went out again {wait_s:.0f} s after the death" for attempt_id, wait_s in returns if wait_s > SOON_S],
        "dead letters": find_wrong_dead_letters(material),
    }
    uncertain = sum(job.status == "uncertain" for job in material.rows.jobs)
    return Verdict(findings, len(_asked(material.wanted)), uncertain, max((wait_s for _, wait_s in returns), default=0.0))


def judge_storm(quiet: Material, final: Material, frozen: Death, told: frozenset[str]) -> Verdict:
    """The checks of a run after which an operator has settled every doubt and brought back every dead letter.

    `quiet` is what was known before he began: his decisions are no evidence. At the end nothing may be in doubt, so the fakes'
    ledgers alone say what is lost. `frozen` is the host that stood still, `told` whom the published events speak of.
    """
    leaving = frozen.leaving.union(*(death.leaving for death in quiet.deaths))
    returns = list(_returns(quiet.deaths, quiet.rows.attempts))
    findings = {
        "lost": find_lost(final._replace(rows=final.rows._replace(jobs=[]))),
        "doubled": find_doubled(final.taken),
        "unasked": find_unasked(final),
        "unopened": find_unopened(final.taken, final.rows.attempts),
        "unexplained": find_unexplained(quiet.rows, leaving, quiet.has_faults),
        "resent": find_resent(quiet.rows.attempts),
        "lying log": find_lies(quiet.deaths, quiet.taken, quiet.rows.attempts),
        "zombie": [f"{attempt_id} left after its host was given up" for attempt_id in sorted(frozen.prepared & _ids(final.taken))],
        "disagreeing": find_disagreements(quiet.rows, quiet.taken) + find_disagreements(final.rows, final.taken),
        "waiting": find_waiting(final.rows),
        "in doubt": [f"{attempt_id} is still in doubt ({reason})" for attempt_id, reason in final.rows.doubts.items()],
        "slow": [f"{attempt_id} went out again {wait_s:.0f} s after the death" for attempt_id, wait_s in returns if wait_s > SOON_S],
        "dead letters": find_wrong_dead_letters(final),
        "unheard": find_unheard(final.rows, told),
    }
    return Verdict(findings, len(_asked(final.wanted)), len(quiet.rows.doubts), max((wait_s for _, wait_s in returns), default=0.0))


def find_unheard(rows: Rows, told: frozenset[str]) -> list[str]:
    """Emails that were sent, and no event was ever published about them."""
    return [f"nobody was told of {job.recipient}" for job in rows.jobs if job.status in SENT and job.recipient not in told]


def find_lost(material: Material) -> list[str]:
    """Emails that no fake has and no uncertain row speaks for."""
    doubted = {job.recipient for job in material.rows.jobs if job.status == "uncertain"}
    missing = _asked(material.wanted) - {line.recipient for line in material.taken} - doubted
    return [f"{recipient} was never taken by an ESP" for recipient in sorted(missing)]


def find_doubled(taken: Iterable[Taken]) -> list[str]:
    """Emails that the fakes took more than once."""
    return [f"{recipient} was taken {count} times" for recipient, count in Counter(line.recipient for line in taken).items() if count > 1]


def find_unasked(material: Material) -> list[str]:
    strangers = {line.recipient for line in material.taken} - _asked(material.wanted)
    return [f"nobody asked for {recipient}" for recipient in sorted(strangers)]


def find_unopened(taken: Iterable[Taken], attempts: Iterable[AttemptRow]) -> list[str]:
    """Mails that left without an attempt in the ledger."""
    known = {attempt.attempt_id for attempt in attempts}
    return [
        f"{line.recipient} left as {line.attempt_id or 'nothing'}, which no row knows" for line in taken if line.attempt_id not in known
    ]


def find_unexplained(rows: Rows, leaving: frozenset[str], has_faults: bool) -> list[str]:
    """Doubts that no flight log of a dead worker shows as leaving."""
    doubted = {attempt.attempt_id for attempt in rows.attempts if attempt.state == "uncertain"} | rows.doubts.keys()
    doubted |= {job.attempt_id for job in rows.jobs if job.status == "uncertain"}
    found = []
    for attempt_id in sorted(doubted - leaving):
        reason = rows.doubts.get(attempt_id, "no word")
        if not has_faults or reason.startswith(DOUBTS_OF_DEATHS) or reason == "no word":
            found.append(f"{attempt_id} is in doubt ({reason}), and no killed worker had it leaving")
    return found


def find_resent(attempts: Iterable[AttemptRow]) -> list[str]:
    """Uncertain attempts that were followed by another one."""
    last: dict[str, int] = {}
    attempts = list(attempts)
    for attempt in attempts:
        last[attempt.row_id] = max(attempt.number, last.get(attempt.row_id, 0))
    doubted = [attempt for attempt in attempts if attempt.state == "uncertain"]
    return [
        f"{attempt.attempt_id} is uncertain, and another attempt followed" for attempt in doubted if attempt.number < last[attempt.row_id]
    ]


def find_lies(deaths: Iterable[Death], taken: Iterable[Taken], attempts: Iterable[AttemptRow]) -> list[str]:
    """What a dead worker's log shows as prepared must not have left; what it shows as leaving must not be given free again."""
    arrived = {line.attempt_id for line in taken}
    free = {attempt.attempt_id for attempt in attempts if attempt.state == "not_taken"}
    found = []
    for death in deaths:
        found += [f"{attempt_id} had left, and the log said prepared ({death.place})" for attempt_id in sorted(death.prepared & arrived)]
        found += [f"{attempt_id} was leaving, and it was released ({death.place})" for attempt_id in sorted(death.leaving & free)]
    return found


def find_disagreements(rows: Rows, taken: Iterable[Taken]) -> list[str]:
    """For every job that is not in doubt, rows and ledgers say the same."""
    lines = {line.attempt_id: line.recipient for line in taken}
    states = {attempt.attempt_id: attempt.state for attempt in rows.attempts}
    found = []
    for job in rows.jobs:
        has_it = lines.get(job.attempt_id) == job.recipient
        if job.status in SENT and not (has_it and states.get(job.attempt_id) == "accepted"):
            found.append(f"job {job.row_id} is {job.status}, and no ESP has its attempt {job.attempt_id}")
        elif job.status not in SENT and job.status != "uncertain" and job.attempt_id in lines:
            found.append(f"job {job.row_id} is {job.status}, and an ESP has its attempt {job.attempt_id}")
    wrong = [attempt_id for attempt_id in lines if states.get(attempt_id, "accepted") not in ("accepted", "uncertain")]
    return found + [f"attempt {attempt_id} is {states[attempt_id]}, and an ESP has it" for attempt_id in wrong]


def find_waiting(rows: Rows) -> list[str]:
    """Nothing may wait at the end, and no attempt may be open."""
    jobs = [f"job {job.row_id} still is {job.status}" for job in rows.jobs if job.status in WAITING]
    return jobs + [f"attempt {attempt.attempt_id} is still open" for attempt in rows.attempts if attempt.state == "open"]


def find_wrong_dead_letters(material: Material) -> list[str]:
    meant = Counter(wanted.reason for wanted in material.wanted if wanted.reason)
    got = Counter(material.rows.dead_letters)
    return [
        f"{got[reason]} dead letters for {reason}, {meant[reason]} were meant" for reason in meant | got if got[reason] != meant[reason]
    ]


def _ids(taken: Iterable[Taken]) -> frozenset[str]:
    return frozenset(line.attempt_id for line in taken)


def _asked(wanted: Iterable[Wanted]) -> frozenset[str]:
    return frozenset(one.recipient for one in wanted if not one.reason)


def _returns(deaths: Iterable[Death], attempts: Iterable[AttemptRow]) -> Iterable[tuple[str, float]]:
    """For each attempt that certainly had not left at a death: how long until the next attempt of its job was opened."""
    known = {attempt.attempt_id: attempt for attempt in attempts}
    by_number = {(attempt.row_id, attempt.number): attempt for attempt in known.values()}
    for death in deaths:
        for attempt_id in death.prepared & known.keys():
            attempt = known[attempt_id]
            successor = by_number.get((attempt.row_id, attempt.number + 1))
            if successor is not None:
                yield attempt_id, successor.opened_s - death.at_s
