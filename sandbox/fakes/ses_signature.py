"""Signature Version 4, checked as AWS checks it: written from its own description, without any AWS library.

It must never take a request whose host, date or body is not covered. Source: "Create a signed AWS API request",
docs.aws.amazon.com/IAM (read 2026-11).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_SKEW_S = 300.0


class BadSignature(Exception):
    """The request is not signed as it must be: the error's name and text."""

    def __init__(self, name: str, text: str):
        super().__init__(name, text)
        self.name = name
        self.text = text


def check_signature(
    method: str, target: str, headers: Mapping[str, str], body: bytes, keys: tuple[str, str], service: str, now: float
) -> None:
    """Raises BadSignature. `target` is path and query, `keys` the access key id and the secret."""
    given = {name.lower(): value for name, value in headers.items()}
    if "authorization" not in given:
        raise BadSignature("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(given["authorization"])
    if not found or "x-amz-date" not in given:
        raise BadSignature(
            "IncompleteSignatureException", "Authorization header requires Credential, SignedHeaders, Signature and X-Amz-Date"
        )
    access_key, day, region, named_service, signed, signature = found.groups()
    if not hmac.compare_digest(access_key.encode(), keys[0].encode()):
        raise BadSignature("UnrecognizedClientException", "The security token included in the request is invalid.")
    if named_service != service:
        raise BadSignature("InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'.")
    _check_time(given["x-amz-date"], day, now)
    _check_cover(signed.split(";"), given)
    text = _text_to_sign(_canonical(method, target, given, signed, body), given["x-amz-date"], f"{day}/{region}/{service}/aws4_request")
    if not hmac.compare_digest(signature, _sign(keys[1], day, region, service, text)):
        raise BadSignature(
            "InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your key."
        )


def _check_time(stamp: str, day: str, now: float) -> None:
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadSignature("IncompleteSignatureException", "X-Amz-Date must be in ISO 8601 basic format") from None
    if stamp[:8] != day or abs(now - signed_at) > _SKEW_S:
        raise BadSignature("InvalidSignatureException", f"Signature expired: {stamp} is not within 5 minutes of the server's time")


def _check_cover(names: list[str], given: Mapping[str, str]) -> None:
    due = [name for name in given if name in ("host", "content-type") or name.startswith("x-amz-")]
    missing = sorted({"host", *due} - set(names)) + [name for name in names if name not in given]
    if missing:
        raise BadSignature("InvalidSignatureException", f"'{missing[0]}' must be a signed header")


def _canonical(method: str, target: str, given: Mapping[str, str], signed: str, body: bytes) -> str:
    parts = urlsplit(target)
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(parts.query, keep_blank_values=True))
    lines = [f"{name}:{' '.join(given[name].split())}\n" for name in signed.split(";")]
    query = "&".join(f"{key}={value}" for key, value in pairs)
    return "\n".join((method, quote(parts.path, safe="/-_.~"), query, "".join(lines), signed, hashlib.sha256(body).hexdigest()))


def _text_to_sign(canonical: str, stamp: str, scope: str) -> str:
    return "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def _sign(secret: str, day: str, region: str, service: str, text: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()
