"""Identifiers: UUIDv7 for what we make, uuid5 for what must come out the same however often it arrives.

An id is a canonical lower-case UUID string everywhere in this program. On an ESP's wire an attempt id is spelled in 26
characters of Crockford's base32 (wire id), because SocketLabs takes only `0-9A-Za-z-` and about 30 of them.
"""

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "email-worker")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_WIRE = re.compile(f"[{_ALPHABET}{_ALPHABET.lower()}]{{26}}")
# the digits that int() takes for base 32
_PYTHONS_BASE32 = bytes.maketrans((_ALPHABET + _ALPHABET.lower()).encode(), b"0123456789ABCDEFGHIJKLMNOPQRSTUV" * 2)
_IN_NAMESPACE = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_IDS_AT_ONCE = 64
# the hexadecimal digit that keeps two bits of another one and says that this is a UUID of RFC 9562
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def new_id(now_ms: int | None = None) -> str:
    """A fresh UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits; sorts by time, so by day partition."""
    return _completed(_moment(time.time_ns() // 1_000_000 if now_ms is None else now_ms), os.urandom(10).hex())


def fresh_ids() -> Iterator[str]:
    """Fresh UUIDv7 without end, each for a third of what `new_id` costs: asking for random bits takes longer than spelling them.

    Never to be kept over a fork: both processes would go on with the same random bits.
    """
    while True:
        moment, luck = _moment(time.time_ns() // 1_000_000), os.urandom(10 * _IDS_AT_ONCE).hex()
        for at in range(0, len(luck), 20):
            yield _completed(moment, luck[at : at + 20])


def time_of(id_: str) -> float:
    """The Unix time in seconds at which a UUIDv7 was made."""
    return int(id_[:8] + id_[9:13], 16) / 1000


def bounds_of_day(day_start_ms: int, day_end_ms: int) -> tuple[str, str]:
    """The smallest id of a day and the smallest of the next: the bounds of that day's partition."""
    return _dashed(f"{day_start_ms << 80:032x}"), _dashed(f"{day_end_ms << 80:032x}")


def wire_id(id_: str) -> str:
    """The 26 characters of Crockford base32 that stand for an id on an ESP's wire."""
    number = int(id_.replace("-", ""), 16)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def from_wire(text: str) -> str:
    """The id behind a wire id; raises ValueError where the text is not one."""
    if not _WIRE.fullmatch(text):
        raise ValueError("a wire id has 26 characters of Crockford base32")
    number = int(text.encode().translate(_PYTHONS_BASE32), 32)  # as bytes it costs half
    if number >> 128:
        raise ValueError("a wire id is at most 128 bits")
    return _dashed(f"{number:032x}")


def status_key(tenant: int, job_id: str) -> str:
    """Under which key Redis tells where a job stands."""
    return f"email:status:{tenant}:{job_id}"


def job_key(tenant: int, job_id: str) -> str:
    """The idempotency key of a job within its tenant: uuid5(N, "job:<tenant>:<job id>")."""
    return _named(f"job:{tenant}:{job_id}")


def recipient_job_id(campaign_id: str, address: str) -> str:
    """The job id of one recipient of a campaign, the same however often the campaign is expanded."""
    return _named(f"recipient:{campaign_id}:{address.lower()}")


def tracking_id(provider: str, account_tenant: int, event_id: str) -> str:
    """The id of a tracking row: a repeated event meets its own row."""
    return _named(f"event:{provider}:{account_tenant}:{event_id}")


def dead_letter_id(origin: str, value: bytes) -> str:
    """The id of a dead letter: a record that is read again after a crash meets its own. `origin` says where it came from."""
    return _named(f"dead:{origin}:{hashlib.sha256(value).hexdigest()}")


def cohort_id(tenant: int, stream: str, period: str) -> str:
    """The id of what was sent together: `period` is a batch id, or an hour of single mails."""
    return _named(f"cohort:{tenant}:{stream}:{period}")


def _named(name: str) -> str:
    # uuid.uuid5 spelled out: building a UUID object first costs five times as much
    digest = _IN_NAMESPACE.copy()
    digest.update(name.encode())
    h = digest.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def _moment(ms: int) -> str:
    """What all UUIDv7 of this millisecond begin with."""
    digits = f"{ms:012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


def _completed(moment: str, luck: str) -> str:
    """`luck` are 20 random hexadecimal digits."""
    return f"{moment}{luck[1:4]}-{_VARIANT[luck[4]]}{luck[5:8]}-{luck[8:]}"


def _dashed(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
