"""SNS' signatures: is this envelope from the one topic that the account names, and from nobody else?

An envelope brings the address of the certificate that it was signed with, so everything rests on believing none but Amazon's: the
host is pinned, and the certificate's chain must end in a root that we trust. It must never fetch from anywhere else, follow a
redirect, or keep more certificates than a few.
Facts: docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages" (2026-11); Amazon's own validators for Java, JS
and PHP. The file behind SigningCertURL holds the leaf alone; its issuer is where the leaf's AIA extension says.
"""

import binascii
import hmac
import re
import warnings
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import verification
from cryptography.x509.oid import AuthorityInformationAccessOID

from esp.events import iso_moment
from esp.replay import refuse_replay
from mail.errors import BadCallback
from mail.outcome import NoReply, Reply

Fetch = Callable[[str], Reply | NoReply]

_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_OPTIONAL = "Subject"
_HASHES: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303  version 1 is SNS' own default
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# SNS tries a URL for an hour at most, and what it could not deliver waits up to 14 days in a dead-letter queue, for the operator to
# bring it in (docs.aws.amazon.com, SNS delivery retries, SQS message retention, 2026-11).
REPLAY_WINDOW_S = 15 * 86_400.0
_MOST_CERTIFICATES = 16
_MOST_BYTES = 64 * 1024
_MOST_ISSUERS = 3
# Whoever verifies waits for the answer: a host that gives none is not asked again at once.
_FIRST_REST_S, _LONGEST_REST_S = 5.0, 60.0
_ISSUER_HOST = ".amazontrust.com"
# Leaves are issued to sns.amazonaws.com or, in regions that are opted in to, sns-signing.<region>…; China and GovCloud have
# names of their own (aws-sdk-java-v2, SnsHostProvider, 2026-11).
_SIGNER = re.compile(r"sns(-signing)?([.-][a-z0-9-]+)?\.amazonaws\.(com(\.cn)?|eu)")


class _Rest(NamedTuple):
    length_s: float
    until_s: float


_HOST = ""


class Certificates:
    """The keys of the certificates behind SigningCertURLs, fetched once each.

    `host` is the only one that they may be on; `roots` is the file of the roots to trust. Where `is_private`, they are the
    operator's own (tests): then a certificate may bear any name, be one of the roots itself, and its host have a port.
    """

    def __init__(self, host: str, roots: Path, fetch: Fetch, now: Callable[[], float], is_private: bool = False):
        self._host = host.lower()
        self._roots_file = roots
        self._fetch = fetch
        self._now = now
        self._is_private = is_private
        self._known: dict[str, tuple[RSAPublicKey, datetime]] = {}
        self._rests: dict[str, _Rest] = {}

    def key_of(self, url: str) -> RSAPublicKey:
        """Raises BadCallback where the certificate cannot be believed, ConnectionError where it cannot be had now."""
        self._check_url(url)
        now = datetime.fromtimestamp(self._now(), UTC)
        key, ends_at = self._known.get(url, (None, now))
        if key is not None and now < ends_at:
            return key
        leaf, *others = _load(self._get(url))
        self._check_chain(leaf, others, now)
        fresh = leaf.public_key()
        if not isinstance(fresh, RSAPublicKey):
            raise BadCallback("SigningCertURL: the certificate's key is not RSA")
        self._known.pop(url, None)
        while len(self._known) >= _MOST_CERTIFICATES:
            del self._known[next(iter(self._known))]
        self._known[url] = (fresh, leaf.not_valid_after_utc)
        return fresh

    @cached_property
    def _roots(self) -> list[x509.Certificate]:
        roots = list(_load_roots(self._roots_file.read_bytes()))
        if not roots:
            raise BadCallback("AWS_SNS_TRUST_ROOT: holds no certificate, so none can be trusted")
        return roots

    def _check_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadCallback("SigningCertURL: is no URL") from None
        is_bare = not (parts.query or parts.fragment or parts.username is not None)
        is_port_fine = port in (None, 443) or self._is_private
        if parts.scheme != "https" or not is_bare or not is_port_fine or not parts.path.endswith(".pem"):
            raise BadCallback("SigningCertURL: is not the https address of a .pem file")
        if (parts.hostname or "").lower() != self._host:
            raise BadCallback("SigningCertURL: is on another host than SNS'")

    def _get(self, url: str) -> bytes:
        answer = self._ask(url)
        if isinstance(answer, Reply) and answer.status == 200 and len(answer.body) <= _MOST_BYTES:
            return answer.body
        if isinstance(answer, Reply) and answer.status < 500 and answer.status != 429:
            raise BadCallback(f"SigningCertURL: there is no certificate (HTTP {answer.status})")
        why = answer.error if isinstance(answer, NoReply) else f"HTTP {answer.status}"
        raise ConnectionError(f"the certificate of SNS cannot be fetched now: {why}")

    def _ask(self, url: str) -> Reply | NoReply:
        """A host that gives no answer is left in peace as a whole, one that has an error for an address only as to that."""
        if any(self._now() < self._rests[what].until_s for what in (_HOST, url) if what in self._rests):
            raise ConnectionError("the certificate of SNS cannot be fetched now: it could not a moment ago")
        answer = self._fetch(url)
        if isinstance(answer, NoReply):
            self._rest(_HOST)
        else:
            self._rests.pop(_HOST, None)
            if answer.status >= 500 or answer.status == 429:
                self._rest(url)
            else:
                self._rests.pop(url, None)
        return answer

    def _rest(self, what: str) -> None:
        before = self._rests.pop(what, None)
        length_s = min(before.length_s * 2, _LONGEST_REST_S) if before else _FIRST_REST_S
        while len(self._rests) >= _MOST_CERTIFICATES:
            del self._rests[next(iter(self._rests))]
        self._rests[what] = _Rest(length_s, self._now() + length_s)

    def _check_chain(self, leaf: x509.Certificate, others: list[x509.Certificate], now: datetime) -> None:
        is_pinned = self._is_private and leaf in self._roots and leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
        if is_pinned:
            return
        chain = others or self._issuers(leaf)
        builder = verification.PolicyBuilder().store(verification.Store(self._roots)).time(now)
        try:
            if self._is_private:
                builder.extension_policies(ca_policy=_any_authority(), ee_policy=_PERMISSIVE()).build_client_verifier().verify(leaf, chain)
            else:
                builder.build_server_verifier(x509.DNSName(_signers_name(leaf))).verify(leaf, chain)
        except verification.VerificationError:
            raise BadCallback("SigningCertURL: the certificate's chain does not end in a root that is trusted") from None

    def _issuers(self, leaf: x509.Certificate) -> list[x509.Certificate]:
        """The authorities between the leaf and a root, from where each certificate says. Their signatures make them good, not the
        way they came, which is plain HTTP."""
        found: list[x509.Certificate] = []
        certificate = leaf
        subjects = {root.subject for root in self._roots}
        while certificate.issuer not in subjects and len(found) < _MOST_ISSUERS:
            url = _issuer_url(certificate)
            if url is None:
                break
            certificate = _load(self._get(url))[0]
            found.append(certificate)
        return found


