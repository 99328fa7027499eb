"""Secrets: texts that show themselves to nobody who does not ask by name.

Neither repr, str, format, nor a traceback's locals shows what is inside; only `reveal` does, and its callers hand the text
straight to the library that needs it.
"""

import hmac
from collections.abc import Mapping

HIDDEN = "***"


class Secret:
    """A password, key or token. False where it is empty."""

    __slots__ = ("_text",)

    def __init__(self, text: str = ""):
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the library that needs it, never for a log line or an exception."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, form: str) -> str:
        return format(HIDDEN, form)


class ClientOptions(dict[str, str]):
    """Options that are passed to a client library; some are secrets, so only their names are shown."""

    def __init__(self, options: Mapping[str, str] | None = None):
        super().__init__(options or {})

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {HIDDEN}" for name in self) + "}"

    __str__ = __repr__
