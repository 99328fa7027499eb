"""Where the fakes are, and what they say they took."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.fakes.ledger import Line, read_ledger

PDF = b"%PDF-1.7 not much of one"


class Place(NamedTuple):
    """The addresses of the fakes, and the folder of their ledgers."""

    urls: dict[str, str]
    folder: Path

    def ledger(self, esp: str) -> list[Line]:
        return list(read_ledger(self.folder / "ledger" / f"{esp}.jsonl"))

    def recipients(self, esp: str) -> list[str]:
        return [line["recipient"] for line in self.ledger(esp)]

    def mail(self, recipient: str) -> dict[str, Any]:
        """The one mail of this recipient, as the inbox shows it: subject, html, text, headers, metadata, attachments."""
        found = self._ask(f"/api/mails?recipient={urllib.parse.quote(recipient)}")["mails"]
        (one,) = [entry for entry in found if entry["recipient"] == recipient]
        content: dict[str, Any] = self._ask(f"/api/mails/{one['n']}")["content"]
        return content | {"headers": dict(content["headers"])}

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.urls["inbox"] + path, timeout=5) as reply:
            return json.load(reply)
