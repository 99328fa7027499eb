"""What an account's health request brings back, and what check says of it: `health` in esp/examples/<esp>.json."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp import base
from mail.outcome import NoReply, Reply
from tests.esp.test_contract import QUICK, ROOT, STANZAS, account, json_values

SECRETS = {"testapikey", "testservertoken", "testsecretkey", "testpassword"}


def rows() -> list[Any]:
    paths = [ROOT / "esp" / "examples" / f"{name}.json" for name in sorted(STANZAS)]
    found = [
        (path.stem, row) for path in paths for group in json.loads(path.read_text())["health"] if group["source"] for row in group["rows"]
    ]
    return [pytest.param(name, row, id=f"{name}: {row['what']}") for name, row in found]


@pytest.mark.parametrize(("name", "row"), rows())
def test_an_answer_says_what_is_wrong_and_what_to_do(name: str, row: dict[str, Any]) -> None:
    body = row["body"].encode() if isinstance(row["body"], str) else json.dumps(row["body"]).encode()
    health = base.load(account(name)).read_health(Reply(row["status"], row.get("headers", {}), body))
    assert (health.is_good, row["says"] in health.words) == (row["is_good"], True), health.words
    # a good one says so; any other says what to do, behind a colon
    assert (": " in health.words) is (health.is_good is not True)


@pytest.mark.parametrize("name", sorted(STANZAS))
def test_no_answer_is_no_health(name: str) -> None:
    health = base.load(account(name)).read_health(NoReply(False, "connection refused"))
    assert health.is_good is False
    assert "connection refused" in health.words
    assert "check" in health.words


@pytest.mark.parametrize("name", sorted(STANZAS))
@given(status=st.integers(-1, 999), body=st.one_of(st.binary(), json_values.map(lambda value: json.dumps(value).encode())))
@QUICK
def test_garbage_is_no_health_and_raises_nothing(name: str, status: int, body: bytes) -> None:
    health = base.load(account(name)).read_health(Reply(status, {}, body))
    assert health.is_good is not True
    assert not [secret for secret in SECRETS if secret in health.words]
    assert "@" not in health.words
