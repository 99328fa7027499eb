"""Certificates of the sandbox's own: a root that nobody trusts unless told to, what it issues, and a host that serves one of them.

They are as sound as public ones, so that nothing has to be checked less strictly for them. Keys live as long as the process, and are
written nowhere but into the file that TLS reads its own from. It must never listen beyond loopback.
"""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.0.0.1"
_LIFE = datetime.timedelta(days=30)
_HANDSHAKE_LIMIT_S = 5.0
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Root:
    """An authority made for this object; `pem` is what has to be trusted."""

    def __init__(self, name: str):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _begin(self._name, self._name, self._key, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = _pem(builder.add_extension(_usage(signs_certificates=True), critical=True).sign(self._key, hashes.SHA256()))

    def issue(self, key: Key, names: Sequence[x509.GeneralName]) -> bytes:
        """A certificate in PEM for a host or a service with this key and these names."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(names[0].value))])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _begin(subject, self._name, key, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _pem(builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False).sign(self._key, hashes.SHA256()))


class CertificateHost(ThreadingHTTPServer):
    """Serves `page` at `path` over HTTPS, to any number of visitors, from a thread that ends with the process."""

    daemon_threads = True

    def __init__(self, root: Root, folder: Path, path: str, page: bytes):
        super().__init__((HOST, 0), _Visit)
        self.path = path
        self.page = page
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(_own_certificate(root, folder))
        threading.Thread(target=self.serve_forever, daemon=True, name="certificates").start()

    def server_bind(self) -> None:
        """Without the look-up of its own name that HTTPServer would make."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.server_port}{self.path}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, the handshake too: who says nothing holds nobody else up."""
        request.settimeout(_HANDSHAKE_LIMIT_S)
        with self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who hung up, or does not trust us, is no news."""

    def shutdown_request(self, request: Any) -> None:
        """The secured connection is closed already; what is left of the plain one needs no good-bye."""
        if isinstance(request, socket.socket):
            request.close()


class _Visit(BaseHTTPRequestHandler):
    server: CertificateHost

    def do_GET(self) -> None:
        is_there = self.path == self.server.path
        self.send_response(200 if is_there else 404)
        self.send_header("Content-Type", "application/x-pem-file")
        self.send_header("Content-Length", str(len(self.server.page) if is_there else 0))
        self.end_headers()
        if is_there:
            self.wfile.write(self.server.page)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


def _own_certificate(root: Root, folder: Path) -> Path:
    """A file with the host's key and certificate, as TLS wants to read it."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate-host.pem"
    path.touch(mode=0o600)
    path.write_bytes(secret + root.issue(key, names))
    return path


def _begin(subject: x509.Name, issuer: x509.Name, key: Key, issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _LIFE).not_valid_after(now + _LIFE)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **dict.fromkeys(others, False),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
