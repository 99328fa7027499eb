"""Substitutions of content requests: what becomes what, once and only once."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import RenderError
from mail.job import Inline
from render.substitutions import Substituter, split_at_placeholders


def fill(content: str, substitutions: dict[str, str], sections: dict[str, str] | None = None) -> tuple[str, str, str]:
    return Substituter().fill(Inline(content, content, content, substitutions, sections or {}))


@pytest.mark.parametrize(
    ("content", "substitutions", "expected"),
    [
        ("Hi -name-", {"name": "Bob"}, "Hi Bob"),
        ("Hi {{name}}", {"name": "Bob"}, "Hi Bob"),
        ("Hi {{ name }} {{  name}} {{name\t}}", {"name": "Bob"}, "Hi Bob Bob Bob"),
        ("Hi - name -", {"name": "Bob"}, "Hi - name -"),
        ("-name--name-", {"name": "x"}, "xx"),
        ("-a-b-", {"a": "1", "b": "2"}, "1b-"),
        ("-a-b-", {"a": "1", "a-b": "2"}, "2"),
        ("{{other}} -other- {{ name", {"name": "x"}, "{{other}} -other- {{ name"),
        ("-Name-", {"name": "x"}, "-Name-"),
        ("-a- {{b}}", {"a": "-b- {{b}}", "b": "-a-"}, "-b- {{b}} -a-"),
        ("a -.*- b", {".*": "x"}, "a x b"),
        ("{{{name}}}", {"name": "x"}, "{x}"),
        ("-first name-", {"first name": "x"}, "x"),
        ("-- {{}}", {"": "x"}, "-- {{}}"),
        ("{{ 7*7 }} {% if %} {#", {"name": "x"}, "{{ 7*7 }} {% if %} {#"),
        ("{{name}}", {"name": "{{ 7*7 }}"}, "{{ 7*7 }}"),
        ("-name-", {"name": "\\1 \\0 \\n"}, "\\1 \\0 \\n"),
        ("-größe-", {"größe": "ß"}, "ß"),
        ("{{ a }} - a -", {" a ": "x"}, "x x"),
        ("{{ a }} {{a}}", {" a": "x", "a": "y"}, "y y"),
        ("{{  }}- -", {" ": "x"}, "{{  }}x"),
        ("", {"name": "x"}, ""),
        ("-name-", {}, "-name-"),
    ],
)
def test_placeholders_become_values(content: str, substitutions: dict[str, str], expected: str) -> None:
    assert fill(content, substitutions) == (expected, expected, expected)


def test_values_are_escaped_in_html_only() -> None:
    subject, html, text = fill("-x-", {"x": "<b>&\"'"})
    assert subject == text == "<b>&\"'"
    assert html == "&lt;b&gt;&amp;&#34;&#39;"


def test_a_value_that_names_a_section_becomes_its_text_as_it_is() -> None:
    subject, html, text = fill("-x- {{y}}", {"x": "-sec-", "y": "sec"}, {"-sec-": "<b>-y- {{x}}</b>"})
    assert subject == html == text == "<b>-y- {{x}}</b> sec"


def test_a_section_placeholder_in_the_content_itself_stays() -> None:
    assert fill("-sec-", {"x": "1"}, {"-sec-": "text"})[2] == "-sec-"


def test_empty_parts_stay_empty() -> None:
    assert Substituter().fill(Inline("s", "", "", {"a": "b"}, {})) == ("s", "", "")


def test_a_small_content_that_would_become_huge_is_an_error() -> None:
    with pytest.raises(RenderError, match="longer than"):
        fill("-a-" * 10_000, {"a": "x" * 10_000})


def test_a_search_that_would_take_minutes_is_an_error_at_once() -> None:
    names = {f"-{n}": "x" for n in range(2_000)}
    content = "-" * 500_000 + " ".join(names)
    with pytest.raises(RenderError, match="too many"):
        fill(content, names)


def test_blanks_between_braces_do_not_slow_the_search_down() -> None:
    names = {" " * n: "x" for n in range(1, 200)} | {"a" * n: "x" for n in range(1, 50)}
    content = ("{{" + " " * 400 + "a") * 100 + "{{ " * 1_000 + " " * 50_000
    started_s = time.process_time()
    assert fill(content, names)[2] == content
    assert time.process_time() - started_s < 2


def test_a_thousand_personalizations_are_quick() -> None:
    substituter = Substituter()
    html = "<p>Dear -name-, your code is {{ code }}.</p>" + "<p>The same for everybody.</p>" * 200
    started_s = time.process_time()
    for n in range(1_000):
        filled = substituter.fill(Inline("Hi -name-", "", html, {"name": f"N{n}", "code": str(n)}, {}))
        assert f"N{n}" in filled[1]
    assert time.process_time() - started_s < 0.5


NAMES = st.text(min_size=1, max_size=6)
MARKED = st.one_of(
    st.text(max_size=8), st.sampled_from(["-", "{{", "}}", " ", "-a-", "{{a}}", "{{ b }}", "-b-"]), NAMES.map(lambda n: f"-{n}-")
)
CONTENTS = st.lists(MARKED, max_size=12).map("".join)


@given(content=CONTENTS, substitutions=st.dictionaries(NAMES | st.sampled_from(["a", "b", "-", "{{"]), MARKED, max_size=5))
def test_substitution_is_one_pass_and_never_raises(content: str, substitutions: dict[str, str]) -> None:
    subject, _, text = fill(content, substitutions)
    assert subject == text
    # what was split puts itself together again, so nothing but placeholders was touched, and each exactly once
    pieces = split_at_placeholders(content, tuple(substitutions))
    expected = "".join(substitutions[piece] if n % 2 else piece for n, piece in enumerate(pieces))
    assert text == expected
    position = 0
    for n, piece in enumerate(pieces):
        if n % 2:
            assert content[position] in "-{"
            position = content.index("-" if content[position] == "-" else "}}", content.index(piece, position + 1) + len(piece))
            position += 1 if content[position] == "-" else 2
        else:
            assert content.startswith(piece, position)
            position += len(piece)
    assert position == len(content)


@given(content=CONTENTS, marker=st.text(alphabet="xyz", min_size=1, max_size=3))
def test_values_are_never_searched_again(content: str, marker: str) -> None:
    value = "-a-{{a}}" + marker
    _, _, text = fill(content, {"a": value})
    pieces = split_at_placeholders(content, ("a",))
    assert text.count("-a-{{a}}" + marker) >= len(pieces) // 2
    assert len(text) == sum(len(p) for p in pieces[::2]) + len(value) * (len(pieces) // 2)
