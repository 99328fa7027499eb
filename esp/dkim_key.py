"""A DKIM key (RFC 6376) and how it signs a mail. RSA with SHA-256, relaxed on both sides.

It must never raise while mails are sent: a key that cannot be used says so in `problem`, and nothing is signed with it.
dkimpy is only imported where a key is set.
"""

from functools import cached_property
from pathlib import Path

import telemetry.log

# What a reader sees or a mailbox provider acts upon; RFC 8058 wants both unsubscribe headers signed.
_SIGNED = frozenset(
    (
        *(b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to", b"mime-version", b"content-type"),
        *(b"list-unsubscribe", b"list-unsubscribe-post", b"list-id", b"in-reply-to", b"references", b"feedback-id", b"x-attempt-id"),
    )
)

log = telemetry.log.get("esp.dkim_key")


class DkimKey:
    """`domain` "" means the domain of each mail's sender."""

    def __init__(self, path: Path, selector: str, domain: str = ""):
        self._path = path
        self._selector = selector
        self._domain = domain

    @cached_property
    def problem(self) -> str | None:
        """Why this key cannot sign, or None."""
        if not self._selector:
            return "the DKIM key has no selector"
        try:
            from dkim.crypto import UnparsableKeyError, parse_pem_private_key
        except ImportError:
            return "dkimpy is not installed"
        try:
            parse_pem_private_key(self._key)
        except OSError:
            return "the file of the DKIM key cannot be read"
        except UnparsableKeyError:
            return "the DKIM key is not an RSA key in PEM"
        return None

    def sign(self, mail: bytes, sender_domain: str) -> bytes:
        """The mail with its signature in front; unchanged where the key has a problem."""
        if self.problem:
            log.error("mail leaves without a DKIM signature", problem=self.problem)
            return mail
        import dkim

        signer = dkim.DKIM(mail)
        present = [name for name, _ in signer.headers if name.lower() in _SIGNED]
        domain = (self._domain or sender_domain).encode()
        # From a second time, so that nobody can add another one without breaking the signature
        signed = [*present, b"from"]
        signature: bytes = signer.sign(
            self._selector.encode(), domain, self._key, canonicalize=(b"relaxed", b"relaxed"), include_headers=signed
        )
        return signature + mail

    @cached_property
    def _key(self) -> bytes:
        return self._path.read_bytes()
