"""A callback: what an ESP posted to the ingress, as it reached us through Kafka."""

from typing import Any

import msgspec


class Callback(msgspec.Struct, frozen=True):
    """`headers` are the HTTP request's, names in lower case. `raw` is the body as it was posted, None where the ingress parsed it:
    a signature over raw bytes can only be checked on these. `document` is the parsed body (an object or an array).

    `received_at_s` is when the record was written (its Kafka time, Unix seconds; None = not known), against which a signature's
    age is judged. `tenant` says whose account it is meant for; 0 is the service's own.
    """

    headers: dict[str, str]
    raw: bytes | None
    document: Any
    received_at_s: float | None = None
    tenant: int = 0

    def __repr__(self) -> str:
        # headers may hold a password, the body addresses
        return f"Callback({len(self.headers)} headers, tenant {self.tenant})"
