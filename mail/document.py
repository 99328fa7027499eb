"""From bytes to one JSON object, with everything refused that breaks a parser, a database or a header later on.

Must never raise anything but InvalidJob, whatever the bytes are, and never put a value of the record into an error.

Facts about msgspec 0.22 (measured 2026-11): it refuses NaN, infinities, lone surrogates (escaped or raw) and bytes that are not
UTF-8, keeps integers of any size exact up to Python's 4,300 digits, takes the last of doubled keys, and lets `\\u0000` pass. Nesting
beyond the interpreter's recursion limit is a RecursionError, and that limit differs between Python versions: ours is MAX_DEPTH.
orjson would turn an integer beyond 64 bits into a float without a word, so it is not used here.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mail.errors import InvalidJob
from mail.limits import MAX_DEPTH

_CANONICAL = msgspec.json.Encoder(order="deterministic")
_BACKSLASH, _BRACKET = b"\\["
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Document(msgspec.Struct, frozen=True):
    """The object that a record holds. `may_hold_nul` is a cheap suspicion; only then is a walk through the values worth its time."""

    fields: dict[str, Any]
    may_hold_nul: bool


def parse(value: bytes, max_bytes: int) -> Document:
    """The JSON object in `value`; raises InvalidJob (too-large, not-json, invalid-job)."""
    if len(value) > max_bytes:
        raise InvalidJob("too-large", f"value: has {len(value)} bytes, at most {max_bytes} are taken")
    fields = parse_json(value)
    if not isinstance(fields, dict):
        raise InvalidJob("invalid-job", "value: must be a JSON object")
    # Looking for one byte first: it costs a tenth of looking for six
    return Document(fields, _BACKSLASH in value and b"\\u0000" in value)


def refuse_nul(fields: Any, path: str) -> None:
    """Raise InvalidJob where a NUL is in any string or key below `path`; neither text columns nor jsonb can hold one."""
    for where in _paths_with_nul(fields, path):
        raise InvalidJob("invalid-job", f"{where or 'value'}: holds a NUL character, remove it")


def hash_content(*parts: object) -> bytes:
    """SHA-256 of the canonical JSON (sorted keys, no blanks) of what makes two requests the same."""
    return hashlib.sha256(_CANONICAL.encode(parts)).digest()


def parse_json(value: bytes) -> Any:
    """What a JSON text holds; raises InvalidJob("not-json") over what is none, or is nested deeper than MAX_DEPTH."""
    try:
        fields = msgspec.json.decode(value)
    except UnicodeDecodeError:
        raise InvalidJob("not-json", "value: is not UTF-8") from None
    except RecursionError:
        raise InvalidJob("not-json", f"value: is nested deeper than {MAX_DEPTH} levels") from None
    except msgspec.DecodeError as problem:  # its text names positions, never content
        raise InvalidJob("not-json", f"value: is not JSON: {problem}") from None
    # Fewer brackets than levels allowed: no need to look. Most jobs hold no list, which `in` tells faster than `count` does
    brackets = value.count(b"{") + (value.count(b"[") if _BRACKET in value else 0)
    if brackets > MAX_DEPTH and _is_deeper_than(fields, MAX_DEPTH):
        raise InvalidJob("not-json", f"value: is nested deeper than {MAX_DEPTH} levels")
    return fields


def _is_deeper_than(root: Any, limit: int) -> bool:
    level = [root]
    for _ in range(limit):
        level = [child for node in level for child in _children(node) if type(child) is dict or type(child) is list]
        if not level:
            return False
    return True


def _children(node: Any) -> Any:
    return node.values() if type(node) is dict else node


def _paths_with_nul(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, str):
        if "\0" in node:
            yield path
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _paths_with_nul(key, path)
            yield from _paths_with_nul(child, join(path, key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _paths_with_nul(child, f"{path}[{index}]")


def join(path: str, key: str) -> str:
    """The path of a field below `path`; a key that does not look like a field name may be personal, so it is not shown."""
    shown = key if _PLAIN_KEY.fullmatch(key) else "..."
    return f"{path}.{shown}" if path else shown
