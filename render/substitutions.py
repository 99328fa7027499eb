"""Substitutions of content requests: `-name-` and `{{name}}` become values, in one pass over each part.

Values are data: they are never searched for placeholders again, never template source, and escaped in HTML unless they name a
section, whose text belongs to the content. A placeholder without a value stays as it is.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from markupsafe import escape

from mail.errors import RenderError
from mail.job import Inline
from render.allowance import MAX_OUTPUT_CHARS

# One request's subject, text and HTML for a few requests at a time; each entry is as large as its part.
_KEPT_PARTS = 16
# The search may try every name at every dash. Characters times names: 200 names in a megabyte, 1,000 in 200 KB; a second at worst.
_MAX_SEARCH = 200_000_000


class Substituter:
    """Fills contents. It remembers where the placeholders of a part are, so 1,000 personalizations search it once."""

    def __init__(self) -> None:
        self._split = lru_cache(maxsize=_KEPT_PARTS)(split_at_placeholders)

    def fill(self, inline: Inline) -> tuple[str, str, str]:
        """Subject, HTML and text of one email. Raises RenderError where that makes more than MAX_OUTPUT_CHARS."""
        names = tuple(inline.substitutions)
        if not names:
            return inline.subject, inline.html, inline.text
        plain = {name: inline.sections.get(value, value) for name, value in inline.substitutions.items()}
        return (
            _filled(self._split(inline.subject, names), plain),
            _filled(self._split(inline.html, names), _escaped(inline)) if inline.html else "",
            _filled(self._split(inline.text, names), plain),
        )


def split_at_placeholders(content: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Literal text and names in turn: the text before the first placeholder, its name, the text after it, ...

    Where two names fit at the same place the longer one wins. Raises RenderError for a search of more than _MAX_SEARCH.
    """
    if len(content) * len(names) > _MAX_SEARCH:
        raise RenderError("render-error", f"{len(names)} substitutions in {len(content)} characters are too many to look for")
    present = [name for name in names if name and name in content]
    if not present:
        return (content,)
    # Between braces blanks around the name do not count, so a name that has some itself is found without them.
    braced = {name.strip(): name for name in present} | {name: name for name in present if name == name.strip()}
    pattern = _placeholder_pattern(present, [name for name in braced if name])
    pieces: list[str] = []
    end = 0
    for match in pattern.finditer(content):
        pieces += (content[end : match.start()], match[1] or braced[match[2]])
        end = match.end()
    return (*pieces, content[end:])


def _placeholder_pattern(dashed: Iterable[str], braced: Iterable[str]) -> re.Pattern[str]:
    """Possessive blanks (`*+`): with the ordinary ones, a few hundred blanks in a content would take minutes."""
    return re.compile(rf"-({_choice_of(dashed)})-|\{{\{{\s*+({_choice_of(braced)})\s*+\}}\}}")


def _choice_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or "(?!)"  # (?!) fits nowhere


def _escaped(inline: Inline) -> dict[str, str]:
    return {
        name: inline.sections[value] if value in inline.sections else str(escape(value)) for name, value in inline.substitutions.items()
    }


def _filled(pieces: tuple[str, ...], values: Mapping[str, str]) -> str:
    if len(pieces) == 1:
        return pieces[0]
    filled = list(pieces)
    filled[1::2] = [values[name] for name in pieces[1::2]]
    if sum(map(len, filled)) > MAX_OUTPUT_CHARS:
        raise RenderError("render-error", f"the substituted content is longer than {MAX_OUTPUT_CHARS} characters")
    return "".join(filled)
