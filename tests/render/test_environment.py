"""What templates can do: the same as in Jinja2, except for what is confined on purpose."""

from typing import Any

import jinja2
import pytest

from mail.errors import RenderError
from mail.template import Template
from render.templates import TemplateCompiler, is_present

DATA: dict[str, Any] = {
    "name": "O'Neil & <Sons>",
    "count": 3,
    "price": 9.5,
    "is_vip": True,
    "people": [{"name": "Ann", "age": 31}, {"name": "<Bob>", "age": 27}, {"name": "Čeněk", "age": 45}],
    "order": {"items": [1, 2], "total": 12},
    "words": "the quick brown fox",
    "empty": [],
}

# What both Jinja2 and we render, and must render alike.
SHARED_FEATURES = [
    "plain text, nothing else",
    "{{ name }}|{{ count }}|{{ price }}|{{ is_vip }}",
    "{# a comment #}{{ 'literal' }}{{ 1 + 2 * 3 - 4 / 2 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 8 }}",
    "{% if count == 3 and is_vip %}yes{% elif count %}maybe{% else %}no{% endif %}",
    "{% for p in people %}{{ loop.index }}/{{ loop.length }} {{ p.name }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
    "{% for p in empty %}x{% else %}nobody{% endfor %}",
    "{% for p in people if p.age > 30 %}{{ loop.revindex }}{{ p['name'] }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for key, value in order|dictsort if key == 'total' %}{{ key }}={{ value }}{% endfor %}",
    "{% set greeting = 'Hi ' ~ name %}{{ greeting }}{{ greeting|upper }}",
    "{% set block %}<b>{{ name }}</b>{% endset %}{{ block }}{{ block ~ name }}",
    "{% macro row(label, value='-') %}<td>{{ label }}</td><td>{{ value }}</td>{% endmacro %}{{ row(name) }}{{ row('x', value=count) }}",
    "{% macro box() %}<div>{{ caller() }}</div>{% endmacro %}{% call box() %}in {{ name }}{% endcall %}",
    "{% filter upper %}shout {{ words }}{% endfilter %}",
    "{% with a = count, b = 2 %}{{ a * b }}{% endwith %}",
    "{% block content %}in a block {{ name }}{% endblock %}{{ self.content() }}",
    "{% for n in [1, [2, [3]]] recursive %}{{ loop(n) if n is iterable else n }}{% endfor %}",
    "{% set ns = namespace(total=0) %}{% for p in people %}{% set ns.total = ns.total + p.age %}{% endfor %}{{ ns.total }}",
    "{{ 'x' if count > 5 }}|{{ missing is defined }}|{{ missing|default('dflt') }}|{{ order.nothing|default(name) }}",
    "{{ people|map(attribute='name')|join(', ') }}|{{ people|sum(attribute='age') }}|{{ people|selectattr('age', 'gt', 30)|list|length }}",
    "{{ people|groupby('age')|map('first')|list }}|{{ people|sort(attribute='name')|first }}|{{ [3, 1, 2]|sort|reverse|list }}",
    "{{ words|title }}|{{ words|truncate(10) }}|{{ words|wordcount }}|{{ words|replace('quick', name) }}|{{ words|capitalize }}",
    "{{ words|wordwrap(8) }}|{{ 'a\nb'|indent(3) }}|{{ words|center(30) }}|{{ '  x '|trim }}|{{ words[4:9] }}|{{ words[::-1] }}",
    "{{ [1, 2, 3, 4, 5]|batch(2, 'x')|list }}|{{ [1, 2, 3]|slice(2)|list }}|{{ [1, 1, 2]|unique|list }}|{{ [1, 2]|max }}",
    "{{ '%s has %05.1f' % (name, price) }}|{{ '%s'|format(name) }}|{{ '{} {:>5}'.format(name, count) }}|{{ '{a}'.format_map({'a': 1}) }}",
    "{{ price|round|int }}|{{ 1000|filesizeformat }}|{{ '12'|int + 1 }}|{{ '1.5'|float }}|{{ -3|abs }}|{{ 2.567|round(1, 'floor') }}",
    "{{ name|e }}|{{ name|escape|upper }}|{{ '<b>x</b>'|striptags }}|{{ name|urlencode }}|{{ {'a': name}|tojson }}|{{ name|forceescape }}",
    "{{ 'see https://example.com now'|urlize }}|{{ name|list|length }}|{{ name|string }}|{{ [1, name] }}|{{ {'k': 'v'} }}",
    "{{ words.split(' ')|length }}{{ words.upper() }}{{ words.startswith('the') }}{{ ', '.join(['a', name]) }}{{ 'x'.ljust(4) }}|",
    "{{ count in [1, 2, 3] }}{{ 'quick' in words }}{{ count is odd }}{{ name is string }}{{ not is_vip }}{{ 1 < 2 <= 3 }}",
    "{%- if true -%}  trimmed  {%- endif -%}  {{- name -}}  end",
    "{% raw %}{{ not rendered }}{% endraw %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ i }}{{ j }}{{ loop.first }}{% endfor %}{% endfor %}",
]


