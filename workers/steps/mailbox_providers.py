"""Which mailbox provider an address belongs to: by the table in the code, else by what the keeper has looked up."""

import time
from collections.abc import Callable, Mapping

from routing.mailbox_provider import OTHER, mailbox_provider

REFRESH_S = 60.0


class MailboxProviders:
    """`read` brings the domains that were looked up (None = none are); it is asked once a minute."""

    def __init__(self, read: Callable[[], Mapping[str, str]] | None = None, clock: Callable[[], float] = time.monotonic):
        self._read = read
        self._clock = clock
        self._hosted: Mapping[str, str] = {}
        self._due_at_s = float("-inf")

    def refresh(self) -> None:
        """Take over what was looked up meanwhile, if it is time."""
        if self._read is not None and self._clock() >= self._due_at_s:
            self._hosted = self._read()
            self._due_at_s = self._clock() + REFRESH_S

    def of(self, address: str) -> str:
        """The provider's name, or "other"."""
        known = mailbox_provider(address)
        return known if known != OTHER else self._hosted.get(address.rpartition("@")[2].lower(), OTHER)
