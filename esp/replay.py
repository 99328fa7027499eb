"""Replays: a callback whose signature is good, and which somebody kept to bring it again.

Within an ESP's window a replay changes nothing, since each event meets its own row; the window only has to be shorter than events are
kept (RETENTION_TRACKING_DAYS) and longer than the ESP repeats a callback. This module must never read the clock: a callback is as
old as it was when it reached Kafka, however long it has waited there.
"""

from mail.errors import BadCallback

CLOCK_SKEW_S = 600.0


def refuse_replay(signed_at_s: float, received_at_s: float | None, window_s: float) -> None:
    """Raise BadCallback unless this Unix time, which is signed and so the ESP's own, lies near the one of the callback's record."""
    if received_at_s is not None and not -CLOCK_SKEW_S <= received_at_s - signed_at_s <= window_s:
        raise BadCallback("the signature is too old, or from the future: a replay, or a clock that is wrong")
