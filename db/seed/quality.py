"""How good each ESP really is at each mailbox provider in this story: the truth that its weights are to find out."""

import math
from random import Random
from typing import NamedTuple

_SPREAD_OF_ESPS, _SPREAD_OF_CELLS = 0.5, 0.9
_USUAL_INBOX = 1.6  # on the logit scale: 83 % of what is delivered is seen
_USUAL_BLOCK = -4.2  # 1.5 % of what is sent is refused


class Quality(NamedTuple):
    """Chances of a message: to be refused by the mailbox provider, and, once delivered, to lie where people look."""

    blocked: float
    inboxed: float


def quality_of(seed: int, provider: str, mailbox: str) -> Quality:
    """The quality of one cell: the ESP's own level and how it gets along with this mailbox provider."""
    own = Random(f"{seed}/{provider}").gauss(0, _SPREAD_OF_ESPS)
    cell = Random(f"{seed}/{provider}/{mailbox}").gauss(0, _SPREAD_OF_CELLS)
    level = own + cell
    return Quality(blocked=min(0.3, _share(_USUAL_BLOCK - 1.2 * level)), inboxed=_share(_USUAL_INBOX + level))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
