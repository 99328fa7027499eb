"""Dispatch: the verb `route` of the delivery loop. Each message gets an account; requests are prepared, none leaves."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from mail.account import Account
from mail.ids import cohort_id
from routing.router import PROVIDER_ABSENT, Router, Wish
from routing.snapshot import SnapshotReader
from workers.steps.judgement import RetryPolicy
from workers.steps.letter import Letter, dead
from workers.steps.mailbox_providers import MailboxProviders
from workers.steps.sending import Departure, Sender

COHORTS_REMEMBERED = 1024


class Dispatcher:
    def __init__(
        self,
        router: Router,
        snapshot: SnapshotReader,
        sender: Sender,
        policy: RetryPolicy,
        now: Callable[[], datetime],
        mailbox_providers: MailboxProviders | None = None,
    ):
        self._mailbox_providers = mailbox_providers or MailboxProviders()
        self._router = router
        self._snapshot = snapshot
        self._sender = sender
        self._policy = policy
        self._now = now
        self._cohort_id = lru_cache(maxsize=COHORTS_REMEMBERED)(cohort_id)

    def route(self, letters: Sequence[Letter]) -> list[Departure]:
        """Choose an account for each letter, by weights; what no ESP can take now waits, or dies with the reason."""
        self._mailbox_providers.refresh()
        self._choose(letters, {})
        seated = [letter for letter in letters if letter.fate is None]
        self._join_cohorts(seated)
        return self.prepare(seated)

    def has_another(self, letter: Letter) -> bool:
        """Is there an ESP for this letter that did not refuse it in this round?"""
        assert letter.account
        tried = letter.tried | {letter.account.provider}
        return not (letter.bound_to or letter.job.provider) and self._router.has_other(letter.job.tenant, tried)

    def prepare(self, letters: Iterable[Letter]) -> list[Departure]:
        """The requests of routed letters, grouped by account."""
        by_account: dict[tuple[str, int], tuple[Account, list[Letter]]] = {}
        for letter in letters:
            assert letter.account and letter.message
            by_account.setdefault((letter.account.provider, letter.account.tenant), (letter.account, []))[1].append(letter)
        departures: list[Departure] = []
        for account, group in by_account.values():
            departures += self._sender.prepare(account, [x.message for x in group if x.message])
        return departures

    def _choose(self, letters: Sequence[Letter], excluded: dict[str, frozenset[str]]) -> None:
        """Route, look which messages their ESP cannot express, and route those again without it; each round excludes one more ESP."""
        while letters:
            routing = self._router.route([self._wish(x, excluded.get(x.attempt_id, frozenset())) for x in letters], self._snapshot.read())
            for index, reason in routing.unroutable.items():
                self._give_up(letters[index], reason)
            again: list[Letter] = []
            for route in routing.routes:
                again += self._settle(route.account, [letters[n] for n in route.indices], excluded)
            letters = again

    def _settle(self, account: Account, letters: Sequence[Letter], excluded: dict[str, frozenset[str]]) -> list[Letter]:
        """Letters stay with the account, or are to be routed again because its ESP cannot express them."""
        again = []
        for letter in letters:
            assert letter.message
            reason = self._sender.unsupported(account, letter.message)
            tried = excluded.get(letter.attempt_id, frozenset())
            if reason is None:
                letter.account = account
            elif account.provider in tried:  # it came back, so no other ESP is left
                letter.fate = dead("rejected", f"no ESP can express this message, last {account.provider}: {reason}")
            else:
                excluded[letter.attempt_id] = tried | {account.provider}
                again.append(letter)
        return again

    def _join_cohorts(self, letters: Iterable[Letter]) -> None:
        """A cohort is a batch of the ingress, or what went out singly within the same hour."""
        hour = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H")
        for letter in letters:
            job = letter.job
            stream = "marketing" if letter.is_marketing else "transactional"
            letter.cohort_id = self._cohort_id(job.tenant, stream, f"batch:{job.batch_id}" if job.batch_id else hour)

    def _wish(self, letter: Letter, cannot: frozenset[str]) -> Wish:
        letter.mailbox_provider = self._mailbox_providers.of(letter.job.recipient.email)
        refused = letter.tried | {letter.last_provider} if letter.last_provider else letter.tried
        return Wish(letter.job.tenant, letter.mailbox_provider, letter.bound_to or letter.job.provider, cannot or refused)

    def _give_up(self, letter: Letter, reason: str) -> None:
        if reason == PROVIDER_ABSENT and not letter.bound_to:
            pin = letter.job.provider
            letter.fate = dead("invalid-job", f"provider: there is no account at {pin}; set its credentials or drop the pin")
        else:
            letter.fate = self._policy.wait_for_an_esp(letter, f"no ESP can take it now: {reason}", self._now())
