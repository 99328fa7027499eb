"""Redaction: the last net under whatever is about to be shown, so that no address and no secret leaves by accident.

It is a net, not a licence: callers pass ids. It must never raise, and never let a text grow without bound.
"""

import re
from collections.abc import Iterable

HIDDEN = "***"
ADDRESS = "<address>"
MAX_TEXT = 2_000
_SHORTEST_SECRET = 6

# bounded repetitions: an attacker's text must not make these patterns backtrack for long
_ADDRESS = re.compile(r"[^\s@<>\"',;:()\[\]]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|token|authorization|credentials?|cookie|dsn|api_key|server_token|access_key"
    r"|secret_key|private_key|unsubscribe_key|encryption_keys?)(?:$|_)|^(?:recipient|email|reply_to)$",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    r"\b((?:password|passwd|secret|token|api_?key|access_key)[\"']?\s{0,4}[=:]\s{0,4})[\"']?[^\s\"',&;}]{1,512}", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"(://[^\s:/@]{0,256}):[^\s@]{1,256}@"), r"\1:***@"),
    (re.compile(r"\b(Bearer|Basic)\s{1,4}[\w.~+/=-]{12,}"), r"\1 ***"),
    (_ASSIGNMENT, r"\1***"),
    (re.compile(r"\bSG\.[\w-]{8,64}\.[\w-]{8,128}"), HIDDEN),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), HIDDEN),
    # a Fernet key: 32 bytes in URL-safe base64
    (re.compile(r"(?<![\w-])[\w-]{43}=(?![\w=-])"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]{1,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{1,40}-----|$)", re.DOTALL), HIDDEN),
)


class Redactor:
    """Takes out addresses, texts in the shape of a secret, and the secrets that it was told about."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def hide(self, secrets: Iterable[str]) -> None:
        """Never show these texts again; longest first, so that none hides only a part of another."""
        known = {*self._secrets, *(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)}
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    def clean(self, text: str, limit: int = MAX_TEXT) -> str:
        """The text without addresses and secrets, cut to `limit` characters."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if len(text) > limit:
            text = f"{text[:limit]}… ({len(text)} characters)"
        for shape, instead in _SECRET_SHAPES:
            text = shape.sub(instead, text)
        return _ADDRESS.sub(ADDRESS, text) if "@" in text else text

    def clean_field(self, name: str, value: object) -> object:
        """A field's value as it may be shown: numbers, truths and None as they are, everything else as clean text."""
        if value is None or isinstance(value, bool | int):
            return value
        if is_secret_name(name):
            return HIDDEN
        if isinstance(value, float):
            return value if abs(value) < float("inf") else str(value)
        if isinstance(value, dict):
            return {str(key): self.clean_field(str(key), item) for key, item in list(value.items())[:50]}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean_field(name, item) for item in list(value)[:50]]
        return self.clean(_text_of(value))


def is_secret_name(name: str) -> bool:
    """Does a field of this name usually hold a secret or an address?"""
    return _SECRET_NAME.search(name) is not None


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception as error:  # a broken __str__ must not cost the line
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