def compile_and_render(html: str = "x", text: str = "", subject: str = "s", data: dict[str, Any] | None = None) -> tuple[str, str, str]:
    compiler = TemplateCompiler()
    template = Template("t", "1", "transactional", subject=subject, html=html, text=text)
    return compiler.compiled(template).render({**compiler.globals, **(DATA if data is None else data)})


@pytest.mark.parametrize("source", SHARED_FEATURES)
@pytest.mark.parametrize("escapes_html", [True, False])
def test_what_jinja_renders_comes_out_the_same(source: str, escapes_html: bool) -> None:
    stock = jinja2.Environment(autoescape=escapes_html, undefined=jinja2.StrictUndefined)
    expected = stock.from_string(source).render(DATA)
    _, html, text = compile_and_render(html=source if escapes_html else "x", text="" if escapes_html else source)
    assert (html if escapes_html else text) == expected


def test_html_is_escaped_and_text_and_subject_are_not() -> None:
    subject, html, text = compile_and_render(html="{{ name }}", text="{{ name }}", subject="{{ name }}")
    assert html == "O&#39;Neil &amp; &lt;Sons&gt;"
    assert text == subject == "O'Neil & <Sons>"


def test_all_results_are_plain_strings() -> None:
    for part in compile_and_render(html="{{ name|e }}", text="{{ name|e }}", subject="{{ name|e }}"):
        assert type(part) is str


def test_null_prints_as_nothing() -> None:
    assert compile_and_render("a{{ x }}b{{ x ~ x }}c", data={"x": None})[1] == "abc"


def test_a_key_named_like_a_method_is_the_key() -> None:
    data = {"order": {"items": [{"title": "Lamp"}], "keys": "two", "values": 3}}
    assert (
        compile_and_render("{% for i in order.items %}{{ i.title }}{% endfor %}{{ order.keys }}{{ order.values }}", data=data)[1]
        == "Lamptwo3"
    )


def test_safe_cleans_html_of_everything_that_acts() -> None:
    dirty = '<p style="color:red;position:fixed" onclick="x()">Hi<script>alert(1)</script> <a href="javascript:x">a</a> <a href="https://b.c">b</a></p>'
    html = compile_and_render("{{ x|safe }}", data={"x": dirty})[1]
    assert "Hi" in html and 'href="https://b.c"' in html and "color:red" in html
    for acting in ("script", "onclick", "javascript", "position", "alert"):
        assert acting not in html


def test_safe_changes_nothing_in_plain_text() -> None:
    assert compile_and_render(text="{{ x|safe }}", data={"x": "<b>1 < 2</b>"})[2] == "<b>1 < 2</b>"


