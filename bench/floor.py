"""The floor: what no worker can leave out for an email. Decode it, render its three parts, encode it into a request of 500.

One thread, stock Jinja2 through its root functions (cheaper than Template.render), the best of many rounds. Whatever a worker
costs beyond this is ours.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jinja2
import msgspec
import orjson

from bench import sample

BATCH = 500
ROUNDS = 20


class _Recipient(msgspec.Struct):
    email: str
    name: str
    userId: str


class _Job(msgspec.Struct):
    id: str
    type: str
    template: str
    recipient: _Recipient
    data: dict[str, Any]


class Floor(NamedTuple):
    """CPU µs per email."""

    decode: float
    render: float
    encode: float

    @property
    def total(self) -> float:
        return self.decode + self.render + self.encode


def measure(rounds: int = ROUNDS) -> Floor:
    """Takes about 0.05 s a round."""
    values = [value for _, value in sample.jobs(BATCH, "floor")]
    decoder = msgspec.json.Decoder(_Job)
    jobs = [decoder.decode(value) for value in values]
    render = _renderer()
    rendered = [(job, render(job)) for job in jobs]
    return Floor(
        _best(lambda: [decoder.decode(value) for value in values], rounds),
        _best(lambda: [render(job) for job in jobs], rounds),
        _best(lambda: orjson.dumps([_mail(job, parts) for job, parts in rendered]), rounds),
    )


def lower(one: Floor, other: Floor) -> Floor:
    """The best of two measurements, step by step."""
    return Floor(*map(min, one, other))


def _renderer() -> Callable[[_Job], Sequence[str]]:
    plain, html = (
        jinja2.Environment(undefined=jinja2.StrictUndefined),
        jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True),
    )
    parts = [plain.from_string(sample.SUBJECT), html.from_string(sample.HTML), plain.from_string(sample.TEXT)]

    def render(job: _Job) -> Sequence[str]:
        names = {**job.data, "recipient": {"email": job.recipient.email, "name": job.recipient.name, "userId": job.recipient.userId}}
        return ["".join(part.root_render_func(part.new_context(names, shared=True))) for part in parts]

    return render


def _mail(job: _Job, parts: Sequence[str]) -> dict[str, Any]:
    subject, html, text = parts
    to = f'"{job.recipient.name}" <{job.recipient.email}>'
    return {"From": "a@example.com", "To": to, "Subject": subject, "Metadata": {"attempt_id": "0" * 26}, "HtmlBody": html, "TextBody": text}


def _best(work: Callable[[], object], rounds: int) -> float:
    """CPU µs per email of the best round."""
    taken = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken) / BATCH * 1e6
