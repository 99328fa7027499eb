"""docs/providers.md says what the adapters do, today's adapters."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from config.catalog import CATALOG
from esp import base
from mail.account import Account
from mail.message import Message
from mail.outcome import Request
from operations import provider_probes as probes
from operations import providers
from tests.operations.console import Console

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
STANZAS = tomllib.loads((ROOT / "config" / "esps.toml").read_text())


def test_the_page_is_not_older_than_the_adapters() -> None:
    assert (ROOT / "docs" / "providers.md").read_text() == providers.page(CATALOG), "run python -m operations.providers"


def test_the_page_has_a_column_for_every_stanza_and_an_answer_in_every_cell() -> None:
    rows = [line for line in providers.page(CATALOG).splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert rows[0] == f"|  | {' | '.join(STANZAS)} |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {len(row) for row in cells} == {len(STANZAS) + 1}
    assert all(all(row[1:]) for row in cells)


class Forgetful:
    """An adapter that loses whatever it is told to lose."""

    def __init__(self, *lost: str):
        self.lost = lost
        self.whole = base.load(Account("postmark", 0, "https://x.test", {"server_token": "t"}))
        self.limits = self.whole.limits

    def unsupported(self, message: Message) -> str | None:
        return "no subject" if not message.subject else None

    def prepare(self, messages: Any) -> list[Request]:
        (request,) = self.whole.prepare(messages)
        body = request.body
        for word in self.lost:
            body = body.replace(word.encode(), b"")
        return [Request(request.method, request.url, request.headers, body, request.messages)]


@pytest.mark.parametrize(
    ("name", "lost", "says"),
    [
        ("Cc", (), "yes"),
        ("Cc", ("cc@probe.test",), "left out"),
        ("several To", ("to-two@probe.test",), "the first"),
        ("no subject", (), "no"),
        ("metadata, custom args", (), "the first 9"),
        ("metadata, custom args", ("probe-data-08",), "the first 8"),
    ],
)
def test_a_probe_finds_out_what_is_lost(name: str, lost: tuple[str, ...], says: str) -> None:
    (probe,) = [probe for probe in probes.PROBES if probe.name == name]
    assert probes.carried(Forgetful(*lost), probe) == says  # type: ignore[arg-type]


def test_an_operator_reads_the_same(database: dict[str, Any], tmp_path: Path) -> None:
    done = Console(database, tmp_path).type("providers")
    assert done.returncode == 0
    assert done.text.strip() == providers.page(CATALOG).strip()
    assert done.stderr == b""
