"""Job to message: which words end up where, and what ends a job."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import RenderError
from mail.job import Inline, Job
from mail.message import Address, Attachment, Message
from mail.template import Template
from render.renderer import Renderer

SENDER = Address("service@example.com", "Service")
TEMPLATE = Template(
    name="greeting",
    version="1",
    type="transactional",
    subject="Hello {{ name }}",
    html="<p>{{ name }}</p>",
    text="{{ name }}",
    variables=("name",),
)


def make_job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "tenant": 3,
        "job_id": "job-1",
        "type": "email",
        "template": "greeting",
        "to": (Address("ann@example.com", "Ann"),),
        "content_hash": b"h" * 32,
        "user_id": "u-9",
        "data": {"name": "Ann"},
        "locale": "de",
    }
    return Job(**(fields | changes))


def make_template(html: str = "x", text: str = "", subject: str = "s", **changes: Any) -> Template:
    fields: dict[str, Any] = {"name": "t", "version": html + text + subject, "type": "transactional"}
    return Template(**(fields | {"subject": subject, "html": html, "text": text} | changes))


def render(job: Job | None = None, template: Template | None = TEMPLATE) -> Message:
    return Renderer().render(job or make_job(), template, "attempt-1", SENDER, Address("reply@example.com"))


def reason_of(job: Job | None = None, template: Template | None = TEMPLATE) -> tuple[str, str]:
    with pytest.raises(RenderError) as caught:
        render(job, template)
    return caught.value.reason, caught.value.error


def test_a_job_becomes_a_message_with_all_that_it_brings() -> None:
    attachment = Attachment("a.pdf", "application/pdf", "eA==")
    job = make_job(cc=(Address("c@x.com"),), bcc=(Address("b@x.com"),), headers=(("X-A", "1"),), attachments=(attachment,), tags=("t",))
    assert render(job) == Message(
        attempt_id="attempt-1",
        tenant=3,
        sender=SENDER,
        to=(Address("ann@example.com", "Ann"),),
        subject="Hello Ann",
        html="<p>Ann</p>",
        text="Ann",
        cc=(Address("c@x.com"),),
        bcc=(Address("b@x.com"),),
        reply_to=Address("reply@example.com"),
        headers=(("X-A", "1"),),
        attachments=(attachment,),
        tags=("t",),
    )


def test_the_job_s_own_sender_and_reply_address_win() -> None:
    message = render(make_job(sender=Address("own@x.com"), reply_to=Address("answers@x.com")))
    assert message.sender.email == "own@x.com"
    assert message.reply_to == Address("answers@x.com")


def test_the_template_sees_data_at_top_level_and_as_a_whole() -> None:
    template = make_template("{{ a }}{{ data.a }}{{ data['strange key'] }}")
    assert render(make_job(data={"a": 1, "strange key": 2}), template).html == "112"


def test_recipient_job_and_data_win_over_keys_of_the_same_name() -> None:
    template = make_template(
        "{{ recipient.email }} {{ recipient.name }} {{ recipient.userId }} {{ job.id }} {{ job.type }} {{ job.locale }} {{ data.job }}"
    )
    job = make_job(data={"recipient": "forged", "job": "mine", "data": "forged"})
    assert render(job, template).html == "ann@example.com Ann u-9 job-1 email de mine"


def test_data_may_hide_a_function_of_the_template_language() -> None:
    assert render(make_job(data={"range": "5-10 km"}), make_template("{{ range }}")).html == "5-10 km"


def test_no_template_is_unknown_template() -> None:
    assert reason_of(template=None)[0] == "unknown-template"


def test_a_template_that_is_switched_off_is_inactive_template() -> None:
    assert reason_of(template=make_template(is_active=False))[0] == "inactive-template"


def test_all_declared_variables_that_are_missing_are_named_at_once() -> None:
    reason, error = reason_of(make_job(data={"b": 1}), make_template(variables=("a", "b", "c", "recipient")))
    assert reason == "missing-variables"
    assert error == "template t: a, c"


def test_a_declared_variable_may_be_null_or_false() -> None:
    assert render(make_job(data={"a": None, "b": False}), make_template("x{{ a }}", variables=("a", "b"))).html == "x"


@pytest.mark.parametrize(("html", "text"), [("", ""), (" \n ", ""), ("{{ '' }}", "{% if false %}x{% endif %}")])
def test_a_message_without_any_part_is_a_render_error(html: str, text: str) -> None:
    assert reason_of(template=make_template(html, text))[0] == "render-error"


@pytest.mark.parametrize("subject", ["", "  ", "{{ '' }}"])
def test_an_empty_subject_is_a_render_error(subject: str) -> None:
    assert reason_of(template=make_template(subject=subject)) == ("render-error", "the subject is empty")


def test_a_subject_may_have_998_characters_and_no_more() -> None:
    assert len(render(template=make_template(subject="x" * 998)).subject) == 998
    assert reason_of(template=make_template(subject="x" * 999))[0] == "render-error"


@pytest.mark.parametrize("evil", ["a\r\nBcc: x@y.z", "a\nb", "a\rb", "a\x0bb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "\n"])
def test_a_line_break_in_a_subject_is_header_injection(evil: str) -> None:
    assert reason_of(make_job(data={"name": "x" + evil}))[0] == "header-injection"


@pytest.mark.parametrize("source", [r"{{ '\x00' }}", r"{{ '\ud800' }}"])
def test_nul_and_half_surrogates_from_a_template_s_literals_are_render_errors(source: str) -> None:
    assert reason_of(template=make_template("x" + source))[0] == "render-error"
    assert reason_of(template=make_template("", "x" + source))[0] == "render-error"
    assert reason_of(template=make_template(subject="x" + source))[0] in ("render-error", "header-injection")


SSTI = ["{{7*7}}", "{{ 7*7 }}", "{% raw %}", "${7*7}", "#{7*7}", "{{ config }}", "{{ ''.__class__ }}", "{% for x in y %}"]


@pytest.mark.parametrize("probe", SSTI)
def test_job_data_is_never_template_source(probe: str) -> None:
    job = make_job(
        job_id=probe,
        type=probe,
        user_id=probe,
        locale=probe,
        to=(Address("a@example.com", probe),),
        data={"a": probe, "b": {"c": [probe]}, probe: 1},
    )
    seen = "|".join(
        ["{{ a }}", "{{ b.c[0] }}", "{{ recipient.name }}", "{{ recipient.userId }}", "{{ job.id }}", "{{ job.type }}", "{{ job.locale }}"]
    )
    message = render(job, make_template("x", text=seen, subject="{{ a }}"))
    assert message.text.split("|") == [probe] * 7
    assert message.subject == probe


@pytest.mark.parametrize("probe", SSTI)
def test_inline_content_is_never_template_source(probe: str) -> None:
    inline = Inline(subject=f"s {probe}", text=f"{probe} -a-", html=f"<p>{probe} -a-</p>", substitutions={"a": probe}, sections={})
    message = render(make_job(template="inline", inline=inline), None)
    assert message.subject == f"s {probe}"
    assert message.text == f"{probe} {probe}"
    assert message.html.startswith(f"<p>{probe} ")
    assert "49" not in message.html + message.text


def test_inline_content_needs_no_template_and_is_checked_like_any_other() -> None:
    message = render(make_job(inline=Inline("Hi -name-", "Dear {{ name }}", "", {"name": "Bob"}, {})), None)
    assert (message.subject, message.html, message.text) == ("Hi Bob", "", "Dear Bob")
    assert reason_of(make_job(inline=Inline("s", "", "", {}, {})), None)[0] == "render-error"
    assert reason_of(make_job(inline=Inline("", "x", "", {}, {})), None)[0] == "render-error"
    assert reason_of(make_job(inline=Inline("Hi -a-", "x", "", {"a": "b\r\nBcc: c@d.e"}, {})), None)[0] == "header-injection"


def test_one_renderer_serves_many_jobs_alike() -> None:
    renderer = Renderer()
    for n in range(3):
        assert renderer.render(make_job(data={"name": f"N{n}"}), TEMPLATE, "a", SENDER).subject == f"Hello N{n}"
    with pytest.raises(RenderError):
        renderer.render(make_job(data={}), TEMPLATE, "a", SENDER)
    assert renderer.render(make_job(), TEMPLATE, "a", SENDER).text == "Ann"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    data=st.dictionaries(st.sampled_from(["a", "b", "name", "recipient", "self", "loop", "range"]) | st.text(max_size=8), JSON, max_size=6)
)
def test_whatever_the_data_is_the_outcome_is_a_message_or_a_render_error(data: dict[str, Any]) -> None:
    template = make_template(
        "<p>{{ a|default('') }}{{ b|default|string|upper }}{% for x in data|dictsort %}{{ x[0] }}={{ x[1] }}{% endfor %}</p>", subject="s"
    )
    try:
        message = render(make_job(data=data), template)
    except RenderError as error:
        assert error.reason in ("render-error", "missing-variables", "header-injection")
    else:
        assert type(message.html) is str
        message.html.encode()
