"""What Redis holds of somebody: statuses that producers may ask for, and copies of dead letters. Only erased here;
workers/news/status_board.py writes them."""

from collections.abc import Callable, Iterable
from typing import Any

import redis
from redis.exceptions import RedisError

from intake.redis_list import connect

_KEYS_MOST, _LETTERS_MOST = 500, 50


def erase(url: str, status_keys: Iterable[str], dead_letters: str, is_theirs: Callable[[str], bool]) -> int:
    """Delete these keys and, from the list of dead letters, those that are somebody's; returns how many there were.

    Raises ConnectionError where Redis does not do it.
    """
    with connect(url) as client:
        try:
            return _erase_statuses(client, list(status_keys)) + _erase_letters(client, dead_letters, is_theirs)
        except RedisError as problem:
            raise ConnectionError(f"Redis does not do it: {type(problem).__name__}") from problem


def _erase_statuses(client: redis.Redis, keys: list[str]) -> int:
    return sum([int(client.delete(*keys[at : at + _KEYS_MOST])) for at in range(0, len(keys), _KEYS_MOST)])


def _erase_letters(client: redis.Redis, name: str, is_theirs: Callable[[str], bool]) -> int:
    """The list moves while it is read, so it is read again until nothing of theirs was found."""
    erased = 0
    while found := sum([_erase_page(client, name, is_theirs, at) for at in range(0, int(client.llen(name)), _LETTERS_MOST)]):
        erased += found
    return erased


def _erase_page(client: redis.Redis, name: str, is_theirs: Callable[[str], bool], start: int) -> int:
    page: Any = client.lrange(name, start, start + _LETTERS_MOST - 1)
    return sum([int(client.lrem(name, 0, letter)) for letter in page if is_theirs(letter.decode())])
