"""Between events and the ledger's tables: the transaction of the webhook loop, and that of events which found their send later.

join     which attempt does each event speak of? The account check is made by the database, with the row itself
keep     a tracking row for each, once: what was kept before goes no further
settle   attempts, jobs, counters, suppressions: decided by event_rules, under the locks of the jobs

Each is a function of a cursor that may run again after a lost connection: a repeated one finds its own tracking rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from db import dead_letters, doubt, erasure, events, outbox, payloads, postponed, suppressions, unmatched, watermarks
from db.connection import Cursor
from db.dead_letters import DeadLetter
from db.events import AttemptRow, Cell, Counts, JobRow, Look, Question
from db.outbox import Posting
from db.suppressions import Rejection, Suppression, Window
from db.unmatched import Joined
from mail.event import EventType
from mail.published import Published
from workers.feedback import event_rows, event_rules
from workers.feedback.callbacks import Mailbag, Refusal
from workers.feedback.event_rows import Case
from workers.feedback.event_rules import LOOKS, Arrival
from workers.feedback.postponed import row_of
from workers.news.status_board import Shown
from workers.steps.bookkeeping import Topics

REPEATED, UNMATCHED, EMPTY = "repeated", "unmatched", "empty"


@dataclass(slots=True)
class Findings:
    """What a transaction came to, to be told after its commit. `tally` counts events by provider and by what they were, `statuses`
    are those of the jobs that it changed, `refused` counts callbacks by the reason of their dead letters, `looked_at` those that waited
    for their send."""

    number: int = 0
    postings: list[Posting] = field(default_factory=list)
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    held: list[Window] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    statuses: list[Shown] = field(default_factory=list)
    looked_at: int = 0


class EventBooks:
    """`place` and a connection's number name the writer in the counters, so that no two transactions wait for the same row;
    `redirect` is the staging guard's address ("" = none)."""

    def __init__(self, place: str, topics: Topics, redirect: str = "", keeps_unmatched: bool = True):
        self._place = place
        self._topics = topics
        self._redirect = redirect.lower()
        self._keeps_unmatched = keeps_unmatched

    def record(self, cursor: Cursor, bag: Mailbag, published_ids: Sequence[str], number: int = 0) -> Findings:
        """Write down a batch: its events, its callbacks that are refused or postponed, and how far each account has reported."""
        findings = Findings(number)
        arrivals = list({(a.at, a.id): a for a in bag.arrivals}.values())
        fresh = self._keep(cursor, self._join(cursor, arrivals))
        findings.tally.update((a.event.provider, _kind(a)) for a in fresh)
        findings.tally.update(_repeats(bag.arrivals, fresh))
        findings.tally.update({(provider, EMPTY): count for provider, count in bag.empty.items()})
        unmatched.insert(cursor, [event_rows.unmatched(a) for a in fresh if not a.row_id])
        told = self._settle(cursor, [a for a in fresh if a.row_id], findings)
        letters = self._set_aside(cursor, bag.refusals)
        findings.refused.update(letter.reason for letter in letters)
        postponed.put(cursor, [row_of(record) for record in bag.postponed])
        postponed.delete(cursor, bag.read)
        postponed.give_up(cursor, bag.given_up)
        watermarks.advance(cursor, bag.newest)
        self._post(cursor, told, letters, findings)
        outbox.delete(cursor, published_ids)
        return findings

    def settle_late(self, cursor: Cursor, limit: int, number: int = 0) -> Findings:
        """Look again at events that matched nothing when they came; those whose send is on record now are applied."""
        findings = Findings(number)
        waiting = unmatched.take(cursor, limit)
        findings.looked_at = len(waiting)
        arrivals = self._join(cursor, [event_rows.late_arrival(w) for w in waiting])
        claims = {(a.attempt_id, a.event.provider, a.account_tenant) for a in arrivals if a.attempt_id}
        jobs = unmatched.find_jobs(cursor, sorted(claims))
        found = [a._replace(row_id=jobs.get((a.attempt_id, a.event.provider, a.account_tenant), "")) for a in arrivals]
        matched = [a for a in found if a.row_id]
        unmatched.join(cursor, [Joined(a.id, a.at, a.row_id, a.attempt_id) for a in matched])
        missed = [w for w, a in zip(waiting, found, strict=True) if not a.row_id]
        unmatched.postpone(cursor, [w for w in missed if not w.is_last])
        unmatched.give_up(cursor, [w for w in missed if w.is_last], self._keeps_unmatched)
        findings.tally.update((a.event.provider, _kind(a)) for a in matched)
        self._post(cursor, self._settle(cursor, matched, findings), [], findings)
        return findings

    # -- whose, and is it new ------------------------------------------------------------------------------------------

    def _join(self, cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Events that name no attempt of ours get the one that they can only mean, if there is one."""
        nameless = [a for a in arrivals if not a.attempt_id and a.recipient]
        if not nameless:
            return list(arrivals)
        questions = [Question(a.event.provider, a.account_tenant, a.recipient, a.event.message_id) for a in nameless]
        moments = [a.at for a in nameless]
        sends = events.find_sends(cursor, questions, min(moments), max(moments))
        chosen = {
            (a.at, a.id): event_rules.choose_send(a.event.message_id, a.at, sends.get(number, [])) for number, a in enumerate(nameless)
        }
        return [a if a.attempt_id else a._replace(attempt_id=chosen.get((a.at, a.id), "")) for a in arrivals]

    def _keep(self, cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """The events that were not kept before, each with its job's row, where it has one."""
        kept = events.insert_tracking(cursor, [event_rows.tracking(a) for a in arrivals])
        return [Arrival(*a[:-1], kept[a.at, a.id] or "") for a in arrivals if (a.at, a.id) in kept]  # row_id is the last field

    # -- what it changes -----------------------------------------------------------------------------------------------

    def _settle(self, cursor: Cursor, arrivals: Sequence[Arrival], findings: Findings) -> list[Published]:
        """Apply events that belong to jobs; returns what is to be published of them."""
        processed = {a.attempt_id for a in arrivals if a.event.type is EventType.PROCESSED}
        unsettled = events.find_unsettled(cursor, sorted(processed))
        cases = self._cases(cursor, [a for a in arrivals if event_rules.may_matter(a.event, a.attempt_id not in unsettled)])
        after = [self._apply(case, looks) for case, looks in self._with_looks(cursor, cases)]
        findings.statuses += self._write(cursor, cases, after, f"{self._place}.{findings.number}")
        findings.held += self._suppress(cursor, cases)
        findings.duplicates.update(doubt.confirm_duplicates(cursor, [case.job.row_id for case in cases if len(case.attempts) > 1]))
        return [told for case, attempts in zip(cases, after, strict=True) for told in event_rows.news(case, attempts)]

    def _cases(self, cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Case]:
        """The events by job, under its lock; those of other recipients (Cc, Bcc) stay tracking rows, but end a doubt."""
        jobs = events.lock_jobs(cursor, sorted({a.row_id for a in arrivals}))
        if forgotten := {job.row_id: job.tenant for job in jobs if not job.recipient}:
            self._keep_forgotten(cursor, [(a, forgotten[a.row_id]) for a in arrivals if a.recipient and a.row_id in forgotten])
        several = [job.row_id for job in jobs if job.attempts > 1]
        alone = {job.row_id for job in jobs} - set(several)
        attempts = events.read_attempts(cursor, list({a.attempt_id for a in arrivals if a.row_id in alone}), several)
        cases = {job.row_id: Case(job, {}, []) for job in jobs}
        for row in attempts:
            cases[row.row_id].attempts[row.attempt_id] = row
        for arrival in arrivals:
            case = cases.get(arrival.row_id)
            attempt = case and case.attempts.get(arrival.attempt_id)
            if case and attempt and self._is_for(case.job, arrival.recipient):
                case.arrivals.append(arrival)
            elif case and attempt and event_rules.may_settle(attempt):
                case.arrivals.append(event_rules.proof_of(arrival))
        return [case for case in cases.values() if case.arrivals]

    def _keep_forgotten(self, cursor: Cursor, theirs: Sequence[tuple[Arrival, int]]) -> None:
        """Of people who were forgotten meanwhile nothing is kept but that they want no mail of a tenant, and that as a hash."""
        if not theirs:
            return
        erasure.blank_events(cursor, [(a.id, a.at) for a, _ in theirs])
        asked = [
            Suppression(a.recipient, tenant, reason, f"{a.event.provider}/{a.account_tenant}", a.at)
            for a, tenant in theirs
            if (reason := event_rules.reason_to_suppress(a.event))
        ]
        suppressions.insert(cursor, asked)
        if asked:
            erasure.hash_suppressions(cursor, sorted({s.address for s in asked}))

    def _with_looks(self, cursor: Cursor, cases: Sequence[Case]) -> list[tuple[Case, dict[str, list[Look]]]]:
        """Each case with all opens and clicks of those attempts whose opens have to be judged again; mostly there are none."""
        again = [attempt for case in cases for attempt in case.attempts.values() if event_rules.must_judge_again(attempt, case.arrivals)]
        if not again:
            return [(case, {}) for case in cases]
        since = event_rules.day_before(min(attempt.attempt_id for attempt in again))
        looks = events.read_looks(cursor, again, [str(type_) for type_ in LOOKS], since)
        return [(case, {a: self._own(case.job, looks.get(a, [])) for a in case.attempts if a in looks}) for case in cases]

    def _own(self, job: JobRow, looks: Iterable[Look]) -> list[Look]:
        return [look for look in looks if self._is_for(job, look.recipient)]

    def _is_for(self, job: JobRow, recipient: str) -> bool:
        return event_rules.is_for_job(recipient, job.recipient, self._redirect)

    def _apply(self, case: Case, looks: Mapping[str, list[Look]]) -> dict[str, AttemptRow]:
        """The job's attempts after its events."""
        if len(case.attempts) == 1:  # nearly always
            ((id_, attempt),) = case.attempts.items()
            return {id_: event_rules.apply(attempt, case.arrivals, looks.get(id_))}
        return {
            id_: event_rules.apply(attempt, [a for a in case.arrivals if a.attempt_id == id_], looks.get(id_))
            for id_, attempt in case.attempts.items()
        }

    def _write(self, cursor: Cursor, cases: Sequence[Case], after: Sequence[Mapping[str, AttemptRow]], place: str) -> list[Shown]:
        counts: Counter[tuple[Cell, Counts]] = Counter()
        attempts: list[AttemptRow] = []
        changes = [event_rules.change_job(case.job, now, case.arrivals) for case, now in zip(cases, after, strict=True)]
        for case, now in zip(cases, after, strict=True):
            for id_, attempt in now.items():
                if attempt != case.attempts[id_]:
                    attempts.append(attempt)
                    if attempt.cohort_id:
                        cell = (attempt.cohort_id, attempt.provider, attempt.mailbox_provider)
                        counts[cell, event_rules.change_of_counts(case.attempts[id_], attempt)] += 1
        events.update_attempts(cursor, attempts)
        settled = events.update_jobs(cursor, [change for change in changes if change])
        payloads.delete(cursor, settled)
        events.add_to_cohorts(cursor, _sums(counts), place)
        changed = [(case.job, change) for case, change in zip(cases, changes, strict=True) if change]
        return [Shown(job.tenant, job.job_id, change.status) for job, change in changed]

    def _suppress(self, cursor: Cursor, cases: Sequence[Case]) -> list[Window]:
        """Suppress whom the events say so of; returns the windows in which an ESP's own fault was recognised now."""
        rejections: list[Rejection] = []
        deliveries: set[Window] = set()
        asked: list[Suppression] = []
        for job, attempts, arrivals in cases:
            for a in arrivals:
                provider, address = a.event.provider, a.recipient or job.recipient.lower()
                if a.event.type is EventType.DELIVERED:
                    deliveries.add(suppressions.window_of(provider, a.account_tenant, a.at))
                elif event_rules.is_rejection(a.event):
                    window = suppressions.window_of(provider, a.account_tenant, a.at)
                    rejections.append(Rejection(window, job.tenant, address, a.at))
                elif reason := event_rules.reason_to_suppress(a.event):
                    cohort_id = attempts[a.attempt_id].cohort_id if a.event.type is EventType.UNSUBSCRIBED else None
                    asked.append(Suppression(address, job.tenant, reason, f"{provider}/{a.account_tenant}", a.at, cohort_id))
        suppressions.insert(cursor, asked)
        return suppressions.judge(cursor, rejections, deliveries)

    # -- what is told --------------------------------------------------------------------------------------------------

    def _set_aside(self, cursor: Cursor, refusals: Sequence[Refusal]) -> list[DeadLetter]:
        """Refused callbacks with their original bytes; returns those that were not there before."""
        letters = {letter.id: letter for letter in map(event_rows.dead_letter, refusals)}
        new = dead_letters.insert(cursor, list(letters.values()))
        return [letter for id_, letter in letters.items() if id_ in new]

    def _post(self, cursor: Cursor, told: list[Published], letters: Sequence[DeadLetter], findings: Findings) -> None:
        posted = [
            outbox.of_events(self._topics.events, told),
            dead_letters.posting(self._topics.dead_letters, letters, datetime.now(UTC)),
        ]
        for posting in posted:
            outbox.insert(cursor, posting)
        findings.postings += [posting for posting in posted if posting.values]


def _sums(counts: Counter[tuple[Cell, Counts]]) -> dict[Cell, Counts]:
    """Few changes are different, so they were counted; here they are multiplied and added up."""
    sums: dict[Cell, Counts] = {}
    for (cell, change), times in counts.items():
        so_far = sums.get(cell, Counts())
        sums[cell] = Counts(*[one + times * other for one, other in zip(so_far, change, strict=True)])
    return sums


def _kind(arrival: Arrival) -> str:
    return str(arrival.event.type) if arrival.row_id else UNMATCHED


def _repeats(arrivals: Sequence[Arrival], fresh: Sequence[Arrival]) -> Counter[tuple[str, str]]:
    all_of_them = Counter(a.event.provider for a in arrivals)
    all_of_them.subtract(a.event.provider for a in fresh)
    return Counter({(provider, REPEATED): count for provider, count in all_of_them.items() if count})
