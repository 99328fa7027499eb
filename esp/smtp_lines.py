"""Kept SMTP connections: the `Lines` of URLs whose scheme is smtp.

A request carries in its headers how to connect and log in (`encryption`, `username`, `password`) and its envelope (`mail-from`,
`rcpt-to`, one a line, `smtputf8`). It must never send a content twice: another connection is tried once, and only where a kept one
turns out dead or closing before the server has answered the mail's first command.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from esp.call import Call
from esp.smtp_client import CLOSING_DOWN, Client, Refused
from mail.outcome import Reply, Request

_MOST_MAILS = 50  # SocketLabs ends a connection after 50, SparkPost after 100 (help.socketlabs.com, support.sparkpost.com, 2026-08)
_TRUSTED_S = 1.0  # a connection that has rested no longer is used without asking


class _Key(NamedTuple):
    """Which connections are as good as each other."""

    url: str
    encryption: str
    username: str
    password: str


class SmtpLines:
    """At most `connections` idle ones are kept. `authorities` is a file of trusted certificates in place of the system's and the
    public ones.
    """

    def __init__(
        self,
        connections: int,
        connect_timeout_s: float,
        total_timeout_s: float,
        *,
        public_authorities: Path | None = None,
        authorities: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        # the watchdog comes first; should it ever be late, no single read waits much longer
        self._timeout_s = total_timeout_s + 1.0
        self._public_authorities = public_authorities
        self._authorities = authorities
        self._clock = clock
        self._idle: list[tuple[_Key, Client]] = []
        self._lock = threading.Lock()

    def ask(self, call: Call) -> Reply:
        """The server's last word about the request, and at which stage it came. Raises OSError where nobody answers."""
        key = _key(call.request)
        if (kept := self._kept(key, call)) and (reply := self._on_kept(key, kept, call)):
            return reply
        try:
            fresh = self._open(key, call)
        except Refused as refused:
            return refused.reply()
        return self._on(key, fresh, call)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, client in idle:
            client.part()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._authorities) if self._authorities else None)
        if self._public_authorities and not self._authorities:
            context.load_verify_locations(str(self._public_authorities))
        return context

    def _on_kept(self, key: _Key, client: Client, call: Call) -> Reply | None:
        """None where the server gives this connection up before it has taken up the mail: relays limit the mails of one, and not all
        say so.
        """
        try:
            reply = self._on(key, client, call)
        except OSError:
            if client.has_begun or call.end:
                raise
            return None
        return reply if client.has_begun or reply.status != CLOSING_DOWN else None

    def _on(self, key: _Key, client: Client, call: Call) -> Reply:
        is_good = False
        try:
            reply = _converse(client, call)
            is_good = reply.status != CLOSING_DOWN and reply.status > 0 and client.carried < (client.limit("MAILMAX") or _MOST_MAILS)
        finally:
            if not is_good:
                client.close()
        self._keep(key, client)
        return reply

    def _kept(self, key: _Key, call: Call) -> Client | None:
        """A kept connection that still lives. What idled too long is retired: the server may be closing it right now."""
        while client := self._take(key):
            rested_s = self._clock() - client.rested_at_s
            if rested_s <= call.idle_s and client.sock is not None:
                call.watch(client.sock)
                if rested_s <= _TRUSTED_S or client.is_ready_again():
                    return client
            client.part()
        return None

    def _open(self, key: _Key, call: Call) -> Client:
        address = urlsplit(key.url)
        client = Client(self._timeout_s)

        def dial(host: str, port: int) -> socket.socket:
            live = socket.create_connection((host, port), self._connect_timeout_s)
            try:
                call.watch(live)  # before the TLS handshake and the greeting, which can drip too
            except OSError:
                live.close()
                raise
            live.settimeout(self._timeout_s)
            return live

        try:
            client.open(call.request, dial, address.hostname or "", address.port or 25, self._tls)
        except BaseException:
            client.close()
            raise
        return client

    def _take(self, key: _Key) -> Client | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == key:
                    return self._idle.pop(place)[1]
        return None

    def _keep(self, key: _Key, client: Client) -> None:
        if client.sock is None:
            return
        with self._lock:
            self._idle.append((key, client))
            surplus = self._idle.pop(0)[1] if len(self._idle) > self._connections else None
        if surplus:
            surplus.part()


def _converse(client: Client, call: Call) -> Reply:
    """The mail, or a question; after a refusal the connection is made ready again, or closed."""
    if not call.request.messages and not call.request.body:
        return client.ask_noop(call)
    try:
        reply = client.carry(call)
    except Refused as refused:
        client.note_rest()
        if refused.code == CLOSING_DOWN or not client.is_ready_again():
            client.close()
        return refused.reply()
    return reply


def _key(request: Request) -> _Key:
    wishes = request.headers
    return _Key(request.url, wishes.get("encryption", ""), wishes.get("username", ""), wishes.get("password", ""))
