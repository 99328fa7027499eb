"""Templates that ask for gigabytes or hours: each ends at once, as an error of its own job."""

import resource
import threading
import time
from typing import Any

import pytest

from mail.errors import RenderError
from mail.template import Template
from render.allowance import Allowance, TooMuch, expanded_size
from render.templates import TemplateCompiler

DOUBLINGS = 40

BOMBS = {
    "string multiplication": "{{ 'a' * 10**9 }}",
    "string multiplication the other way round": "{{ 10**9 * 'a' }}",
    "constants that a compiler would fold": "{{ 'a' * 300000000 }}",
    "list multiplication": "{{ [1] * 10**9 }}",
    "printf width": "{{ '%1000000000d' % 1 }}",
    "printf width from arguments": "{{ '%*d' % (1000000000, 1) }}",
    "printf precision": "{{ '%.1000000000f' % 1 }}",
    "many printf fields": "{{ ('%s' * 100000) % dict(a='x' * 1000) }}",
    "format filter": "{{ '%1000000000d'|format(1) }}",
    "str.format width": "{{ '{:>1000000000}'.format(1) }}",
    "str.format width from arguments": "{{ '{:>{width}}'.format(1, width=10**9) }}",
    "many str.format fields": "{{ ('{0}' * 100000).format('a' * 1000000) }}",
    "str.format through map": "{% for f in ['{:>1000000000}']|map(attribute='format') %}{{ f(1) }}{% endfor %}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "rjust": "{{ 'x'.rjust(10**9) }}",
    "center": "{{ 'x'.center(10**9) }}",
    "center filter": "{{ 'x'|center(10**9) }}",
    "center of Markup": "{{ ('x'|e).center(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "expandtabs": "{{ '\t'.expandtabs(10**9) }}",
    "indent": "{{ 'x'|indent(10**9, first=true) }}",
    "indent by a long string": "{{ ('x\\n' * 1000)|indent('y' * 1000000) }}",
    "wordwrap": "{{ ('x ' * 50000)|wordwrap(1, wrapstring='y' * 1000000) }}",
    "lipsum": "{{ lipsum(n=200000) }}",
    "batch": "{{ [1]|batch(10**9, 'x')|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "replace filter": "{{ ('a' * 1000000)|replace('a', 'b' * 1000) }}",
    "replace method": "{{ ('a' * 1000000).replace('a', 'b' * 1000) }}",
    "urlize": "{{ ('www.a.com ' * 100000)|urlize }}",
    "join filter": "{{ range(99999)|join('x' * 1000000) }}",
    "join method": "{{ ('x' * 1000000).join('abcdefghij' * 100) }}",
    "range": "{{ range(10**9)|list }}",
    "power": "{{ 2 ** 1000000000 }}",
    "number growing by itself": "{% set n = 9**3000 %}" + "{% set n = n * n %}" * DOUBLINGS,
    "round": "{{ 5|round(-10**9) }}",
    "round down": "{{ 5|round(10**9, 'floor') }}",
    "sum of lists": "{{ ([[1]] * 100000)|sum(start=[]) }}",
    "tojson": "{{ [1, [2]]|tojson(indent=10**9) }}",
    "date pattern": "{{ '2024-01-01'|date('%1000000000d') }}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops over a list": "{% set l = range(999)|list %}{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}",
    "nested loops with text": "{% for i in range(99999) %}{% for j in range(99999) %}text{% endfor %}{% endfor %}",
    "concatenation in a loop": "{% set n = namespace(s='a') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "concatenation again and again": "{% set a = 'a' * 99 %}" + "{% set a = a ~ a %}" * DOUBLINGS,
    "addition again and again": "{% set a = 'a' * 99 %}" + "{% set a = a + a %}" * DOUBLINGS,
    "lists of lists": "{% set a = ['a'] %}" + "{% set a = [a, a] %}" * DOUBLINGS + "{{ a }}",
    "tuples of tuples": "{% set a = (1,) %}{% set b = (1,) %}" + "{% set a = (a, a) %}{% set b = (b, b) %}" * DOUBLINGS + "{{ a == b }}",
    "dicts of dicts": "{% set a = {} %}" + "{% set a = {1: a, 2: a} %}" * DOUBLINGS + "{{ a|tojson }}",
    "dict calls of dict calls": "{% set a = {} %}" + "{% set a = dict(x=a, y=a) %}" * DOUBLINGS,
    "lists growing": "{% set a = ['a'] %}" + "{% set a = a + a %}" * DOUBLINGS,
    "block sets": "{% set a = 'aaaa' %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * DOUBLINGS,
    "macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "long text in a loop": "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
    "long text in a macro": "{% macro m(s) %}{% for i in range(9999) %}{{ s }}{% endfor %}{% endmacro %}{{ m('<' * 200000) }}",
    "many slices of a long text": "{% set s = 'a' * 1000000 %}" + "{% set a = s[1:] %}" * 99,
    "filter chains": "{{ 'a' * 1000000 " + "|upper|lower" * 50 + " }}",
    "a namespace of itself": "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
    "deep nesting": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "deep blocks": "{% if 1 %}" * 2_000 + "{% endif %}" * 2_000,
    "long sums": "{{ 1" + "+1" * 50_000 + " }}",
    "many expressions": "{{ x }}" * 50_000,
    "huge source": "x" * 600_000,
}


def render(source: str, compiler: TemplateCompiler | None = None) -> str:
    compiler = compiler or TemplateCompiler()
    template = Template("bomb", "1", "transactional", subject="s", html=source, text="")
    return compiler.compiled(template).render({**compiler.globals, "x": 1})[1]


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_a_render_error_soon_and_small(source: str) -> None:
    memory_before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.process_time()
    with pytest.raises(RenderError) as caught:
        render(source)
    assert caught.value.reason in ("render-error", "missing-variables")
    assert "bomb" in caught.value.error
    assert time.process_time() - started_s < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before_kib < 150 * 1024


@pytest.mark.parametrize(
    "name",
    [
        "nested loops",
        "nested loops over a list",
        "macro that calls itself twice",
        "concatenation in a loop",
        "long text in a macro",
        "recursive loop",
    ],
)
def test_outside_the_main_thread_the_allowance_alone_stops_a_bomb(name: str) -> None:
    errors: list[RenderError] = []

    def work() -> None:
        try:
            render(BOMBS[name])
        except RenderError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert errors


def test_a_bomb_leaves_nothing_behind_for_the_next_template() -> None:
    compiler = TemplateCompiler()
    with pytest.raises(RenderError):
        render(BOMBS["nested loops"], compiler)
    harmless = Template("harmless", "1", "transactional", subject="s", html="{{ 'a' * 3 }}{% for i in range(1000) %}.{% endfor %}", text="")
    assert compiler.compiled(harmless).render(dict(compiler.globals))[1] == "aaa" + "." * 1000


def test_a_value_that_refers_to_itself_often_is_measured_as_often() -> None:
    shared: list[Any] = ["text"]
    for _ in range(10):
        shared = [shared, shared]
    assert expanded_size(shared) > 1024 * len("text")
    for _ in range(30):
        shared = [shared, shared]
    with pytest.raises(TooMuch):
        expanded_size(shared)


def test_the_allowance_counts_until_it_is_renewed() -> None:
    allowance = Allowance()
    with pytest.raises(TooMuch):
        for _ in range(100):
            allowance.charge("x" * 1_000_000)
    with pytest.raises(TooMuch):
        allowance.take_chars(1)
    allowance.renew()
    allowance.take_chars(1)
