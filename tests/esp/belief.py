"""Whether a callback is believed, as a question that a test can ask: a verification answers by raising or not."""

from collections.abc import Callable
from typing import Any

from mail.errors import BadCallback


def is_believed(verify: Callable[..., None], *what: Any) -> bool:
    """Does this verification let it pass? What is raised but BadCallback is the test's failure."""
    try:
        verify(*what)
    except BadCallback:
        return False
    return True
