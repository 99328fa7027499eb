"""Templates that must never reach a recipient, and what they do to a job; and the good ones that the other cases use."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from tests.world.records import Bad, address, spell, template_job

MIRROR = "{{ data | tojson }} {{ recipient.userId }} {{ job.locale }}"
ENDLESS = "{% for i in range(1000000000) %}{{ i }}{% endfor %}"


class Stored(NamedTuple):
    """A row of email_templates."""

    name: str
    subject: str = "Hello"
    html: str = ""
    text: str = "{{ words }}"
    variables: tuple[str, ...] = ()
    is_active: bool = True

    def row(self) -> dict[str, object]:
        return self._asdict() | {"variables": json.dumps(self.variables)}


GOOD = (
    Stored("plain", "Hello {{ recipient.name }}", "<p>{{ words }}</p>", "{{ words }}"),
    Stored("mirror", "{{ job.id }} {{ words }}", "<p>{{ recipient.name }}</p>", MIRROR),
)
SPOILED = (
    Stored("switched-off", is_active=False),
    Stored("declares", variables=("words", "colour", "size")),
    Stored("uses", text="{{ colour }}"),
    Stored("uses-deeper", text="{{ words.colour.dark }}"),
    Stored("broken", text="{% if words %}"),
    Stored("unknown-filter", text="{{ words | explode }}"),
    Stored("divides", text="{{ 1 / 0 }}"),
    Stored("says-nothing", text="  {# nothing #} "),
    Stored("no-subject", subject="{{ '' }}"),
    Stored("injects", subject="Hello {{ words }}"),
    Stored("escapes", text="{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    Stored("escapes-by-format", text="{{ '{0.__class__.__init__.__globals__}'.format(words) }}"),
    Stored("includes", text="{% include '/etc/passwd' %}"),
    Stored("loops", text=ENDLESS),
    Stored("loops-silently", text="{% for i in range(1000000000) %}{% endfor %}done"),
    Stored("loops-in-loops", text="{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}done"),
    Stored("loops-in-the-subject", subject=ENDLESS),
    Stored("calls-itself", text="{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"),
    Stored("multiplies", text="{{ 'x' * 1000000000 }}"),
    Stored("multiplies-step-by-step", text="{% set x = 'x' * 9999 %}{% set x = x * 9999 %}{% set x = x * 9999 %}{{ x }}"),
    Stored("multiplies-lists", text="{{ [0] * 1000000000 }}"),
    Stored("powers", text="{{ 10 ** 1000000000 }}"),
    Stored("pads", text="{{ 'x' | center(1000000000) }}"),
    Stored("formats", text="{{ '%1000000000d' | format(7) }}"),
    Stored("joins", text="{{ range(100000) | join('x' * 100000) }}"),
    Stored("doubles", text="{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"),
)
# Where it is not render-error, and what the error names beside the template.
REASONS = {
    "switched-off": "inactive-template",
    "declares": "missing-variables",
    "uses": "missing-variables",
    "uses-deeper": "missing-variables",
}
NAMED = {
    "declares": "colour, size",
    "uses": "colour",
    "uses-deeper": "colour",
    "loops-in-the-subject": "subject",
    "broken": "text, line 1",
    "divides": "text, line 1",
}
OF_THE_MESSAGE = {"no-subject": ("render-error", "the subject is empty"), "injects": ("header-injection", "the subject")}


def all_of_them() -> Iterator[Bad]:
    yield Bad("unknown template", _job("unheard-of"), "unknown-template", "there is no template unheard-of")
    for template in SPOILED:
        reason, field = OF_THE_MESSAGE.get(template.name) or (REASONS.get(template.name, "render-error"), f"template {template.name}")
        yield Bad(f"template {template.name}", _job(template.name), reason, field)


def _job(template: str) -> bytes:
    name = f"template-{template}"
    words = "x\r\nBcc: victim@cases.example" if template == "injects" else "some words"
    return spell(template_job(name, template=template, data={"words": words}, recipient={"email": address(name), "name": "Ada"}))
