"""A callback: what an ESP posted to the ingress, as it reached us through Kafka."""

from typing import Any

import msgspec


class Callback(msgspec.Struct, frozen=True):
    """`headers` are the HTTP request's, names in lower case. `raw` is the body as it was posted, None where the ingress parsed it:
    a signature over raw bytes can only be checked on these. `document` is the parsed body (an object or an array).
    """

    headers: dict[str, str]
    raw: bytes | None
    document: Any
