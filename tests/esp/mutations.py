"""Documented callbacks and what a hostile sender would make of them: any node replaced, removed or repeated, any byte changed."""

import copy
import json
import random
import tomllib
from pathlib import Path
from typing import Any

from mail.ids import new_id, wire_id

ROOT = Path(__file__).parents[2]
STANZAS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "config" / "esps.toml").read_text())
ATTEMPT_ID = new_id()
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**200, -(2**64), 1e308, -0.5, 1e12, 99999999999999999999),
    *(
        "",
        " ",
        "\ufffd",
        "null",
        "@",
        "a@b",
        "\u202e",
        "9" * 400,
        "x" * 70_000,
        "1e400",
        "nan",
        "inf",
        "-1",
        "0",
        "17.0.0.1",
        "fe80::1%eth0",
    ),
    *("9999-12-31T23:59:59.9999999-23:59", "0001-01-01T00:00:00+23:59", "2026-11-21", "é" * 300, "İ", "ß@ſ", "ATTEMPT", "5.1.1", "bounce"),
    *([], {}, [[]], [None], {"": ""}, {"attempt_id": 7}, {"IP": []}, [{"event": "open"}], {"event": {"event": "open"}}),
]


def documented() -> list[tuple[str, dict[str, Any]]]:
    """The callbacks of esp/examples/, as (provider, example); "WIRE" in them becomes the wire id of ATTEMPT_ID."""
    paths = [path for path in sorted((ROOT / "esp" / "examples").glob("*.json")) if path.stem in STANZAS]
    parsed = {path.stem: json.loads(path.read_text().replace("WIRE", wire_id(ATTEMPT_ID))) for path in paths}
    return [(name, example) for name, examples in parsed.items() for example in examples.get("callbacks", [])]


def mutated(document: Any, dice: random.Random) -> Any:
    """The document with one to four places changed."""
    changed = copy.deepcopy(document)
    for _ in range(dice.randint(1, 4)):
        changed = _changed(changed, dice)
    return changed


def mutated_bytes(value: bytes, dice: random.Random) -> bytes:
    """The bytes with one place overwritten, cut out, doubled or cut off."""
    if not value:
        return value
    start = dice.randrange(len(value))
    end = min(len(value), start + dice.choice((1, 1, 2, 8, 40)))
    fresh = dice.choice((b"", b"\x00", b"\xff", b'"', b"\\", b"{", b"]", b"\\u0000", b"\\ud800", b"9" * 50, value[start:end] * 2))
    return value[:start] + fresh + (b"" if dice.random() < 0.1 else value[end:])


def _changed(node: Any, dice: random.Random) -> Any:
    if not isinstance(node, dict | list) or not node or dice.random() < 0.1:
        return copy.deepcopy(dice.choice(JUNK))
    key: Any = dice.choice(list(node)) if isinstance(node, dict) else dice.randrange(len(node))
    deed = dice.random()
    if deed < 0.15:
        del node[key]
    elif deed < 0.25 and isinstance(node, dict):
        node[dice.choice(("event", "RecordType", "Type", "type", key + " ", key.upper(), key.lower()))] = node.pop(key)
    elif deed < 0.3 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = _changed(node[key], dice)
    return node
