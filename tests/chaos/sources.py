"""The jobs of a storm by every way in: Kafka, rows for later, the Redis list, and dead letters that are brought back.

What comes is drawn from the seed. Jobs for the fourth way name a template that does not exist yet: they die of it, and are replayed
once it does. Refused and throttled ones, which come back as rows by themselves, are made by the ESPs.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sandbox import traffic
from sandbox.traffic import Piece

Way = Literal["kafka", "later", "redis", "replay"]
SHARES: dict[Way, float] = {"kafka": 0.55, "later": 0.15, "redis": 0.18, "replay": 0.12}
LATER_S = (1.0, 15.0)
BAD = 0.04
LATE_TEMPLATE = "not-there-yet"
MODEL = "welcome-email"  # whose copy the late template will be


class Order(NamedTuple):
    """What to hand in, and by which way; `later_s` only for jobs with a schedule."""

    way: Way
    piece: Piece
    later_s: float = 0.0

    def value(self, now: datetime) -> bytes:
        """The bytes of the record; a schedule counts from now."""
        if self.way != "later":
            return self.piece.value
        due_at = now + timedelta(seconds=self.later_s)
        return json.dumps(json.loads(self.piece.value) | {"scheduledAt": due_at.isoformat()}).encode()


def make(seed: int) -> Iterator[Order]:
    """Orders without end. A repeat comes by Kafka, whichever way its first copy went."""
    dice = random.Random(f"sources:{seed}")
    late: dict[str, Piece] = {}
    for piece in traffic.make(10**7, seed, bad=BAD, prefix=f"s{seed}-"):
        if piece.is_repeat:
            again = late.get(piece.key, piece)
            yield Order("kafka", again._replace(is_repeat=True))
            continue
        way: Way = dice.choices(list(SHARES), list(SHARES.values()))[0] if _is_template_job(piece) else "kafka"
        if way == "replay":
            piece = late[piece.key] = _with_late_template(piece)
        yield Order(way, piece, dice.uniform(*LATER_S) if way == "later" else 0.0)


def now() -> datetime:
    return datetime.now(UTC)


def _is_template_job(piece: Piece) -> bool:
    return not piece.wanted[0].reason and b'"recipient"' in piece.value


def _with_late_template(piece: Piece) -> Piece:
    job: dict[str, Any] = json.loads(piece.value)
    job |= {"type": MODEL, "template": LATE_TEMPLATE, "data": {"name": "Ada"}}
    return piece._replace(value=json.dumps(job).encode())
