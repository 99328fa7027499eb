"""The sandbox's own certificates: sound by everybody's rules, but trusted by those only who were told to."""

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.fakes import certificates
from sandbox.fakes.certificates import CertificateHost, Root


@pytest.fixture
def root() -> Root:
    return Root("Test root")


@pytest.fixture
def host(root: Root, tmp_path: Path) -> CertificateHost:
    return CertificateHost(root, tmp_path, "/one.pem", b"what is there")


def trusting(root: Root) -> ssl.SSLContext:
    """As strict as Python can be: what it says of public certificates, it says of these."""
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def read(url: str, context: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=context) as reply:
        content: bytes = reply.read()
        return content


def test_who_trusts_the_root_reads_the_one_page_and_no_other(root: Root, host: CertificateHost) -> None:
    assert read(host.url, trusting(root)) == b"what is there"
    with pytest.raises(urllib.error.HTTPError) as refused:
        read(host.url.replace("one", "two"), trusting(root))
    assert refused.value.code == 404
    refused.value.close()


def test_who_trusts_another_root_or_the_public_ones_does_not(host: CertificateHost) -> None:
    for context in (trusting(Root("Another")), ssl.create_default_context()):
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            read(host.url, context)


def test_a_visitor_who_says_nothing_holds_nobody_up(root: Root, host: CertificateHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_HANDSHAKE_LIMIT_S", 60.0)
    with socket.create_connection((host.server_address[0], host.server_port)):
        assert read(host.url, trusting(root)) == b"what is there"


def test_a_certificate_is_issued_to_the_names_asked_for(root: Root) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issued = x509.load_pem_x509_certificate(root.issue(key, [x509.DNSName("sns.amazonaws.com")]))
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(root.pem))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sns.amazonaws.com"]
