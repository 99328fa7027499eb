"""An answer over HTTP whose head is the final one.

A server, or a proxy before it, may send interim answers first (RFC 9110, 15.2: 102, 103). http.client passes over 100 only; taken for
the answer, any other would leave the true one on the kept connection, for the next request to read. This module must never end a
wait: the call's deadline does.
"""

from http.client import HTTPResponse


class FinalAnswer(HTTPResponse):
    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200:
            self.headers = self.msg = None  # type: ignore[assignment]  # what makes it read a head again
            super().begin()
