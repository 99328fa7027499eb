import shutil
import uuid
from pathlib import Path

import pytest
import redis

from sandbox import redis as sandbox_redis
from sandbox.redis import Kind, Redis, best_kind, has_program

KINDS: tuple[Kind, ...] = ("path", "wheel", "fake")


def start(kind: Kind, folder: Path) -> Redis:
    if kind != "fake" and not has_program(kind):
        pytest.skip(f"there is no redis-server of the kind {kind}")
    server = Redis(folder, kind=kind)
    server.start()
    return server


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_works_as_the_queue_needs_it(kind: Kind, tmp_path: Path) -> None:
    server = start(kind, tmp_path)
    try:
        with redis.Redis.from_url(server.url) as client:
            client.rpush("email-jobs", b"first", b"second")
            assert client.lmove("email-jobs", "in-hand", "LEFT", "RIGHT") == b"first"
            assert client.lrange("in-hand", 0, -1) == [b"first"]
            assert client.llen("email-jobs") == 1
            assert client.set("status", "sent", ex=60)
            assert client.ttl("status") > 0
    finally:
        server.stop()


def test_a_real_server_keeps_its_data_over_kill_and_restart(tmp_path: Path) -> None:
    kind = best_kind()
    if kind == "fake":
        pytest.skip("fakeredis forgets")
    server = start(kind, tmp_path)
    try:
        with redis.Redis.from_url(server.url) as client:
            client.rpush("email-jobs", b"kept")
            server.server.kill()
            server.start()
            assert client.lrange("email-jobs", 0, -1) == [b"kept"]
    finally:
        server.stop()


def test_the_sessions_server_answers(redis_server: Redis) -> None:
    key = uuid.uuid4().hex
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(key, "x", ex=5)
        assert client.get(key) == b"x"


def test_fakeredis_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_redis, "has_program", lambda kind: False)
    assert best_kind() == "fake"


def test_the_wheel_comes_before_fakeredis_and_after_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_redis, "has_program", lambda kind: kind == "wheel")
    assert best_kind() == "wheel"
    monkeypatch.setattr(sandbox_redis, "has_program", lambda kind: True)
    assert best_kind() == "path"


def test_a_missing_kind_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="no redis-server on the PATH"):
        Redis(tmp_path, kind="path").launch()
