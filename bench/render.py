"""What does rendering cost? Our confined environment beside stock Jinja2's root functions: `python -m bench.render`.

CPU µs per email, all three parts, hot, one thread, best of many; for each default template with its sample data, and for the email of
bench.pipeline. Both render the same sources with the same filters; stock Jinja2 has no sandbox, no limits and no checks of
what comes out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import geometric_mean
from typing import Any, NamedTuple

import jinja2

from bench import sample, table
from db import default_templates
from mail.decode import decode
from mail.job import Job
from mail.limits import DecodeLimits
from mail.message import Address
from mail.template import Template
from render.filters import allowed_filters
from render.renderer import Renderer

LOOPS = 200
SENDER = Address("noreply@example.com", "Example")


class Subject(NamedTuple):
    """What is rendered: a template, and a job with data for it."""

    template: Template
    job: Job


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.render", description="What rendering costs.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args(argv).rounds
    renderer = Renderer()
    rows: list[Sequence[str]] = []
    ratios = []
    for subject in _subjects():
        stock_us, ours_us = _best(_stock(subject), rounds), _best(_ours(renderer, subject), rounds)
        ratios.append(ours_us / stock_us)
        size = f"{len(renderer.render(subject.job, subject.template, 'bench', SENDER).html) / 1000:.1f}"
        rows.append((subject.template.name, size, f"{stock_us:.1f}", f"{ours_us:.1f}", f"{ours_us / stock_us:.2f}"))
    rows += [(), ("geometric mean", "", "", "", f"{geometric_mean(ratios):.2f}")]
    table.show("Rendering one email, CPU µs", ("template", "KB of HTML", "stock Jinja2", "ours", "ratio"), rows)
    return 0


def _subjects() -> Iterator[Subject]:
    (_, value), *_ = sample.jobs(1, "render")
    yield Subject(sample.template(), _job(value))
    for template, data in default_templates.load():
        recipient = Address("ada@example.com", "Ada Lovelace")
        yield Subject(template, Job(0, "bench", template.type, template.name, (recipient,), b"", data=data))


def _job(value: bytes) -> Job:
    (job,) = decode(value, DecodeLimits())
    assert isinstance(job, Job)
    return job


def _ours(renderer: Renderer, subject: Subject) -> Callable[[], Any]:
    return lambda: renderer.render(subject.job, subject.template, "bench", SENDER)


def _stock(subject: Subject) -> Callable[[], Any]:
    template, job = subject
    plain, html = _stock_environment(False), _stock_environment(True)
    parts = [plain.from_string(template.subject), html.from_string(template.html), plain.from_string(template.text)]

    def render() -> list[str]:
        names = {
            **job.data,
            "recipient": {"email": job.recipient.email, "name": job.recipient.name, "userId": job.user_id},
            "job": {"id": job.job_id, "type": job.type, "locale": job.locale},
            "data": job.data,
        }
        return ["".join(part.root_render_func(part.new_context(names, shared=True))) for part in parts]

    return render


def _stock_environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=autoescape)
    ours = allowed_filters(lambda value: value, str)
    environment.filters.update({name: made for name, made in ours.items() if name not in environment.filters})
    return environment


def _best(work: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(LOOPS):
            work()
        taken.append(time.thread_time() - started)
    return min(taken) / LOOPS * 1e6


if __name__ == "__main__":
    sys.exit(main())
