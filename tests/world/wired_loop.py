"""The real delivery loop, its real adapters and exchange, before the fake ESPs in a process of their own.

Everything between a record and the ledgers of both sides is the product's; only Kafka and the supervisor are missing, so that a
thousand emails take a second and the test decides when a waiting row is due.
"""

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from config.settings import load_settings
from esp import base
from esp.call import Answer
from esp.exchange import open_exchange
from mail.outcome import Request
from routing.breaker import SharedBreakers
from sandbox.children import Child, spawn_module, wait_until
from sandbox.world import esp_settings
from tests.workers.loop_world import Loop
from workers.failpoints import Failpoints
from workers.steps.sending import Sender

CONNECTIONS, CONNECT_TIMEOUT_S, TIMEOUT_S = 8, 3.0, 20.0


class Fakes:
    """The running fakes: told how to behave, and asked what they did."""

    def __init__(self, child: Child, folder: Path):
        self.urls: dict[str, str] = child.wait_for_json(limit_s=20.0)
        self.folder = folder
        self._control = f"{self.urls.pop('inbox')}/control"

    def behave(self, esp: str, **changes: Any) -> None:
        """Forget what this one was told before, and do as is said now."""
        body = json.dumps({"esp": esp, "calm": True, **changes}).encode()
        wish = urllib.request.Request(self._control, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(wish, timeout=10):
            pass

    def done(self, esp: str) -> Counter[str]:
        """How many send requests met what, by the kind of deed."""
        with urllib.request.urlopen(self._control, timeout=10) as reply:
            return Counter(json.load(reply)[esp]["done"])

    def ledger(self, esp: str) -> Path:
        return self.folder / "ledger" / f"{esp}.jsonl"


@contextmanager
def running_fakes(folder: Path) -> Iterator[Fakes]:
    """All fakes over a folder; they must be started by the main thread."""
    child = spawn_module("esps", "sandbox.esp_server", ["--folder", str(folder)], folder)
    try:
        yield Fakes(child, folder)
    finally:
        child.stop()


class Wire:
    """The exchange that the loop sends through; which one may change between two batches."""

    def __init__(self) -> None:
        self.timeout_s = TIMEOUT_S
        self._open = {self.timeout_s: open_exchange(CONNECTIONS, CONNECT_TIMEOUT_S, self.timeout_s)}

    def send_all(
        self, requests: Sequence[Request], on_leaving: Callable[[Request], bool], may_begin: Callable[[Request], bool] = lambda r: True
    ) -> Iterator[Answer]:
        if self.timeout_s not in self._open:
            self._open[self.timeout_s] = open_exchange(CONNECTIONS, CONNECT_TIMEOUT_S, self.timeout_s)
        return self._open[self.timeout_s].send_all(requests, on_leaving, may_begin)

    def close(self) -> None:
        for exchange in self._open.values():
            exchange.close()


class WiredLoop(Loop):
    """One worker whose only ESP is the fake of `provider`, with an account for each of `tenants`."""

    def __init__(
        self,
        parameters: Mapping[str, Any],
        folder: Path,
        fakes: Fakes,
        provider: str,
        tenants: Sequence[int] = (0,),
        breakers: SharedBreakers | None = None,
    ):
        (found,) = load_settings(esp_settings({provider: fakes.urls[provider]}), None).accounts
        self.provider, self.fakes = provider, fakes
        self.accounts = [msgspec.structs.replace(found, tenant=tenant) for tenant in tenants]
        super().__init__(parameters, folder, breakers=breakers)

    def equip(self, providers: Sequence[str]) -> None:
        self.wire = Wire()
        self.esps = {self.provider: base.load(self.accounts[0])}

    def make_sender(self, points: Failpoints) -> Sender:
        """Holds back what waits at an open breaker, as a worker does."""
        esp = self.esps[self.provider]
        note, is_failing = self.note_answers, self.breakers.is_open
        return Sender(lambda a: esp, self.wire, self.flight_log, self.permit.is_good, points, note, is_failing=is_failing)  # type: ignore[arg-type]

    def settle(self) -> None:
        """Until nothing waits any more."""
        while self.lease_due():
            pass

    def close(self) -> None:
        """Leaves no thread behind, or says so."""
        self.wire.close()
        self.flight_log.close()
        self.ledger.database.close()
        wait_until(lambda: not _senders(), 60.0, "the sending threads to end", lambda: str(_senders()))


def _senders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("esp-")]
