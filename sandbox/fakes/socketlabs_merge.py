"""SocketLabs' mail merge: one message of a request that becomes a mail for each row of its data.

A row's field DeliveryAddress names its recipient. This module must never look into a value for more placeholders.
Facts: SocketLabs' SDKs and its on-demand examples (read 2026-11).
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

ADDRESS, NAME = "deliveryaddress", "recipientname"
_PLACEHOLDER = re.compile(r"%%([^%\s]+)%%")
Values = dict[str, str]
Fields = dict[str, Any]


class Copy(NamedTuple):
    """One mail of a request: its message's place, and the values that are put into it (none where nothing is merged)."""

    place: int
    values: Values | None


def is_merge(message: Fields) -> bool:
    data = message.get("mergedata") or {}
    return is_sound(data) and bool(data.get("permessage"))


def is_sound(data: Any) -> bool:
    """Whether merge data has the right shape, and every row a recipient."""
    if not isinstance(data, dict):
        return False
    rows, shared = data.get("permessage") or [], data.get("global") or []
    if not isinstance(rows, list) or not all(_is_row(row) for row in [*rows, shared]):
        return False
    return all(ADDRESS in _values(row) for row in rows)


def copies(messages: list[Fields]) -> Iterator[Copy]:
    """All mails that a request's messages ask for, in order: what counts them is what the ledger calls their item."""
    for place, message in enumerate(messages):
        if not is_merge(message):
            yield Copy(place, None)
            continue
        data = message["mergedata"]
        shared = _values(data.get("global") or [])
        yield from (Copy(place, shared | _values(row)) for row in data["permessage"])


def filled(message: Fields, values: Values | None) -> Fields:
    """The message as one recipient gets it."""
    if values is None:
        return message
    whole: Fields = _replaced({name: value for name, value in message.items() if name not in ("mergedata", "attachments")}, values)
    return whole | {"attachments": message.get("attachments")}


def _replaced(value: Any, values: Values) -> Any:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: values.get(found[1].lower(), ""), value)
    if isinstance(value, dict):
        return {name: _replaced(inner, values) for name, inner in value.items()}
    return [_replaced(inner, values) for inner in value] if isinstance(value, list) else value


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and all(
        isinstance(pair, dict) and isinstance(pair.get("field"), str) and isinstance(pair.get("value"), str) for pair in row
    )


def _values(row: list[dict[str, str]]) -> Values:
    return {pair["field"].lower(): pair["value"] for pair in row}
