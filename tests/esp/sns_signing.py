"""Certificates of one's own, where they are found, and envelopes signed as SNS signs: for tests of who is believed."""

import datetime
import json
from base64 import b64encode
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from mail.outcome import NoReply, Reply

HOST = "sns.eu-west-1.amazonaws.com"
URL = f"https://{HOST}/SimpleNotificationService-1.pem"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses"
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
ISSUER_URL = "http://crt.r2m01.amazontrust.com/r2m01.cer"


class Authority:
    """A certificate with its key, and what it issues."""

    def __init__(self, name: str, issuer: "Authority | None" = None, **kind: Any):
        self.key = kind.pop("key", None) or rsa.generate_private_key(65537, 2048)
        self.certificate = issue(name, self.key, issuer, **kind)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def signature(self, text: bytes, algorithm: hashes.HashAlgorithm) -> str:
        return b64encode(self.key.sign(text, PKCS1v15(), algorithm)).decode()


def issue(
    name: str,
    key: Any,
    issuer: Authority | None,
    is_authority: bool = False,
    names: tuple[str, ...] = (),
    ends_at: datetime.datetime = NOW + 300 * DAY,
    issuer_url: str = "",
    is_bare: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 300 * DAY)
        .not_valid_after(ends_at)
    )
    if is_authority or not is_bare:
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    if not is_bare:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, **usage), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    if issuer_url:
        place = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_url))
        builder = builder.add_extension(x509.AuthorityInformationAccess([place]), critical=False)
    return builder.sign(signer, hashes.SHA256())


class Web:
    """What is at which URL, and what was asked for."""

    def __init__(self, **pages: bytes):
        self.pages: dict[str, bytes | Reply | NoReply] = {}
        self.asked: list[str] = []

    def fetch(self, url: str) -> Reply | NoReply:
        self.asked.append(url)
        page = self.pages.get(url, Reply(404, {}, b""))
        return Reply(200, {}, page) if isinstance(page, bytes) else page


def envelope(signer: Authority, version: str = "1", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": json.dumps({"eventType": "Send", "mail": {"messageId": "m-1", "destination": ["ann@a.test"]}}),
        "Timestamp": "2026-11-21T11:59:58.123Z",
        "SignatureVersion": version,
        "SigningCertURL": URL,
    }
    fields = {name: value for name, value in (fields | changes).items() if value != "absent"}
    if fields["Type"] == "Notification":
        order = ["Message", "MessageId", *(["Subject"] if fields.get("Subject") is not None else []), "Timestamp", "TopicArn", "Type"]
    else:
        order = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in order if name in fields).encode()
    return {**fields, "Signature": signer.signature(text, hashes.SHA1() if version == "1" else hashes.SHA256())}
