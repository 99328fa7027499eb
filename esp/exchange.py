"""The exchange for every kind of URL that an ESP's requests may have: HTTP and SMTP, on one pool of threads.

It must never know an ESP: the scheme of a request's URL says who carries it.
"""

from collections.abc import Mapping
from pathlib import Path

from esp.http import PUBLIC_AUTHORITIES, Exchange
from esp.smtp_lines import SmtpLines


def open_exchange(
    connections: int,
    connect_timeout_s: float,
    total_timeout_s: float,
    *,
    idle_s: Mapping[str, float] | None = None,
    authorities: Path | None = None,
) -> Exchange:
    """An exchange that speaks both; its arguments are those of `Exchange`."""
    smtp = SmtpLines(connections, connect_timeout_s, total_timeout_s, public_authorities=PUBLIC_AUTHORITIES, authorities=authorities)
    return Exchange(connections, connect_timeout_s, total_timeout_s, idle_s=idle_s, authorities=authorities, others={"smtp": smtp})
