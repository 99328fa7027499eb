"""The shape of what came: field types, lengths and ranges, and errors that name the field and what it must be.

Must never put a value of the record into an error: errors reach logs, and values are personal.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from mail.document import join
from mail.errors import InvalidJob

T = TypeVar("T")

_PROBLEM = re.compile(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_WRONG_SIZE = re.compile(r"Expected `(?P<type>\w+)` (?P<of_length>of length )?(?P<bound>[<>]=) (?P<limit>-?\d+)")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_BOUNDS = {"<=": "at most", ">=": "at least"}


def convert(raw: object, type_: type[T], path: str) -> T:
    """`raw` as `type_`; raises InvalidJob (invalid-job) that names the first field of the wrong type, length or range."""
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as problem:
        raise InvalidJob("invalid-job", _explain(str(problem), path)) from None


def spell(raw: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`raw` with its keys spelled as documented, whatever their case; `names` comes from `spelling`."""
    return {names.get(key) or names.get(key.lower(), key): value for key, value in raw.items()}


def spelling(*documented: str) -> dict[str, str]:
    """The table that `spell` needs."""
    return {name.lower(): name for name in documented} | {name: name for name in documented}


def read_texts(raw: Mapping[str, Any] | None, path: str) -> dict[str, str]:
    """Values as text: strings as they are, numbers, true and false as JSON writes them; raises InvalidJob for anything else."""
    if not raw:
        return {}
    return {name: value if type(value) is str else _text_of(value, join(path, name)) for name, value in raw.items()}


def read_time(text: str | None, path: str) -> datetime | None:
    """ISO 8601, UTC where no offset is given; null and "" are no time; raises InvalidJob (invalid-job)."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            return time.replace(tzinfo=UTC)
        return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidJob("invalid-job", f"{path}: must be an ISO 8601 time such as 2026-01-31T10:00:00Z") from None


def refuse_unprintable(text: str, path: str) -> None:
    """Raise InvalidJob (invalid-job) for control, separator and invisible characters in an identifier."""
    if not text.isprintable():
        raise InvalidJob("invalid-job", f"{path}: holds control or invisible characters, remove them")


def _text_of(value: object, path: str) -> str:
    if not isinstance(value, bool | int | float):
        raise InvalidJob("invalid-job", f"{path}: must be a string or a number")
    return msgspec.json.encode(value).decode()


def _explain(problem: str, prefix: str) -> str:
    """msgspec's words in ours: the field's path, then what it must be."""
    found = _PROBLEM.fullmatch(problem)
    what, path = (found["what"], prefix + (found["path"] or "")) if found else ("is not valid", prefix)
    path = path.removeprefix(".")
    if missing := _MISSING.fullmatch(what):
        return f"{join(path, missing['name'])}: is missing"
    return f"{path or 'value'}: {_rule(what)}"


def _rule(what: str) -> str:
    if wrong := _WRONG_TYPE.fullmatch(what):
        return f"must be {_words(wrong['wanted'])}, not {_words(wrong['got'])}"
    if wrong := _WRONG_SIZE.fullmatch(what):
        bound = f"{_BOUNDS[wrong['bound']]} {wrong['limit']}"
        return f"must have {bound} characters" if wrong["of_length"] else f"must be {bound}"
    return "has the wrong type or size"


def _words(types: str) -> str:
    names = [name for name in types.split(" | ") if name != "null"] or ["null"]
    return " or ".join(_WORDS.get(name, name) for name in names)
