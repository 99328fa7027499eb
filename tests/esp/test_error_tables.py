"""The error tables of every ESP's documentation, row by row: `errors` in esp/examples/<esp>.json, each group with its source.

A row tells what comes back (`status`, `headers`, `body`, or an `item` of a batch's answer beside one that was taken), what that means
for a mail `alone`, and what for two `together`: where it is not said, a refusal over mails is split, anything else holds for both.
"""

import importlib
import inspect
import json
from typing import Any

import pytest

from esp import base
from mail.outcome import Outcome, Reply, Verdict
from tests.esp.test_contract import ROOT, STANZAS, account, assert_one_each, prepared

NOW_S = 1_800_000_000.0
SPLIT = "split neighbour"
Row = dict[str, Any]


def tables() -> dict[str, list[Row]]:
    paths = [ROOT / "esp" / "examples" / f"{name}.json" for name in sorted(STANZAS)]
    return {path.stem: json.loads(path.read_text())["errors"] for path in paths}


def rows() -> list[Any]:
    found = [(name, row, group.get("batch")) for name, groups in tables().items() for group in groups for row in group["rows"]]
    return [pytest.param(name, row, batch, id=f"{name}: {row['what']}") for name, row, batch in found]


def esp_of(name: str) -> base.Esp:
    """The adapter with a clock that stands still, where it has one."""
    made = importlib.import_module(f"esp.{name}").Esp
    clock = {"now": lambda: NOW_S} if "now" in inspect.signature(made).parameters else {}
    esp: base.Esp = made(account(name), **clock)
    return esp


def has_company(name: str) -> bool:
    """May a request hold more than one mail?"""
    return esp_of(name).limits.messages_per_request > 1


def judged(name: str, row: Row, batch: Any, count: int) -> list[Outcome]:
    esp = esp_of(name)
    body = row.get("body", "") if batch is None else _filled(batch, row["item"])
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = prepared(esp, count)
    outcomes = esp.interpret(request, Reply(row.get("status", 200), row.get("headers", {}), raw))
    assert_one_each(request, outcomes)
    return outcomes


def said(outcome: Outcome) -> str:
    return str(outcome.verdict) if outcome.blame is None else f"{outcome.verdict} {outcome.blame}"


@pytest.mark.parametrize(("name", "row", "batch"), rows())
def test_a_row_means_for_a_mail_alone_what_it_says(name: str, row: Row, batch: Any) -> None:
    outcomes = judged(name, row, batch, 1 if batch is None else 2)
    assert said(outcomes[0]) == row["alone"]
    assert [outcome.verdict for outcome in outcomes[1:]] == [Verdict.ACCEPTED] * (len(outcomes) - 1)
    if "wait_s" in row or not row["alone"].startswith("throttled"):
        assert outcomes[0].retry_after_s == row.get("wait_s")


@pytest.mark.parametrize(("name", "row", "batch"), [p for p in rows() if p.values[2] is None and has_company(p.values[0])])
def test_a_row_means_for_two_mails_together_what_it_says(name: str, row: Row, batch: Any) -> None:
    is_over_mails = row["alone"].startswith(("rejected", "unsupported"))
    expected = row.get("together", [SPLIT if is_over_mails else row["alone"]] * 2)
    assert [said(outcome) for outcome in judged(name, row, batch, 2)] == expected


@pytest.mark.parametrize("name", sorted(STANZAS))
def test_every_esp_has_its_tables_and_they_reach_every_kind_of_refusal(name: str) -> None:
    groups = tables()[name]
    assert all(group["source"] for group in groups)
    verdicts = {row["alone"].split()[0] for group in groups for row in group["rows"]}
    assert {"rejected", "misconfigured", "throttled", "unknown", "unsupported"} <= verdicts


def _filled(node: Any, item: Any) -> Any:
    if node == "ITEM":
        return item
    if isinstance(node, list):
        return [_filled(one, item) for one in node]
    return {key: _filled(value, item) for key, value in node.items()} if isinstance(node, dict) else node
