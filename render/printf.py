"""`%` and str.format inside templates, with a bound on what they print.

`'%1000000000d' % 1` is one call into C that makes a gigabyte and cannot be interrupted; so sizes are estimated first, generously.
"""

import re
from typing import Any

from jinja2.sandbox import SandboxedFormatter
from markupsafe import EscapeFormatter

from render.allowance import MAX_TEXT_CHARS, Allowance, TooMuch, expanded_size

_MAX_WIDTH_DIGITS = 3
_LONGEST_NUMBER_CHARS = 320  # '%f' % 1e308
_STAR_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0-9.]*\*")
_DIGITS = re.compile(r"\d+")


def check_printf(pattern: str, arguments: Any) -> None:
    """Raises TooMuch where `pattern % arguments` might print more than MAX_TEXT_CHARS, or takes a width from its arguments."""
    if _STAR_WIDTH.search(pattern):
        raise TooMuch("a width taken from the arguments is not allowed")
    widths = 0
    for digits in _DIGITS.findall(pattern):
        widths += int(digits[:8])
    longest = expanded_size(arguments) + _LONGEST_NUMBER_CHARS
    if len(pattern) + widths + pattern.count("%") * longest > MAX_TEXT_CHARS:
        raise TooMuch(f"a format may print more than {MAX_TEXT_CHARS} characters")


class BoundedFormatter(SandboxedFormatter):
    """str.format whose every field is checked before and charged after it is spelled."""

    def __init__(self, environment: Any, allowance: Allowance, **options: Any) -> None:
        super().__init__(environment, **options)
        self._allowance = allowance

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        expanded_size(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        if any(len(digits) > _MAX_WIDTH_DIGITS for digits in _DIGITS.findall(format_spec)):
            raise TooMuch("a width in a format has at most three digits")
        expanded_size(value)
        text = str(super().format_field(value, format_spec))
        self._allowance.take_chars(len(text))
        return text


class BoundedEscapeFormatter(BoundedFormatter, EscapeFormatter):
    """The same for text that is HTML already: what is put into it is escaped."""
