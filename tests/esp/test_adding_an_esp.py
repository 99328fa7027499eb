"""docs/adding-an-esp.md, done: the page's own blocks as a seventh ESP, from a temporary folder, touching nothing else."""

import base64
import hashlib
import hmac
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import esp
from config.settings import Settings, load_settings
from esp import base
from esp.exchange import open_exchange
from mail.envelope import read_envelope
from mail.errors import BadCallback
from mail.event import Event
from tests.workers.ledger_world import job_bytes
from tests.workers.loop_world import Loop

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-an-esp.md").read_text()
NEEDED = ("config", "db", "esp", "intake", "mail", "operations", "render", "routing", "sandbox", "telemetry", "tests", "workers")
SECRET = "whsec_" + base64.b64encode(b"a shared secret").decode()


def block(path: str) -> str:
    """The block of the page that bears this path."""
    found = re.search(rf"^```\w+ {re.escape(path)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found, path
    return found[1]


@pytest.fixture
def seventh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One file in a folder of its own; the path of a catalogue with one stanza more."""
    (tmp_path / "resend.py").write_text(block("esp/resend.py"))
    catalog = tmp_path / "esps.toml"
    catalog.write_text((ROOT / "config" / "esps.toml").read_text() + "\n" + block("config/esps.toml"))
    monkeypatch.setattr(esp, "__path__", [*esp.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield catalog
    sys.modules.pop("esp.resend", None)


class Api(http.server.BaseHTTPRequestHandler):
    """Takes batches as Resend documents it, and keeps them."""

    def do_POST(self) -> None:
        mails = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kept: list[Any] = self.server.kept  # type: ignore[attr-defined]
        kept.append((self.path, self.headers["Authorization"], mails))
        body = json.dumps({"data": [{"id": f"r-{mail['to'][0]}"} for mail in mails]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[str, list[Any]]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.kept = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.kept  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def settings_of(catalog: Path, url: str) -> Settings:
    given = {"RESEND_API_KEY": "re_1", "RESEND_BASE_URL": url, "RESEND_WEBHOOK_SECRET": SECRET}
    return load_settings({"ENVIRONMENT": "development", **given}, None, catalog)


def test_a_stanza_gives_settings_a_topic_and_the_right_to_be_pinned(seventh: Path) -> None:
    settings = settings_of(seventh, "http://127.0.0.1:9")
    (account,) = settings.accounts
    assert (account.provider, account.base_url, account.credentials) == (
        "resend",
        "http://127.0.0.1:9",
        {"api_key": "re_1", "webhook_secret": SECRET},
    )
    assert settings.webhook_topics["resend"] == "webhook-resend"
    assert "resend" in (settings.decode_limits.providers or ())
    assert "re_1" not in repr(settings) and SECRET in settings.secrets()


def test_the_real_loop_sends_with_it_and_its_callback_finds_the_attempt(seventh: Path, database: Any, tmp_path: Path) -> None:
    with serving() as (url, kept):
        settings = settings_of(seventh, url)
        exchange = open_exchange(2, 5.0, 20.0)

        class RealLoop(Loop):
            def _tools(self) -> Any:
                self.accounts, self.wire = list(settings.accounts), exchange
                self.esps = {account.provider: base.load(account) for account in settings.accounts}
                return super()._tools()

        loop = RealLoop(database, tmp_path, providers=("resend",))
        try:
            loop.deliver(*[job_bytes(f"j{n}", f"r{n}@example.com", provider="resend") for n in range(3)])
            rows = loop.ledger.database.read("SELECT provider, state, message_id, id::text FROM email_attempts ORDER BY message_id")
            assert loop.ledger.count("email_jobs", "status = 'sent'") == 3
        finally:
            loop.flight_log.close()
            loop.ledger.database.close()
            exchange.close()
    assert [row[:3] for row in rows] == [("resend", "accepted", f"r-r{n}@example.com") for n in range(3)]
    ((path, key, mails),) = kept
    assert (path, key, sorted(mail["to"][0] for mail in mails)) == ("/emails/batch", "Bearer re_1", [f"r{n}@example.com" for n in range(3)])
    (event,) = believed(settings, signed(delivered(mails[0])))
    assert (event.type, event.attempt_id) in [("delivered", row[3]) for row in rows]


def delivered(mail: Any) -> bytes:
    tags = {tag["name"]: tag["value"] for tag in mail["tags"]}
    data = {"email_id": f"r-{mail['to'][0]}", "to": mail["to"], "tags": tags}
    return json.dumps({"type": "email.delivered", "created_at": "2026-11-21T10:00:05.126Z", "data": data}).encode()


def signed(body: bytes, secret: bytes = b"a shared secret") -> bytes:
    """An envelope of the ingress, with Svix' headers."""
    signature = base64.b64encode(hmac.new(secret, b"msg_1.1800000000." + body, hashlib.sha256).digest()).decode()
    headers = {"svix-id": "msg_1", "svix-timestamp": "1800000000", "svix-signature": f"v1,old v1,{signature}"}
    return json.dumps({"headers": headers, "body": body.decode()}).encode()


def believed(settings: Settings, value: bytes) -> list[Event]:
    """The events of an envelope, verified first."""
    listener = base.load(settings.accounts[0])
    assert isinstance(listener, base.Listener)
    callback = read_envelope(value, 1_800_000_010.0)
    listener.verify(callback)
    return listener.parse_events(callback.document)


def test_a_forged_callback_is_not_believed(seventh: Path) -> None:
    (account,) = settings_of(seventh, "http://127.0.0.1:9").accounts
    listener = base.load(account)
    assert isinstance(listener, base.Listener)
    body = b'{"type": "email.delivered", "data": {}}'
    listener.verify(read_envelope(signed(body), 1_800_000_010.0))
    for value, received_at_s in (
        (signed(body, b"another"), 1_800_000_010.0),
        (signed(body), 1_800_200_000.0),
        (b'{"headers": {}, "body": "{}"}', None),
    ):
        with pytest.raises(BadCallback):
            listener.verify(read_envelope(value, received_at_s))


def test_the_contract_takes_it_up_by_itself(tmp_path: Path) -> None:
    """In a copy of the project with these three blocks and nothing else."""
    copy = tmp_path / "project"
    for name in NEEDED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path in ("esp/resend.py", "esp/examples/resend.json"):
        (copy / path).write_text(block(path))
    with (copy / "config" / "esps.toml").open("a") as catalog:
        catalog.write("\n" + block("config/esps.toml"))
    files = [f"tests/esp/test_{name}.py" for name in ("contract", "callbacks", "error_tables", "health")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "resend", *files]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 60  # type: ignore[index]
