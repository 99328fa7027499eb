"""Templates in Redis for all workers of all hosts, so that many of them ask the database for the same few once in a while only.

The database wins: an entry lives for seconds, so an edit is seen about as soon as without it. What is not there, cannot be read
or does not come at once is a miss; a missing template is never remembered here. It must never make a worker wait for long.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from mail.template import Template
from workers.news.redis_link import Client, RedisLink

LIFE_S = 2
ANSWER_LIMIT_S = 0.05

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Template).decode


class TemplateCache:
    """`link` None = there is no Redis, and nothing is ever found."""

    def __init__(self, link: RedisLink | None = None):
        self._link = link

    def read(self, names: Sequence[str]) -> dict[str, Template]:
        """Those of these templates that are at hand."""
        if self._link is None or not names:
            return {}
        stored = self._link.ask(lambda client: client.mget([_key(name) for name in names]), ANSWER_LIMIT_S)
        templates = map(_read, stored or [])
        return {template.name: template for template in templates if template is not None}

    def keep(self, found: Mapping[str, Template]) -> None:
        """These were just read from the database."""
        if self._link is not None and found:
            entries = {_key(name): _encode(template) for name, template in found.items()}
            self._link.send(partial(_keep, entries), sum(map(len, entries.values())))


def _key(name: str) -> str:
    return f"email:template:{name}"


def _read(stored: bytes | None) -> Template | None:
    """An entry that another version wrote may have another form."""
    try:
        return None if stored is None else _decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _keep(entries: Mapping[str, bytes], client: Client) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for key, entry in entries.items():
            pipeline.set(key, entry, ex=LIFE_S)
        pipeline.execute()
