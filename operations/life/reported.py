"""What ESPs reported of an email, in plain words. Pure: it believes the kept fields, and judges machines as the loop does."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from db.life import REPORTS_MOST, Life, Report
from mail.event import STATUS_RANK, Event, EventType
from mail.machine_opens import is_machine_open
from operations.life.moment import Moment, moment, spell

_SECOND = timedelta(seconds=1) - timedelta(microseconds=1)
_REPORTED: dict[str, str] = {
    EventType.PROCESSED: "is on its way",
    EventType.DEFERRED: "was put off by the recipient's server",
    EventType.DROPPED: "was dropped by the ESP",
    EventType.COMPLAINED: "was reported as spam by its recipient",
    EventType.UNSUBSCRIBED: "was answered by an unsubscribe",
    EventType.SUBSCRIBED: "was answered by a subscription",
}


class Told(NamedTuple):
    """A report, and the event that its ESP's adapter reads from it (None = it cannot be read any more). `is_others`: it speaks of a
    Cc, a Bcc or a staging guard's address."""

    report: Report
    event: Event | None
    is_others: bool = False


def moments(life: Life, told: Sequence[Told]) -> Iterator[Moment]:
    """Runs of the same report are told in one line."""
    run: list[Moment] = []
    opened = {t.attempt_id: t.opened_at for t in life.tries}
    delivered = {_whose(t): t.report.at for t in reversed(told) if t.report.type == EventType.DELIVERED}
    for one in sorted(told, key=lambda t: (t.report.at, STATUS_RANK.get(t.report.type, 0))):
        words = _report(one, delivered.get(_whose(one)))
        if run and run[-1].words != words:
            yield _joined(run)
            run = []
        at = one.report.at
        run.append(Moment(order(at, opened.get(one.report.attempt_id or "", at)), at, words))
    if run:
        yield _joined(run)
    if len(told) == REPORTS_MOST:
        yield moment(told[-1].report.at, f"there may be more: only the first {REPORTS_MOST} reports are told")


def _whose(told: Told) -> tuple[str | None, str | None]:
    return told.report.attempt_id, told.report.recipient


def order(at: datetime, sent_at: datetime) -> datetime:
    """Where a report belongs: most clocks tell whole seconds, and nothing comes before its own send."""
    return max(at if at.microsecond else at + _SECOND, sent_at)


def _joined(run: Sequence[Moment]) -> Moment:
    if len(run) == 1:
        return run[0]
    return run[0]._replace(words=f"{run[0].words} ({len(run)} times, until {spell(run[-1].at)})")


def _report(told: Told, delivered_at: datetime | None) -> str:
    report, event, is_others = told
    whom = f" (to another recipient, {report.recipient})" if is_others else ""
    return f"{report.provider}: it {_happening(report, event, delivered_at)}{whom}{_details(event)}"


def _happening(report: Report, event: Event | None, delivered_at: datetime | None) -> str:
    if report.type in (EventType.OPENED, EventType.CLICKED):
        seen = Event(EventType(report.type), report.provider, "", "", report.at, is_machine=report.is_machine)
        who = "a machine" if is_machine_open(seen, delivered_at) else "a person"
        return f"was {report.type} by {who}"
    if report.type == EventType.BOUNCED:
        return f"bounced ({event.bounce or 'soft'})" if event else "bounced"
    return _REPORTED.get(report.type, f"was {report.type}")


def _details(event: Event | None) -> str:
    if event is None:
        return ""
    code = f"SMTP {event.smtp_code}" if event.smtp_code and event.smtp_code not in event.reason else ""
    words = ", ".join(word for word in (code, event.reason, event.url) if word)
    return f": {words}" if words else ""
