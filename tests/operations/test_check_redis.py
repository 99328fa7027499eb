"""What `manage.py check` says about Redis: nothing where there is none, else whether it can serve as the queue."""

import pytest
import redis

from sandbox.redis import Redis
from tests.operations.console import Console

pytestmark = pytest.mark.thorough


def test_a_redis_that_serves_is_shown_with_the_depth_of_its_queue(console: Console, redis_server: Redis) -> None:
    url = redis_server.url.removesuffix("/0") + "/9"
    with redis.Redis.from_url(url) as client:
        client.delete("email-jobs")
        client.rpush("email-jobs", b"one", b"two")
    done = console.type("check", REDIS_URL=url)
    line = next(line for line in done.text.splitlines() if " redis " in line)
    assert "answers" in line
    assert "2 waiting in email-jobs" in line


def test_a_redis_that_is_away_fails_the_check_and_shows_no_password(console: Console) -> None:
    done = console.type("check", REDIS_URL="redis://:very-secret@127.0.0.1:1/3")
    assert done.returncode == 1
    line = next(line for line in done.text.splitlines() if " redis " in line)
    assert "127.0.0.1:1/3" in line
    assert "check the REDIS_ settings" in line
    assert b"very-secret" not in done.stdout + done.stderr


def test_without_a_redis_nothing_is_said_about_it(console: Console) -> None:
    assert not [line for line in console.type("check").text.splitlines() if " redis " in line]
