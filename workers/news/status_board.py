"""What Redis is told of emails: the status of each, for producers that ask, and a copy of the newest dead letters.

The rows are the truth; the board is written after their commit, may be behind, and loses what Redis loses. A status never goes
backwards on it, in whatever order the processes write. Nothing here may raise into a worker's loop or make it wait.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from db.outbox import Posting
from mail.event import STATUS_RANK
from mail.ids import status_key
from workers.news.redis_link import Client, RedisLink
from workers.steps.letter import Batch

STATUS_TTL_S = 24 * 3600
KEYS_MOST = 1_000  # a script stops everything else in Redis while it runs: about a millisecond for so many
LETTERS_MOST = 50
DEAD_LETTERS_KEPT = 10_000
VALUE_BYTES_MOST = 64 << 10
# Who writes later may know less: what waits gives way to what ended unsent, and that to what is known after a send.
_WAITING = {"pending": 0, "scheduled": 0, "retrying": 1, "cancelled": 1}
_UNSENT = 2
_RANKS = _WAITING | {status: _UNSENT + rank for status, rank in STATUS_RANK.items()}
_SHOW = f"""
local ranks = {{ {", ".join(f"{status} = {rank}" for status, rank in _RANKS.items())} }}
local function rank_of(status) return ranks[status] or {_UNSENT} end
for n, key in ipairs(KEYS) do
  local shown, status = redis.call('GET', key), ARGV[n]
  if not shown or rank_of(status) >= rank_of(shown) then
    redis.call('SET', key, status, 'EX', {STATUS_TTL_S})
  end
end
"""


class Shown(NamedTuple):
    """The status of one job as a producer knows it."""

    tenant: int
    job_id: str
    status: str

    @property
    def key(self) -> str:
        return status_key(self.tenant, self.job_id)


class StatusBoard:
    """`link` None = there is no Redis, and nothing is told. `dead_letters` names both the Kafka topic and the Redis list."""

    def __init__(self, link: RedisLink | None, dead_letters: str):
        self._link = link
        self._dead_letters = dead_letters

    def show(self, statuses: Sequence[Shown]) -> None:
        """Tell where these jobs stand now."""
        if self._link is None:
            return
        for start in range(0, len(statuses), KEYS_MOST):
            page = statuses[start : start + KEYS_MOST]
            self._link.send(partial(_show, page), sum(200 + len(each.job_id) for each in page))

    def show_batch(self, batch: Batch) -> None:
        """Tell what became of a batch that is recorded. A cancel that was too late is not seen: every later status wins over it."""
        if self._link is None:
            return
        decided = [(x.job, x.fate) for x in batch.letters if x.fate and x.fate.status and not x.fate.goes_elsewhere]
        told = [Shown(job.tenant, job.job_id, fate.status) for job, fate in decided]
        self.show(told + [Shown(cancel.tenant, cancel.job_id, "cancelled") for cancel in batch.cancels])

    def keep_dead_letters(self, postings: Sequence[Posting]) -> None:
        """Copy the dead letters among what is published to the list of the newest ones."""
        if self._link is None:
            return
        for posting in postings:
            if posting.topic == self._dead_letters:
                texts = [shorten(text) for text in posting.values]
                for start in range(0, len(texts), LETTERS_MOST):
                    page = texts[start : start + LETTERS_MOST]
                    self._link.send(partial(_push, self._dead_letters, page), sum(map(len, page)))

    def close(self) -> None:
        if self._link is not None:
            self._link.close()


def shorten(text: str) -> str:
    """A dead letter as the list holds it: a value over 64 KiB is only named, by its row."""
    if len(text) <= VALUE_BYTES_MOST:
        return text
    letter: dict[str, Any] = msgspec.json.decode(text)
    if _value_bytes(letter) <= VALUE_BYTES_MOST:
        return text
    kept = {key: field for key, field in letter.items() if key not in ("value", "encoding")}
    return msgspec.json.encode(kept | {"row": letter["id"]}).decode()


def _value_bytes(letter: dict[str, Any]) -> int:
    value: str = letter.get("value", "")
    if letter.get("encoding") == "base64":
        return len(value) // 4 * 3 - value.count("=")
    return len(value.encode())


def _show(statuses: Sequence[Shown], client: Client) -> None:
    client.eval(_SHOW, len(statuses), *(each.key for each in statuses), *(each.status for each in statuses))


def _push(name: str, texts: Sequence[str], client: Client) -> None:
    with client.pipeline() as pipeline:
        pipeline.rpush(name, *texts)
        pipeline.ltrim(name, -DEAD_LETTERS_KEPT, -1)
        pipeline.execute()