def verify_envelope(envelope: Any, topic_arn: str, certificates: Certificates, received_at_s: float | None = None) -> None:
    """Raises BadCallback unless SNS has signed this for this topic, and not long before it reached Kafka; ConnectionError where that
    cannot be found out now.
    """
    if not isinstance(envelope, dict) or str(envelope.get("Type")) not in _SIGNED:
        raise BadCallback("the body is not an SNS envelope, which alone is signed")
    if not hmac.compare_digest(str(envelope.get("TopicArn")).encode("utf-8", "replace"), topic_arn.encode()):
        raise BadCallback("TopicArn: is another topic than the account's")
    algorithm = _HASHES.get(str(envelope.get("SignatureVersion")))
    url = envelope.get("SigningCertURL")
    if algorithm is None or not isinstance(url, str):
        raise BadCallback("SignatureVersion or SigningCertURL: is missing or unknown")
    signed, signature = _signed_text(envelope), _signature(envelope)
    try:
        certificates.key_of(url).verify(signature, signed, PKCS1v15(), algorithm)
    except InvalidSignature:
        raise BadCallback("Signature: was not made by SNS over this text") from None
    signed_at = iso_moment(envelope["Timestamp"])
    if signed_at is None:
        raise BadCallback("Timestamp: is no moment")
    refuse_replay(signed_at.timestamp(), received_at_s, REPLAY_WINDOW_S)


def _signed_text(envelope: dict[str, Any]) -> bytes:
    """Each signed field's name and value on lines of their own; the optional one only where it is there."""
    lines: list[str] = []
    for name in _SIGNED[envelope["Type"]]:
        value = envelope.get(name)
        if value is None and name == _OPTIONAL:
            continue
        if not isinstance(value, str):
            raise BadCallback(f"{name}: is missing or no text")
        lines += (name, value)
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _signature(envelope: dict[str, Any]) -> bytes:
    try:
        return b64decode(str(envelope.get("Signature")).encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadCallback("Signature: is not base64") from None


def _load_roots(bundle: bytes) -> Iterator[x509.Certificate]:
    """Those of a bundle that can be read: the public one holds a root whose serial number RFC 5280 forbids (certifi, 2026-11)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in _PEM.findall(bundle):
            try:
                yield x509.load_pem_x509_certificate(block)
            except ValueError:
                continue


def _load(data: bytes) -> Sequence[x509.Certificate]:
    """Certificates in PEM, or a single one in DER as AIA has it."""
    try:
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        raise BadCallback("SigningCertURL: what is there is no certificate") from None


def _issuer_url(certificate: x509.Certificate) -> str | None:
    """Where the issuer's certificate is, if that is one of Amazon's."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    places = [d.access_location.value for d in access if d.access_method == AuthorityInformationAccessOID.CA_ISSUERS]
    hosts = [(place, urlsplit(place)) for place in places if isinstance(place, str)]
    good = [place for place, at in hosts if at.scheme in ("http", "https") and (at.hostname or "").endswith(_ISSUER_HOST)]
    return good[0] if good else None


def _signers_name(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    for name in names:
        if _SIGNER.fullmatch(name):
            return name
    raise BadCallback("SigningCertURL: the certificate was not issued to SNS")


_PERMISSIVE = verification.ExtensionPolicy.permit_all


def _any_authority() -> verification.ExtensionPolicy:
    """An authority made by hand for a test may lack what public ones have, but it must say that it is one."""
    return _PERMISSIVE().require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
