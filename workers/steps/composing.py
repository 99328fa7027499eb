"""Composing: the verb `render` of the delivery loop. A job that cannot be rendered is a dead letter and costs itself only, but one
whose template was broken by an edit waits until that is mended."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from mail.errors import RenderError
from mail.job import Job
from mail.message import Address, Message
from render.renderer import Renderer
from telemetry import metrics
from workers.flight.flight_log import FlightLog
from workers.steps.judgement import RetryPolicy
from workers.steps.letter import Fate, Letter, dead
from workers.steps.shelf import Shelf

BROKEN_REASONS = frozenset({"render-error", "missing-variables"})
PROVEN_MOST = 10_000


class Composer:
    """`sender` and `reply_to` serve where neither job nor tenant names one; `redirect` gets all mail of a staging environment."""

    def __init__(
        self,
        renderer: Renderer,
        shelf: Shelf,
        flight_log: FlightLog,
        sender: Address | None,
        reply_to: Address | None,
        redirect: Address | None,
        policy: RetryPolicy,
        now: Callable[[], datetime],
    ):
        self._renderer = renderer
        self._shelf = shelf
        self._flight_log = flight_log
        self._sender = sender
        self._reply_to = reply_to
        self._redirect = redirect
        self._policy = policy
        self._now = now
        self._proven: set[tuple[str, str]] = set()

    def render(self, letters: Sequence[Letter]) -> dict[str, str]:
        """Give each letter its message, or its fate. The record under hand is named first: its data may kill us.

        Returns which versions of templates (by name) rendered for the first time as far as is known.
        """
        failed: list[tuple[Letter, RenderError]] = []
        for letter in letters:
            self._flight_log.take_in_hand(letter.record.name)
            try:
                letter.message = self._compose(letter)
            except RenderError as error:
                failed.append((letter, error))
        self._flight_log.let_go()
        # once per template: looking up a metric's labels costs as much as decoding an email
        rendered = Counter(letter.job.template for letter in letters if letter.message)
        for template, count in rendered.items():
            metrics.TEMPLATE_RENDERS.labels(template).inc(count)
        proofs = self._prove(rendered)
        for letter, why in failed:
            letter.fate = self._judge(letter, why)
        return proofs

    def _prove(self, names: Iterable[str]) -> dict[str, str]:
        """Note that these templates render; returns the versions of which that is news."""
        if len(self._proven) > PROVEN_MOST:
            self._proven.clear()
        templates = filter(None, map(self._shelf.take, names))
        news = {t.name: t.version for t in templates if t.rendered_version != t.version and (t.name, t.version) not in self._proven}
        self._proven.update(news.items())
        return news

    def _judge(self, letter: Letter, error: RenderError) -> Fate:
        """A template that was good and no longer is was broken by us, and its emails wait for it to be mended."""
        if self._broke(letter.job, error.reason):
            return self._policy.wait_for_us(letter, error.reason, error.error, self._now())
        return dead(error.reason, error.error)

    def _broke(self, job: Job, reason: str) -> bool:
        """Has an earlier version of this template rendered, and this one never yet? Else it is the data that do not fit."""
        if job.inline is not None:
            return False
        template = self._shelf.take(job.template)
        if template is None:
            return self._shelf.has_vanished(job.template)
        is_new = template.rendered_version not in ("", template.version) and (template.name, template.version) not in self._proven
        return is_new and reason in BROKEN_REASONS

    def _compose(self, letter: Letter) -> Message:
        job, defaults = letter.job, letter.defaults
        sender = job.sender or (defaults and defaults.sender) or self._sender
        if sender is None:
            raise RenderError("invalid-job", "from: neither the job nor its tenant nor EMAIL_FROM_ADDRESS names a sender; set one of them")
        reply_to = (defaults and defaults.reply_to) or self._reply_to
        message = self._renderer.render(job, self._shelf.take(job.template), letter.attempt_id, sender, reply_to)
        if self._redirect is not None:
            message = msgspec.structs.replace(message, to=(self._redirect,), cc=(), bcc=())
        return message
