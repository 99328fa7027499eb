"""Domains that were looked up: which mailbox provider takes their mail."""

from collections.abc import Sequence
from typing import NamedTuple

from db.connection import Cursor, fetch, number_array, text_array
from db.queries import sql
from mail.ids import new_id

LATELY_S = 3_600.0
SAMPLE = 20_000  # attempts
HOSTED_MOST = 20_000  # domains: some 4 MB in each worker
FORGET_DAYS = 30


class Found(NamedTuple):
    """What a look-up came to; `again_s` is in how many seconds it is worth another one."""

    domain: str
    mailbox_provider: str
    exchanger: str
    again_s: float


def find_unknown(cursor: Cursor, now_s: float, limit: int) -> list[str]:
    """Domains (lower case) that mail went to in the last hour and of which nobody knows who is behind them."""
    values = {"low": new_id(max(0, int((now_s - LATELY_S) * 1000))), "sample": SAMPLE, "limit": limit}
    return [row[0] for row in fetch(cursor, sql("find_unknown_domains"), values)]


def store(cursor: Cursor, found: Sequence[Found]) -> None:
    """Write down what look-ups came to."""
    if found:
        values = {
            "domains": text_array([f.domain for f in found]),
            "mailbox_providers": text_array([f.mailbox_provider for f in found]),
            "exchangers": text_array([f.exchanger for f in found]),
            "again": number_array([f.again_s for f in found]),
        }
        cursor.execute(sql("upsert_domains"), values)


def find_hosted(cursor: Cursor) -> dict[str, str]:
    """The mailbox provider of each domain that has one: of those that were looked up last, at most HOSTED_MOST."""
    return dict(fetch(cursor, sql("find_hosted_domains"), {"limit": HOSTED_MOST}))


def forget_old(cursor: Cursor) -> int:
    """Forget domains that nobody has written to for long; returns how many."""
    cursor.execute(sql("forget_domains"), {"days": FORGET_DAYS})
    return int(cursor.rowcount)
