"""How much one record may ask for: the limits of the wire format, in one place.

The settings may change those of `DecodeLimits`; the others follow from the tables and from RFC 5321/5322.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

MAX_JOB_ID = 100
MAX_MESSAGE_ID = 90  # leaves room for ":<index>" within a job id
MAX_USER_ID = 100
MAX_DEPTH = 100  # far above any honest job, far below what breaks a parser, a template or jsonb
MAX_ADDRESS = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
MAX_LOCAL_PART = 64
MAX_DISPLAY_NAME = 255
MAX_HEADER_NAME = 100
MAX_HEADER_VALUE = 998  # RFC 5322, 2.1.1: characters of one line
MAX_FILE_NAME = 255

JobId = Annotated[str, Meta(min_length=1, max_length=MAX_JOB_ID)]
MessageId = Annotated[str, Meta(min_length=1, max_length=MAX_MESSAGE_ID)]
Name = Annotated[str, Meta(max_length=100)]
Count = Annotated[int, Meta(ge=0, le=100)]
BigInt = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class DecodeLimits(msgspec.Struct, frozen=True):
    """Sizes in bytes, lengths in characters. `providers` are the names of the ESPs that a job may pin (None = any)."""

    max_job_bytes: int = 1_048_576
    max_recipients: int = 50
    max_personalizations: int = 1_000
    max_subject: int = 998
    providers: frozenset[str] | None = None
