"""Tenants: what their mail says where a job does not say it."""

from collections.abc import Sequence
from typing import NamedTuple

from db.connection import Cursor, fetch, number_array
from db.queries import sql
from mail.message import Address


class SenderDefaults(NamedTuple):
    """A tenant's own From and Reply-To; None = it has none."""

    sender: Address | None
    reply_to: Address | None


def find(cursor: Cursor, ids: Sequence[int]) -> dict[int, SenderDefaults]:
    """The defaults of these tenants that are known."""
    rows = fetch(cursor, sql("find_tenants"), {"ids": number_array(ids)}) if ids else []
    return {
        id_: SenderDefaults(Address(email, name or "") if email else None, Address(reply_to) if reply_to else None)
        for id_, email, name, reply_to in rows
    }
