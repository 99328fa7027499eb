"""All fake ESPs and their inbox page in one process: `python -m sandbox.esp_server --folder F [--options JSON]`.

Prints one line of JSON, {"sendgrid": "http://127.0.0.1:P", ..., "inbox": ...}, when everything listens. It ends with its parent
(PR_SET_PDEATHSIG, and the end of a stdin that is a pipe), on SIGTERM and SIGINT. It must never listen beyond loopback.
"""

import argparse
import asyncio
import ctypes
import gc
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from sandbox import fakes, punctual_loop
from sandbox.fakes.contract import FakeEsp
from sandbox.fakes.ledger import Ledger
from sandbox.fakes.listener import HttpListener, site_url
from sandbox.fakes.mailbox import Mailbox
from sandbox.fakes.misbehaviour import BadBehaviour, Misbehaviour
from sandbox.fakes.smtp import Fake as Relay
from sandbox.fakes.smtp_listener import SmtpListener
from sandbox.inbox import build_inbox

_PR_SET_PDEATHSIG = 1


class EspServer:
    """Starts and stops the listeners of a folder: ledgers in F/ledger, bodies of mails in F/mails."""

    def __init__(self, folder: Path, options: Mapping[str, Any], clock: Callable[[], float] = time.time):
        settings = dict(options)
        seed = settings.pop("seed", 1)
        self._mailbox = Mailbox(folder / "mails", settings.pop("mails_kept", 20_000))
        self._misbehaviours = {name: Misbehaviour(name, seed) for name in fakes.names()}
        for name, changes in settings.items():
            if name not in self._misbehaviours:
                raise BadBehaviour(f"no fake of {name!r}; there are {', '.join(self._misbehaviours)}")
            self._misbehaviours[name].change(changes)
        self._ledgers = {name: Ledger(folder / "ledger", name) for name in self._misbehaviours}
        self._listeners = {
            name: _listener(fakes.load(name), self._ledgers[name], self._mailbox, misbehaviour, clock)
            for name, misbehaviour in self._misbehaviours.items()
        }
        self._inbox = web.AppRunner(build_inbox(self._mailbox, self._misbehaviours), access_log=None, shutdown_timeout=0.1)

    async def start(self) -> dict[str, str]:
        """Listen; the base URL of each fake, and of "inbox"."""
        urls = {name: await listener.start() for name, listener in self._listeners.items()}
        await self._inbox.setup()
        site = web.TCPSite(self._inbox, "127.0.0.1", 0)
        await site.start()
        return urls | {"inbox": site_url(site)}

    async def stop(self) -> None:
        await asyncio.gather(self._inbox.cleanup(), *[listener.stop() for listener in self._listeners.values()])
        for ledger in self._ledgers.values():
            ledger.close()
        self._mailbox.close()


def _listener(
    fake: FakeEsp, ledger: Ledger, mailbox: Mailbox, misbehaviour: Misbehaviour, clock: Callable[[], float]
) -> HttpListener | SmtpListener:
    """The relay speaks SMTP, all others HTTP."""
    if isinstance(fake, Relay):
        return SmtpListener(fake, ledger, mailbox, misbehaviour, clock)
    return HttpListener(fake, ledger, mailbox, misbehaviour, clock)


async def serve(server: EspServer) -> None:
    """Run until a signal comes or stdin ends."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if _is_pipe(sys.stdin.fileno()):
        loop.add_reader(sys.stdin.fileno(), _watch_stdin, over)
    urls = await server.start()
    sys.stdout.write(orjson.dumps(urls).decode() + "\n")
    sys.stdout.flush()
    await over.wait()
    await server.stop()


def main() -> int:
    """0 after a clean stop, 2 where the options make no sense."""
    _die_with_parent()
    parser = argparse.ArgumentParser(prog="sandbox.esp_server", description="Fake ESPs and their inbox page, on loopback.")
    parser.add_argument("--folder", type=Path, required=True, help="where ledgers and mails are kept")
    parser.add_argument("--options", default="{}", help='JSON, e.g. {"sendgrid": {"latency_ms": 80, "throttle": 0.02}, "seed": 1}')
    arguments = parser.parse_args()
    try:
        server = EspServer(arguments.folder, _read_options(arguments.options))
    except (BadBehaviour, orjson.JSONDecodeError) as error:
        sys.stderr.write(f"bad --options: {error}\n")
        return 2
    # each batch is thousands of short-lived dicts without a cycle among them: looking for cycles that often is wasted
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with asyncio.Runner(loop_factory=punctual_loop.new_loop) as runner:
        runner.run(serve(server))
    return 0


def _read_options(text: str) -> dict[str, Any]:
    """The options as an object; raises BadBehaviour where they are something else."""
    options = orjson.loads(text)
    if not isinstance(options, dict):
        raise BadBehaviour("an object is wanted")
    for name in ("seed", "mails_kept"):
        if not isinstance(options.get(name, 1), int) or options.get(name, 1) < 1:
            raise BadBehaviour(f"{name} must be a whole number above 0")
    return options


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _is_pipe(file: int) -> bool:
    """Whether its end means that somebody let go of us; a terminal, a file or /dev/null says nothing of the kind."""
    mode = os.fstat(file).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _watch_stdin(over: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        over.set()


if __name__ == "__main__":
    sys.exit(main())
