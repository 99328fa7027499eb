"""HTTP basic authentication of callbacks, for the ESPs that can do no better (RFC 7617).

It must never tell by its time or its words how much of a password was right.
"""

import binascii
import hmac
from base64 import b64decode

from mail.callback import Callback
from mail.errors import BadCallback


def verify_basic(callback: Callback, username: str, password: str) -> None:
    """Raise BadCallback unless the callback brings this user name and password; where neither is set, nothing is checked."""
    if not username and not password:
        return
    scheme, _, given = callback.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise BadCallback("the callback brings no user name and password")
    try:
        pair = b64decode(given.strip().encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadCallback("the callback's user name and password cannot be read") from None
    if not hmac.compare_digest(pair, f"{username}:{password}".encode()):
        raise BadCallback("the callback's user name or password is wrong")
