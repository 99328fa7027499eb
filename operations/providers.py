"""`manage.py providers`, and docs/providers.md: what each ESP of config/esps.toml supports, asked of its adapter.

`python -m operations.providers` writes the page; a test compares it with what is made here. This module must never name an ESP.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from config.catalog import CATALOG, Stanza, account_of, read_catalog
from config.settings import Settings
from esp.base import Esp, Listener, load
from mail.callback import Callback
from mail.errors import BadCallback
from mail.event import EventType
from operations import provider_probes as probes

ROOT = Path(__file__).resolve().parent.parent
_MAILS, _FEW = 1_000, 20
_HEAD = """\
# Providers

What each ESP of `config/esps.toml` takes and tells, found out by giving its adapter messages and looking at the requests that it
prepares. Made by `python -m operations.providers`; nothing here is written by hand but these lines.

*yes*: it arrives. *no*: the ESP cannot express it, so the mail goes to another one; the reasons are below. *left out*: the mail
goes, without it. Labels (tags, metadata) never stop a mail: of them travels what the ESP takes, ours first. Where an ESP reports
nothing back, nobody would ever read them, and a header would show them to the recipient: there they are left out whole.

What no probe can find out: where different mails share a request as values of a template's variables, an ESP may not see the links
in them, and then reports opens but no clicks. Where that is so, the module that builds the request says it in its first lines.
"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("providers", help="what each ESP supports, as docs/providers.md has it")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    print(page(CATALOG))
    return 0


def page(catalog: Path) -> str:
    """The text of docs/providers.md for the stanzas of this file."""
    stanzas, _ = read_catalog(catalog)
    esps = {stanza.provider: esp_of(stanza) for stanza in stanzas}
    tables = [
        ("What a mail may have", [(probe.name, [probes.carried(esp, probe) for esp in esps.values()]) for probe in probes.PROBES]),
        (f"Requests for {_MAILS:,} mails", [(b.name, [_requests(s, b) for s in stanzas]) for b in probes.BATCHES]),
        ("Limits", list(_limits(esps.values()))),
        ("What comes back", list(_answers(stanzas, esps))),
    ]
    parts = [f"## {title}\n\n{_table(['', *esps], rows)}" for title, rows in tables]
    reasons = "\n".join(f"- **{name}**: {'; '.join(probes.refusals(esp))}." for name, esp in esps.items())
    return "\n".join([_HEAD, *parts, f"## Why a mail goes to another ESP\n\n{reasons}\n"])


def _requests(stanza: Stanza, batch: probes.Batch) -> str:
    """The number, and with which optional settings it would be another."""
    plain = esp_of(stanza)
    numbers = [str(probes.requests_for(plain, batch, _MAILS))]
    for key, credential in _optional(stanza):
        other = esp_of(stanza, key)
        if probes.requests_for(other, batch, _FEW) != probes.requests_for(plain, batch, _FEW):
            numbers.append(f"{probes.requests_for(other, batch, _MAILS)} with `{credential}`")
    return ", ".join(numbers)


def _limits(esps: Iterable[Esp]) -> Iterator[tuple[str, list[str]]]:
    limits = [esp.limits for esp in esps]
    yield "mails a request", [str(one.messages_per_request) for one in limits]
    yield "recipients a mail", [str(one.recipients_per_message) for one in limits]
    yield "MB a mail, attachments in base64", [f"{one.message_bytes / 1e6:g}" for one in limits]
    yield "MB a request", [f"{one.request_bytes / 1e6:g}" for one in limits]


def _answers(stanzas: Sequence[Stanza], esps: Mapping[str, Esp]) -> Iterator[tuple[str, list[str]]]:
    yield "the attempt id travels as", [f"`{probes.place_of_attempt_id(esp)}`" for esp in esps.values()]
    told = [_told(name, esp) for name, esp in esps.items()]
    for type_ in EventType:
        yield f"event: {type_}", ["yes" if type_ in types else "–" for types, _ in told]
    yield "tells opens of machines", ["yes" if has_machines else "–" for _, has_machines in told]
    yield "callbacks are checked by", [", ".join(f"`{name}`" for name in _checking(stanza)) or "–" for stanza in stanzas]
    yield "uncertain mails are looked up at", [_code(probes.search_of(esp)) for esp in esps.values()]
    yield "`manage.py check` asks", [_code(probes.question_of(esp.health())) for esp in esps.values()]


def _told(name: str, esp: Esp) -> tuple[set[EventType], bool]:
    """Which events its documented callbacks hold, and whether one is known to be a machine's."""
    if not isinstance(esp, Listener):
        return set(), False
    examples = json.loads((ROOT / "esp" / "examples" / f"{name}.json").read_text())
    bodies = [example["body"] for example in examples["callbacks"] if example["events"]]
    events = [event for body in bodies for event in esp.parse_events(body)]
    return {event.type for event in events}, any(event.is_machine for event in events)


def _checking(stanza: Stanza) -> list[str]:
    """The optional settings with any of which a callback that brings nothing is refused."""
    return [credential for key, credential in _optional(stanza) if _refuses(esp_of(stanza, key))]


def _refuses(esp: Esp) -> bool:
    if not isinstance(esp, Listener):
        return False
    try:
        esp.verify(Callback({}, b"{}", {}))
    except BadCallback:
        return True
    return False


def _optional(stanza: Stanza) -> list[tuple[str, str]]:
    """Credentials that may stay unset, with their settings; those that name a file are not there to be probed."""
    optional = [(key, one.setting) for key, one in stanza.credentials.items() if not one.is_required]
    return [(key, setting) for key, setting in optional if not setting.endswith(("_FILE", "_ROOT"))]


def esp_of(stanza: Stanza, *optional: str) -> Esp:
    """The adapter of an account that has what it needs, and these credentials more."""
    needed = {one.setting: f"probe-{key}" for key, one in stanza.credentials.items() if one.is_required or key in optional}
    return load(account_of(stanza, needed, {}))


def _table(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return "\n".join([line(headings), line(["---"] * len(headings)), *(line([name, *cells]) for name, cells in rows)]) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else "–"


if __name__ == "__main__":
    (ROOT / "docs" / "providers.md").write_text(page(CATALOG))
