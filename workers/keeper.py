"""The keeper role: one per host. Renews the host's lease, settles what nobody else will, sweeps the outbox, keeps the tables in shape.

It sends no mail. What becomes of uncertain emails is workers/keeping/doubt_keeper.py's.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import telemetry.log
from db import cohorts, dead_letters, doubt, housekeeping, mailbox_domains, outbox, partitions, postponed, replay, slots
from db.connection import Cursor, Database
from db.outbox import Posting
from mail.errors import StoreUnavailable
from telemetry import metrics
from workers.base import RoleContext
from workers.connections import host_name
from workers.flight import flight_log, settlement, slot_lock
from workers.keeping.exchangers import DOMAINS_MOST, Exchangers
from workers.news.publisher import Publisher
from workers.supervising.shared import HostLease

if TYPE_CHECKING:
    from config.settings import Settings

log = telemetry.log.get("workers.keeper")

LEASE_S = 60.0
STALE_OUTBOX_S = 15.0
OUTBOX_PAGE = 50
SWEEP_LIMIT_S, FLUSH_LIMIT_S = 5.0, 2.0
PARTITION_DAYS = 7
LETTERS_PAGE = 1_000  # they may be large
COHORT_DAYS = 31  # the weights look back thirty
TURN_S = 0.5


class Chore(NamedTuple):
    """Something that is done every so often; it raises StoreUnavailable where it must be tried again."""

    name: str
    every_s: float
    do: Callable[[], object]


class Keeper:
    """`copy` is shown what was published in another's stead, once the broker has it; it must neither raise nor wait."""

    def __init__(
        self,
        settings: "Settings",
        database: Database,
        publisher: Publisher,
        lease: HostLease,
        exchangers: Exchangers | None = None,
        copy: Callable[[Sequence[Posting]], None] = lambda postings: None,
    ):
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._lease = lease
        self._exchangers = exchangers or Exchangers()
        self._copy = copy
        self._host = host_name(settings)
        self._boot_id = flight_log.boot_id()
        self._published: list[str] = []
        self._under_way: set[str] = set()

    def chores(self) -> list[Chore]:
        """What this host needs, the most urgent first."""
        return [
            Chore("renew the host's lease", 10.0, self.renew_lease),
            Chore("settle slots that are no longer used", 10.0, self.settle_missing_slots),
            Chore("sweep the outbox", 5.0, self.sweep_outbox),
            Chore("settle lost hosts", 15.0, self.settle_lost_hosts),
            Chore("wake forgotten rows", 30.0, lambda: self._count("woke forgotten rows", housekeeping.wake_forgotten)),
            Chore("sweep payloads", 60.0, lambda: self._count("swept payloads", housekeeping.sweep_payloads)),
            *([Chore("look up mail exchangers", 30.0, self.look_up_exchangers)] if self._settings.mx_lookups else []),
            Chore("retire dead letters", 60.0, self.retire_dead_letters),
            Chore("make partitions", 3600.0, self.make_partitions),
            Chore("drop what is too old", 6 * 3600.0, self.retire),
        ]

    def renew_lease(self) -> None:
        """Tell the database, and then this host's workers, that the host lives. Counted from before the question was asked."""
        deadline_ns = self._lease.now_ns() + int(LEASE_S * 1e9)
        self._database.run(lambda cursor: slots.renew_host_lease(cursor, self._host, self._boot_id, LEASE_S))
        self._lease.hold_until(deadline_ns)

    def settle_missing_slots(self) -> None:
        """Slots beyond the configured number in which nobody lives: this supervisor has fewer workers now."""
        for slot in self._database.run(lambda cursor: slots.find(cursor, self._host)):
            if slot >= self._settings.worker_concurrency:
                with slot_lock.held(self._settings.state_dir, slot) as is_ours:
                    if is_ours:
                        self._settle_and_forget(slot)

    def settle_lost_hosts(self) -> None:
        """Hosts whose lease ran out so long ago that none of their requests can be on its way: what they left open is uncertain."""
        margin_s = self._settings.esp_timeout_s + 10.0
        for host in self._database.run(lambda cursor: slots.find_lost_hosts(cursor, margin_s)):
            if host == self._host:
                continue
            for slot in self._database.run(partial(slots.find, host=host)):
                doubted = settlement.doubt_all(
                    self._database, host, slot, self._boot_id, os.getpid(), self._settings.kafka_topic_email_events
                )
                if doubted:
                    worker, _, machine = host.partition("@")  # as one word it would look like an address
                    log.error("a host is lost: what it had open is uncertain", host=worker, machine=machine, slot=slot, uncertain=doubted)
            self._database.run(partial(slots.forget_host, host=host, margin_s=margin_s))

    def sweep_outbox(self) -> None:
        """Publish what its worker could not; delete what the broker has. Page after page while the broker takes them, for a while:
        after an outage there are many."""
        until_s = time.monotonic() + SWEEP_LIMIT_S
        while self._sweep_page() and self._publisher.flush(FLUSH_LIMIT_S) and time.monotonic() < until_s:
            pass

    def _sweep_page(self) -> bool:
        """One page; is there perhaps another one?"""
        self._publisher.poll()
        done, self._published = self._published, []
        self._database.run(lambda cursor: outbox.delete(cursor, done))
        self._under_way.difference_update(done)
        page = self._database.run(lambda cursor: outbox.find_stale(cursor, STALE_OUTBOX_S, OUTBOX_PAGE))
        for posting in page:
            if posting.id not in self._under_way:
                self._publish(posting)
        return len(page) == OUTBOX_PAGE

    def look_up_exchangers(self) -> None:
        """Who is behind the domains that mail went to and nobody knows: a few at a time."""
        unknown = self._database.run(lambda cursor: mailbox_domains.find_unknown(cursor, time.time(), DOMAINS_MOST))
        found = list(self._exchangers.look_up(unknown))
        self._database.run(lambda cursor: mailbox_domains.store(cursor, found))

    def make_partitions(self) -> None:
        self._database.run(lambda cursor: partitions.make_ahead(cursor, PARTITION_DAYS))

    def retire(self) -> None:
        """Drop partitions and forget keys that are older than the settings keep them."""
        today = datetime.now(UTC).date()
        settings = self._settings
        for table, days in (
            ("email_jobs", settings.retention_jobs_days),
            ("email_attempts", settings.retention_jobs_days),
            ("email_tracking", settings.retention_tracking_days),
        ):
            limit = today - timedelta(days=days)
            dropped = self._database.run(partial(partitions.drop_before, table=table, day=limit))
            if dropped:
                log.info("dropped partitions that are too old", table=table, partitions=dropped)
            self._count("swept rows that are too old from a default partition", partial(partitions.sweep_default, table=table, day=limit))
        self._count("forgot domains that nobody writes to", mailbox_domains.forget_old)
        self._count("forgot old doubts", partial(doubt.forget_old, days=settings.retention_jobs_days))
        self._count("forgot callbacks that were never read", partial(postponed.forget_old, doubts_days=settings.retention_jobs_days))
        self._count("forgot old cohorts", partial(cohorts.forget_old, days=max(settings.retention_jobs_days, COHORT_DAYS)))
        self._count("forgot old job ids", partial(housekeeping.forget_old_keys, days=settings.dedup_days))

    def retire_dead_letters(self) -> None:
        """Delete a page of those that are too old; the audit log, a metric and the log tell how many and whether they were settled."""
        days, place = self._settings.retention_dead_letters_days, f"{self._host}/keeper"

        def retire(cursor: Cursor) -> list[tuple[str, bool, int]]:
            gone = dead_letters.retire(cursor, days, LETTERS_PAGE)
            if gone:
                details = {f"{reason} {'settled' if is_settled else 'waiting'}": count for reason, is_settled, count in gone}
                replay.audit(cursor, place, "dlq retire", f"{sum(details.values())} dead letters", details)
            return gone

        for reason, is_settled, count in self._database.run(retire):
            metrics.DEAD_LETTERS_RETIRED.labels(reason).inc(count)
            log.warning("deleted dead letters that are too old", reason=reason, letters=count, were_settled=is_settled)

    def _settle_and_forget(self, slot: int) -> None:
        settings = self._settings
        claim = settlement.take_over(
            self._database, settings.state_dir, self._host, slot, self._boot_id, os.getpid(), settings.kafka_topic_email_events
        )
        self._database.run(lambda cursor: slots.forget(cursor, claim.slot))
        settlement.flight_path(settings.state_dir, slot).unlink(missing_ok=True)
        log.info("settled a slot that is no longer used", slot=slot)

    def _publish(self, posting: Posting) -> None:
        pairs = [(key.encode() if key else None, value.encode()) for key, value in zip(posting.keys, posting.values, strict=True)]
        if self._publisher.publish(posting.topic, pairs, partial(self._note, posting)):
            self._under_way.add(posting.id)

    def _note(self, posting: Posting, is_delivered: bool) -> None:
        if is_delivered:
            self._published.append(posting.id)
            self._copy([posting])
        else:
            self._under_way.discard(posting.id)

    def _count(self, message: str, work: Callable[..., int]) -> None:
        touched = self._database.run(work)
        if touched:
            log.info(message, rows=touched)


def keep(context: RoleContext, chores: list[Chore]) -> None:
    """Every chore in its time, until asked to drain."""
    due_at_s = {chore.name: 0.0 for chore in chores}
    while not context.is_draining():
        for chore in chores:
            context.beat("keeping", 60.0)
            if time.monotonic() >= due_at_s[chore.name]:
                due_at_s[chore.name] = time.monotonic() + _do(chore)
        context.wait(TURN_S)


def _do(chore: Chore) -> float:
    """Do it; returns in how many seconds it is due again."""
    try:
        chore.do()
        return chore.every_s
    except StoreUnavailable as error:
        log.warning("a chore waits for the store", chore=chore.name, problem=str(error))
        return min(chore.every_s, 2.0)
