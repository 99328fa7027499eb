"""Composing: the verb `render` of the delivery loop. A job that cannot be rendered is a dead letter and costs itself only."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from mail.errors import RenderError
from mail.message import Address, Message
from render.renderer import Renderer
from telemetry import metrics
from workers.flight_log import FlightLog
from workers.letter import Letter, dead
from workers.shelf import Shelf


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
    ):
        self._renderer = renderer
        self._shelf = shelf
        self._flight_log = flight_log
        self._sender = sender
        self._reply_to = reply_to
        self._redirect = redirect

    def render(self, letters: Sequence[Letter]) -> None:
        """Give each letter its message, or its fate. The record under hand is named first: its data may kill us."""
        for letter in letters:
            self._flight_log.take_in_hand(letter.record.name)
            try:
                letter.message = self._compose(letter)
            except RenderError as error:
                letter.fate = dead(error.reason, error.error)
        self._flight_log.let_go()
        # once per template: looking up a metric's labels costs as much as decoding an email
        for template, count in Counter(letter.job.template for letter in letters if letter.message).items():
            metrics.TEMPLATE_RENDERS.labels(template).inc(count)

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
