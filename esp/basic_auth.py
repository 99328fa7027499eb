"""How callbacks prove whose they are at ESPs that sign nothing: HTTP basic authentication (RFC 7617), or a shared secret in a header.

It must never tell by its time or its words how much of a password was right.
"""

import binascii
import hmac
from base64 import b64decode

from mail.callback import Callback
from mail.errors import BadCallback


def verify_login(callback: Callback, username: str, password: str, token_header: str) -> None:
    """Raise BadCallback unless the callback brings this user name and password; where neither is set, nothing is checked.

    A password without a user name is a token too: it may come as a bearer's, or as the value of `token_header` (lower case).
    """
    if not username and not password:
        return
    scheme, _, given = callback.headers.get("authorization", "").partition(" ")
    if username or scheme.lower() == "basic":
        _verify_basic(scheme, given, f"{username}:{password}")
        return
    token = given.strip() if scheme.lower() == "bearer" else callback.headers.get(token_header, "")
    if not hmac.compare_digest(token.encode("utf-8", "replace"), password.encode()):
        raise BadCallback("the callback's token is missing or wrong")


def _verify_basic(scheme: str, given: str, login: str) -> None:
    if scheme.lower() != "basic":
        raise BadCallback("the callback brings no user name and password")
    try:
        pair = b64decode(given.strip().encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadCallback("the callback's user name and password cannot be read") from None
    if not hmac.compare_digest(pair, login.encode()):
        raise BadCallback("the callback's user name or password is wrong")
