"""The templates that come with the product: complete, honest about their variables, and the same in HTML and text."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import meta, nodes

from db.default_templates import load
from mail.job import Job
from mail.message import Address, Message
from mail.template import JOB_TYPES, MARKETING_TYPES, Template
from render.allowance import Allowance
from render.environment import ConfinedEnvironment
from render.renderer import Renderer
from render.templates import TemplateCompiler

ALL = load()
OWN_NAMES = {"recipient", "job", "data"}
TYPICAL_BYTES = range(3_000, 6_500)


class TextOfHtml(HTMLParser):
    """What a reader sees: text without styles, head and the hidden preheader."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "title"):
            self._hidden += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "title"):
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def each_template() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("template", "sample"), ALL, ids=[template.name for template, _ in ALL])


def render(template: Template, data: dict[str, Any], name: str = "John Doe") -> Message:
    job = Job(0, "j", template.type, template.name, (Address("john@example.com", name),), b"", data=data)
    return Renderer().render(job, template, "a", Address("service@example.com"))


def seen(html: str) -> str:
    parser = TextOfHtml()
    parser.feed(html)
    return " ".join("".join(parser.words).split())


def leaves_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves_of(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves_of(inner)]
    return [str(value)]


def used_and_guarded(source: str) -> tuple[set[str], set[str]]:
    """Names that a part uses, and those of them that are only used where they may be missing."""
    tree = ConfinedEnvironment(Allowance(), escapes_html=True).parse(source)
    guarded = {
        found.node.name
        for found in tree.find_all((nodes.Filter, nodes.Test))
        if found.name in ("default", "d", "defined") and isinstance(found.node, nodes.Name)
    }
    return meta.find_undeclared_variables(tree), guarded


def test_there_is_one_for_each_job_type() -> None:
    assert [template.name for template, _ in ALL] == [template.type for template, _ in ALL] == list(JOB_TYPES)


@each_template()
def test_it_renders_with_its_sample(template: Template, sample: dict[str, Any]) -> None:
    message = render(template, sample)
    assert message.subject and message.html and message.text
    for part in (message.subject, message.html, message.text):
        assert "None" not in part and "{{" not in part and "undefined" not in part


@each_template()
def test_it_renders_with_the_declared_variables_alone(template: Template, sample: dict[str, Any]) -> None:
    message = render(template, {name: sample[name] for name in template.variables}, name="")
    assert "None" not in message.text
    assert "\n\n\n" not in message.text
    assert "Hi ," not in message.text


@each_template()
def test_declared_variables_are_those_that_are_used_unguarded(template: Template, sample: dict[str, Any]) -> None:
    used: set[str] = set()
    guarded: set[str] = set()
    for source in (template.subject, template.html, template.text):
        names, may_be_missing = used_and_guarded(source)
        used |= names
        guarded |= may_be_missing
    assert used - guarded - OWN_NAMES == set(template.variables)
    assert set(sample) == used - OWN_NAMES, "the sample shows every variable"


@each_template()
def test_html_and_text_say_the_same(template: Template, sample: dict[str, Any]) -> None:
    message = render(template, sample)
    visible = seen(message.html)
    links = set(re.findall(r'href="(https://[^"]+)"', message.html))
    assert links == set(re.findall(r"https://\S+", message.text))
    sentences = [
        line
        for line in message.text.splitlines()
        if line and not line.startswith(("-", "Code:", "Read on", "Unsubscribe")) and "https:" not in line
    ]
    for line in sentences:
        for fact in line.split(": ", 1) if line.count(": ") else [line]:
            assert fact in visible, f"only in the text: {fact}"


@each_template()
def test_every_fact_of_the_sample_is_in_both_parts(template: Template, sample: dict[str, Any]) -> None:
    message = render(template, sample)
    unsaid = [
        leaf
        for leaf in leaves_of(sample)
        if not re.fullmatch(r"[\d.T:+Z-]{3,}|[A-Z]{3}", leaf) and not (leaf in message.text and leaf in message.html.replace("&#39;", "'"))
    ]
    assert not unsaid


@each_template()
def test_it_is_made_for_mail_clients(template: Template, sample: dict[str, Any]) -> None:
    html = render(template, sample).html
    assert len(html.encode()) in TYPICAL_BYTES
    for needed in (
        "<!DOCTYPE html>",
        'lang="en"',
        "max-width:600px",
        "prefers-color-scheme: dark",
        'name="viewport"',
        'role="presentation"',
        "mso-hide:all",
    ):
        assert needed in html
    for unwelcome in ("<script", "<link", "<img", "display:flex", "http://"):
        assert unwelcome not in html
    assert (
        html.count("<table") == html.count("</table>")
        and html.count("<td") == html.count("</td>")
        and html.count("<p ") == html.count("</p>")
    )


@each_template()
def test_only_marketing_has_an_optional_unsubscribe_link(template: Template, sample: dict[str, Any]) -> None:
    is_marketing = template.type in MARKETING_TYPES
    assert ("unsubscribeUrl" in sample) is is_marketing
    assert ("Unsubscribe" in render(template, sample).html) is is_marketing
    assert "Unsubscribe" not in render(template, {name: sample[name] for name in template.variables}).html


@each_template()
def test_evil_data_stays_data(template: Template, sample: dict[str, Any]) -> None:
    evil = {
        name: "<script>x</script>" if isinstance(value, str) and not value.startswith("http") else value for name, value in sample.items()
    }
    message = render(template, evil, name="<script>x</script>")
    assert "<script" not in message.html


@each_template()
def test_a_link_that_acts_is_no_link(template: Template, sample: dict[str, Any]) -> None:
    urls = [name for name in sample if name.endswith("Url")]
    assert urls
    for name in urls:
        with pytest.raises(Exception, match="a link must begin"):
            render(template, sample | {name: "javascript:alert(1)"})


def test_the_version_follows_the_content() -> None:
    versions = [template.version for template, _ in load()]
    assert len(set(versions)) == len(versions)
    assert versions == [template.version for template, _ in ALL]


def test_the_booking_confirmation_serves_the_documented_example() -> None:
    template = {template.name: template for template, _ in ALL}["booking-confirmation"]
    message = render(template, {"bookingId": "b-1", "eventName": "Concert 2024", "ticketCount": 2, "totalAmount": 150.0})
    assert "Concert 2024" in message.subject and "150.00" in message.text and "b-1" in message.html


def test_all_of_them_fit_into_one_compiler() -> None:
    compiler = TemplateCompiler()
    for template, _ in ALL:
        assert compiler.compiled(template) is compiler.compiled(template)
