"""What the answer to an account's health request says: what is wrong with the account, and what to do about it.

Here stands what holds for every ESP that speaks HTTP; each adapter reads its own 200 and its own refusals. This module must never
take an answer that it does not know for a good one, nor repeat a credential.
"""

import msgspec

from mail.outcome import NoReply, Reply


class Health(msgspec.Struct, frozen=True):
    """`is_good` None = mail goes out, but somebody should know this. `words` say what is wrong and what to do."""

    is_good: bool | None
    words: str


GOOD = Health(True, "answers, and takes the credentials")
STRANGER = Health(False, "what answers there does not speak as this ESP does: check the base URL, and whether a proxy is in between")


def of_failure(reply: Reply | NoReply, what_to_do: str) -> Health | None:
    """None for a 200, which the adapter reads; `what_to_do` is said where the credentials are refused."""
    if isinstance(reply, NoReply):
        return unanswered(reply)
    if reply.status == 200:
        return None
    if reply.status in (401, 403):
        return Health(False, f"refuses the credentials (HTTP {reply.status}): {what_to_do}")
    if reply.status == 429:
        return Health(None, "answers, but is asked too often just now (HTTP 429): check again in a minute")
    if reply.status >= 500:
        return Health(False, f"is in trouble itself (HTTP {reply.status}): see its status page, and check again later")
    return Health(False, f"knows no such request (HTTP {reply.status}): check the base URL")


def unanswered(no_reply: NoReply) -> Health:
    return Health(False, f"does not answer ({no_reply.error}): check the base URL, the DNS and the way out of this network")
