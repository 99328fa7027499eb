"""Forgetting a person: their address and all that was kept of their mail is taken out of every table, in one transaction.

Rows of jobs and attempts stay, blank, so that sums stay true and an id is still known; suppressions stay as hashes; what is reported
later of their mail is kept without them (`blank_events`). What lies in Kafka's topics goes by their retention. Copies outside the
database are not for here: `Traces` says what to look for.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from db import outbox
from db.connection import Cursor, bytes_array, fetch, text_array, time_array, uuid_array
from db.queries import sql

# Some tables have no index by address, and nothing waits for this.
_PATIENCE = "SET LOCAL statement_timeout = '30min'"
_OUTBOX_PAGE = 100


class Erased(NamedTuple):
    """How many rows of each kind; `outbox` counts what was not published yet, changed or taken out. `shared_bodies` are stored
    originals that other people's waiting mail still needs; they go with it. `mentions` are rows of others' mail (as a Cc) and callbacks
    not read yet, of which only that part is gone."""

    jobs: int
    events: int
    payloads: int
    dead_letters: int
    suppressions: int
    outbox: int
    shared_bodies: int
    mentions: int


class Traces(NamedTuple):
    """By what copies elsewhere are known: jobs (tenant, job id), and ids of dead letters."""

    jobs: Sequence[tuple[int, str]]
    dead_letters: frozenset[str]


def forget(cursor: Cursor, address: str) -> tuple[Erased, Traces]:
    """Erase an address (in lower case); mail to it that still waits is cancelled. Whole tables are looked through before any job is
    locked, since workers wait for these."""
    cursor.execute(_PATIENCE)
    of: dict[str, Any] = {"address": address, "pattern": pattern_of(address)}
    events = _run(cursor, "erase_others_tracking", of) + _run(cursor, "erase_unmatched", of)
    mentions = _run(cursor, "blank_mentions_in_tracking", of) + _run(cursor, "erase_postponed", of)
    named = _ids(cursor, "erase_dead_letters", of)
    of |= {"attempts": uuid_array(_ids(cursor, "find_mentioning_attempts", of))}
    jobs = fetch(cursor, sql("lock_persons_jobs"), of | {"mentioning": uuid_array(_ids(cursor, "find_mentioning_jobs", of))})
    theirs = {row_id: (tenant, job_id) for row_id, tenant, job_id, is_theirs in jobs if is_theirs}
    of |= {"ids": uuid_array(theirs), "low": min(theirs, default=None), "high": max(theirs, default=None)}
    of |= {"mentioning": uuid_array([row[0] for row in jobs if row[0] not in theirs])}
    events += _run(cursor, "erase_tracking", of)
    hashes = {bytes(row[0]) for row in fetch(cursor, sql("erase_payloads"), of)}
    bodies = {"hashes": bytes_array(sorted(hashes))}
    _run(cursor, "erase_bodies", bodies)
    shared = fetch(cursor, sql("count_shared_bodies"), bodies)[0][0]
    dead_letters = frozenset(named + _ids(cursor, "erase_dead_letters_of_jobs", of))
    _run(cursor, "erase_rejections", of)
    suppressions = hash_suppressions(cursor, [address])
    _run(cursor, "blank_attempts", of)
    _run(cursor, "blank_jobs", of)
    mentions += _run(cursor, "blank_mentions_in_jobs", of) + _run(cursor, "blank_mentions_in_attempts", of)
    unpublished = _clean_outbox(cursor, address, dead_letters)
    erased = Erased(len(theirs), events, len(hashes), len(dead_letters), suppressions, unpublished, shared, mentions)
    return erased, Traces(list(theirs.values()), dead_letters)


def pattern_of(address: str) -> str:
    """Finds the address, and no longer one of which it is a part, in text in lower case; for Postgres and Python alike. It may follow
    a line break as JSON spells it."""
    return rf"(?:^|[^a-z0-9._%+-]|\\[nrt]){re.escape(address)}(?![a-z0-9-]|[.][a-z0-9])"


def blank_events(cursor: Cursor, events: Sequence[tuple[str, datetime]]) -> None:
    """What is reported of a forgotten person's mail: their rows (id, time) say nothing but what happened, and when."""
    ids, moments = [id_ for id_, _ in events], [at for _, at in events]
    values = {"ids": uuid_array(ids), "moments": time_array(moments), "first": min(moments), "last": max(moments)}
    cursor.execute(sql("blank_tracking"), values)


def hash_suppressions(cursor: Cursor, addresses: Sequence[str]) -> int:
    """Know these by nothing but a hash; returns how many entries there were."""
    return _run(cursor, "hash_suppressions", {"addresses": text_array(addresses)})


def is_about(text: str, address: str, dead_letters: frozenset[str]) -> bool:
    """Is this event or dead letter, as it is published, about that person? Bytes that are spelled in base64 are read too."""
    pattern = re.compile(pattern_of(address))
    if pattern.search(text.lower()):
        return True
    letter: dict[str, Any] = msgspec.json.decode(text)
    if letter.get("id") in dead_letters:
        return True
    if letter.get("encoding") != "base64":
        return False
    try:
        return bool(pattern.search(base64.b64decode(letter["value"]).decode("latin-1").lower()))
    except (KeyError, TypeError, binascii.Error):
        return False


def blanked(text: str, address: str) -> str | None:
    """An event without its recipient: what happened to the job is still told. None where the person is in more of it than that."""
    event: dict[str, Any] = msgspec.json.decode(text)
    if str(event.get("recipient", "")).lower() != address:
        return None
    rest = msgspec.json.encode(event | {"recipient": ""}).decode()
    return None if address in rest.lower() else rest


def _clean_outbox(cursor: Cursor, address: str, dead_letters: frozenset[str]) -> int:
    """Returns how many events and dead letters were changed or taken out. The outbox is nearly always empty."""
    after, touched = None, 0
    while page := fetch(cursor, sql("lock_outbox"), {"after": after, "limit": _OUTBOX_PAGE}):
        for id_, _, keys, values in page:
            after = id_
            theirs = [is_about(value, address, dead_letters) for value in values]
            if any(theirs):
                touched += sum(theirs)
                kept = [(k, blanked(v, address) if mine else v) for k, v, mine in zip(keys, values, theirs, strict=True)]
                _replace(cursor, id_, [(k, v) for k, v in kept if v is not None])
    return touched


def _replace(cursor: Cursor, id_: str, pairs: Sequence[tuple[str | None, str]]) -> None:
    if pairs:
        keys, values = zip(*pairs, strict=True)
        cursor.execute(sql("replace_outbox"), {"id": id_, "keys": text_array(keys), "values": text_array(values)})
    else:
        outbox.delete(cursor, [id_])


def _ids(cursor: Cursor, name: str, values: Mapping[str, object]) -> list[str]:
    return [row[0] for row in fetch(cursor, sql(name), values)]


def _run(cursor: Cursor, name: str, values: Mapping[str, object]) -> int:
    cursor.execute(sql(name), values)
    return int(cursor.rowcount)
