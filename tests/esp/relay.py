"""The fake relay on a thread of its own, for tests of the transport and of the adapter behind it."""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.fakes.ledger import Ledger, Line, read_ledger
from sandbox.fakes.mailbox import Mailbox
from sandbox.fakes.misbehaviour import Misbehaviour
from sandbox.fakes.smtp import Fake
from sandbox.fakes.smtp_listener import SmtpListener


class Relay:
    """A running fake. What it does wrong is set by `behave`."""

    def __init__(self, folder: Path, listener: SmtpListener, misbehaviour: Misbehaviour, mailbox: Mailbox):
        self.url = ""
        self.mailbox = mailbox
        self.listener = listener
        self._folder = folder
        self._misbehaviour = misbehaviour

    def behave(self, **changes: Any) -> None:
        self._misbehaviour.change(changes)

    @property
    def done(self) -> dict[str, int]:
        return dict(self._misbehaviour.done)

    @property
    def connections(self) -> int:
        return self.listener.connections

    def ledger(self) -> list[Line]:
        return list(read_ledger(self._folder / "ledger" / "smtp.jsonl"))

    def contents(self) -> list[bytes]:
        """What was taken, oldest first, as it stood between DATA and the final dot."""
        return [body for entry in reversed(list(self.mailbox.newest_first())) if (body := self.mailbox.body(entry)) is not None]


@contextmanager
def running_relay(folder: Path, tls: ssl.SSLContext | None = None, is_implicit: bool = False) -> Iterator[Relay]:
    ledger, mailbox, misbehaviour = Ledger(folder / "ledger", "smtp"), Mailbox(folder / "mails"), Misbehaviour("smtp")
    listener = SmtpListener(Fake(), ledger, mailbox, misbehaviour, tls=tls, is_implicit=is_implicit)
    relay = Relay(folder, listener, misbehaviour, mailbox)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay")
    thread.start()
    try:
        relay.url = asyncio.run_coroutine_threadsafe(listener.start(), loop).result(5)
        yield relay
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
        ledger.close()
        mailbox.close()


def certificate(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for loopback (or `name` alone), and the file of the authority to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), *([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name == "localhost" else [])]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path
