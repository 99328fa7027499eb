"""As much of SparkPost's template language as a sender of finished mails can meet: variables, defaults and the braces macros.

Statements (if, each) and render_dynamic_content are refused as a syntax error, which the real one would not do: nobody here sends them.
A value is never looked into for more of the language. This module must never let a stranger's text run anything.
Facts: SparkPost/developers.sparkpost.com template-language (2026-06-23).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"\{\{\{(?P<raw>[^{}]*)\}\}\}|\{\{(?P<plain>[^{}]*)\}\}")
_EXPRESSION = re.compile(
    r"\s*(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*(?:or\s+(?P<quote>['\"])(?P<default>[^'\"]*)(?P=quote)\s*)?", re.ASCII
)
_MACRO = re.compile(r"\s*(opening|closing)_(single|double|triple)_curly\(\)\s*")
_KEYWORDS = frozenset(
    {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "local"}
    | {"nil", "not", "or", "each", "return", "then", "true", "until", "while"}
)
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "/": "&#x2F;"}
_BRACES = {"single": 1, "double": 2, "triple": 3}
Values = Mapping[str, Any]
Template = Sequence[str | Callable[[Values], str]]


class SyntaxProblem(ValueError):
    """The text is not of the language."""


def compile_template(text: str, is_html: bool = False) -> Template:
    """The parts of a text; raises SyntaxProblem."""
    parts: list[str | Callable[[Values], str]] = []
    end = 0
    for found in _TOKEN.finditer(text):
        parts += [text[end : found.start()], _expression(found, is_html)]
        end = found.end()
    parts.append(text[end:])
    if any("{{" in part for part in parts if isinstance(part, str)):
        raise SyntaxProblem("an expression is opened and not closed")
    return parts


def render(template: Template, values: Values) -> str:
    """The text with these values; a missing one is empty."""
    return "".join([part if isinstance(part, str) else part(values) for part in template])


def _expression(found: re.Match[str], is_html: bool) -> Callable[[Values], str]:
    is_raw = found["raw"] is not None
    inner = found["raw"] if is_raw else found["plain"]
    if macro := _MACRO.fullmatch(inner):
        braces = ("{" if macro[1] == "opening" else "}") * _BRACES[macro[2]]
        return lambda values: braces
    parsed = _EXPRESSION.fullmatch(inner)
    if not parsed or not _KEYWORDS.isdisjoint(parsed["path"].split(".")):
        raise SyntaxProblem(f"cannot read the expression {inner[:40]!r}")
    path, default = parsed["path"].split("."), parsed["default"] or ""
    return lambda values: _escaped(_look_up(path, values) or default, is_html and not is_raw)


def _look_up(path: Sequence[str], values: Values) -> str:
    value: Any = values
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def _escaped(text: str, is_due: bool) -> str:
    return "".join([_ESCAPES.get(character, character) for character in text]) if is_due else text