@pytest.mark.parametrize(
    "source",
    [
        "{{ name|e|replace('&lt;', name) }}",
        "{% set a %}{{ name }}{% endset %}{{ a }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(name) }}",
        "{{ ('<i>'|e) ~ name }}",
        "{{ ('<i>'|e) + name }}",
        "{{ ('%s'|e) % name }}",
        "{{ ('{}'|e).format(name) }}",
        "{{ (', '|e).join([name]) }}",
        "{{ [name]|join(', '|e) }}",
        "{{ {'a': name} }}",
        "{{ [name] }}",
        "{{ name|upper }}",
    ],
)
def test_no_detour_brings_job_data_unescaped_into_html(source: str) -> None:
    html = compile_and_render(source, data={"name": "<script>"})[1]
    assert "<s" not in html.lower()


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{{ foo }}", "'foo'"),
        ("{{ order.foo }}", "'foo'"),
        ("{{ foo.bar|default('x') }}", "'foo'"),
        ("{% if foo %}{% endif %}", "'foo'"),
        ("{% for x in foo %}{% endfor %}", "'foo'"),
        ("{{ foo|upper }}", "'foo'"),
        ("{{ foo|money }}", "'foo'"),
        ("{{ foo|date }}", "'foo'"),
        ("{{ foo|link }}", "'foo'"),
        ("{{ foo|round }}", "'foo'"),
        ("{{ 'a' ~ foo }}", "'foo'"),
        ("{{ foo + 1 }}", "'foo'"),
        ("{{ foo() }}", "'foo'"),
        ("{{ '%s' % foo }}", "'foo'"),
        ("{{ '%s'|format(foo) }}", "'foo'"),
    ],
)
def test_an_undefined_variable_is_named(source: str, named: str) -> None:
    with pytest.raises(RenderError) as caught:
        compile_and_render("line one\n" + source)
    assert caught.value.reason == "missing-variables"
    assert named in caught.value.error
    assert "template t, html, line 2" in caught.value.error


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a\n{% if x %}", 2),
        ("a\n\n{{ x", 3),
        ("{{ name|no_such_filter }}", 1),
        ("a\n{% include 'other' %}", 2),
        ("{% extends 'other' %}", 1),
        ("{% import 'other' as o %}", 1),
        ("{% from 'other' import o %}", 1),
        ("a\n{% autoescape false %}{{ name }}{% endautoescape %}", 2),
    ],
)
def test_what_cannot_be_compiled_names_template_part_and_line(source: str, line: int) -> None:
    with pytest.raises(RenderError) as caught:
        compile_and_render(source)
    assert caught.value.reason == "render-error"
    assert f"template t, html, line {line}:" in caught.value.error


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ name|attr('__class__') }}",
        "{{ [name]|map(attribute='__class__')|join }}",
        "{{ '{0.__class__}'.format(name) }}",
        "{{ '{a.__class__}'.format_map({'a': name}) }}",
        "{{ '%s'.__mod__(name) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ range.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ joiner.mro() }}",
        "{{ dict.fromkeys }}",
        "{% for x in [1] %}{{ loop._iterable }}{{ loop.__class__ }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m._func }}",
        "{{ people.append(1) }}",
        "{{ order.update({}) }}",
        "{{ order.clear() }}",
        "{{ name.encode() }}",
        "{{ name.translate({}) }}",
        "{{ count.to_bytes(2, 'big') }}",
        "{{ (x for x in people) }}",
        "{{ people|map('upper') }}",
        "{{ range }}",
        "{{ name.upper }}",
        "{{ ('x'|e).unescape() }}",
        "{{ context }}",
        "{{ environment }}",
    ],
)
def test_nothing_leads_out_of_the_sandbox(source: str) -> None:
    with pytest.raises(RenderError):
        compile_and_render(source)


def test_a_part_sees_nothing_that_another_part_has_set() -> None:
    with pytest.raises(RenderError, match="'secret'"):
        compile_and_render(subject="{% set secret = 1 %}s", html="{{ secret }}")


def test_a_failed_compilation_is_remembered() -> None:
    compiler = TemplateCompiler()
    template = Template("broken", "1", "transactional", subject="s", html="{{", text="")
    errors = []
    for _ in range(2):
        with pytest.raises(RenderError) as caught:
            compiler.compiled(template)
        errors.append(caught.value)
    assert errors[0].error == errors[1].error
    assert errors[0] is not errors[1]


def test_a_template_is_compiled_once_per_version_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.templates.KEPT_TEMPLATES", 2)
    compiler = TemplateCompiler()
    first = Template("a", "1", "transactional", subject="s", html="x", text="")
    compiled = compiler.compiled(first)
    assert compiler.compiled(first) is compiled
    newer = Template("a", "2", "transactional", subject="s", html="y", text="")
    assert compiler.compiled(newer).render({})[1] == "y"
    compiler.compiled(first)
    compiler.compiled(Template("b", "1", "transactional", subject="s", html="x", text=""))
    assert compiler.compiled(first) is compiled
    assert compiler.compiled(newer) is not None


@pytest.mark.parametrize(
    ("name", "found"), [("a", True), ("a.b", True), ("a.b.c", False), ("a.x", False), ("x", False), ("d.e", True), ("n", True)]
)
def test_declared_names_may_be_dotted(name: str, found: bool) -> None:
    assert is_present(name, {"a": {"b": 1}, "d.e": 2, "n": None}) is found
