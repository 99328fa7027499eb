import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from sandbox import postgres_binaries
from sandbox.children import NotReady, is_zombie, spawn, wait_until
from sandbox.postgres import Postgres, StopMode
from tests.sandbox.processes import descendants, is_alive, owner

IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One server for the tests of this file that stop it."""
    with tempfile.TemporaryDirectory(prefix="email-worker-tests-") as folder, Postgres(Path(folder)) as started:
        yield started


def ask(server: Postgres, question: str, database: str = "postgres") -> Any:
    with closing(psycopg2.connect(**server.parameters(database))) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
        return row[0] if row else None


def test_a_database_is_fresh_for_each_test(postgres: Postgres, database: dict[str, Any]) -> None:
    assert ask(postgres, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", database["dbname"]) == 0


def test_a_dropped_database_takes_its_connections_along(postgres: Postgres) -> None:
    postgres.create_database("busy")
    with closing(psycopg2.connect(**postgres.parameters("busy"))) as connection:
        postgres.drop_database("busy")
        assert not postgres.has_database("busy")
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute("SELECT 1")


def test_a_database_can_be_copied_from_a_template(postgres: Postgres) -> None:
    postgres.create_database("original")
    postgres.execute("CREATE TABLE kept AS SELECT 7 AS number", "original")
    postgres.create_database("copy", template="original")
    try:
        assert ask(postgres, "SELECT number FROM kept", "copy") == 7
    finally:
        postgres.drop_database("copy")
        postgres.drop_database("original")


def test_it_listens_on_loopback_only_and_asks_for_a_password(postgres: Postgres) -> None:
    assert ask(postgres, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(postgres, "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(**(postgres.parameters() | {"password": "wrong"}))


def test_its_url_works_as_well_as_its_parameters(postgres: Postgres) -> None:
    with closing(psycopg2.connect(postgres.dsn())) as connection:
        assert connection.info.port == postgres.port


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_what_was_committed_survives_any_end_of_the_server(server: Postgres, mode: StopMode) -> None:
    server.execute(f"CREATE TABLE survivor_of_{mode} AS SELECT generate_series(1, 1000) AS number")
    server.restart(mode)
    assert ask(server, f"SELECT count(*) FROM survivor_of_{mode}") == 1000


def test_a_killed_server_leaves_no_process_behind(server: Postgres) -> None:
    family = descendants(server.server.pid)
    assert len(family) > 3
    server.stop("kill")
    wait_until(lambda: not any(map(is_alive, family)), 2, "the end of postgres' own children")
    server.start()


def test_a_killed_server_that_nobody_has_reaped_does_not_keep_the_next_from_starting(server: Postgres, tmp_path: Path) -> None:
    server.stop("kill")
    zombie = spawn("zombie", ["true"], tmp_path, user=server.user)
    wait_until(lambda: is_zombie(zombie.pid), 5, "a zombie")
    lock = server.home / "data" / "postmaster.pid"
    lock.write_text("\n".join([str(zombie.pid), *lock.read_text().split("\n")[1:]]))
    server.start()
    zombie.process.wait()
    assert ask(server, "SELECT 1") == 1


def test_its_shared_memory_stays_in_its_folder(server: Postgres) -> None:
    assert ask(server, "SHOW dynamic_shared_memory_type") == "mmap"


def test_fsync_is_off_unless_asked_for(postgres: Postgres) -> None:
    assert ask(postgres, "SHOW fsync") == "off"
    careful = Postgres(postgres.folder.parent / "careful", fsync=True, settings={"max_connections": "20"})
    with careful:
        assert ask(careful, "SHOW fsync") == "on"
        assert ask(careful, "SHOW max_connections") == "20"


def test_a_setting_that_postgres_refuses_is_reported_in_its_words(postgres: Postgres) -> None:
    broken = Postgres(postgres.folder.parent / "broken", settings={"no_such_setting": "1"})
    with pytest.raises(NotReady, match="no_such_setting"):
        broken.start()
    broken.close()


def test_a_half_made_data_folder_is_made_again(postgres: Postgres) -> None:
    folder = postgres.folder.parent / "half"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "base").mkdir()
    with Postgres(folder) as server:
        assert ask(server, "SELECT 1") == 1


def test_a_second_server_over_the_same_folder_is_refused(postgres: Postgres) -> None:
    with pytest.raises(NotReady, match=r"postmaster\.pid"):
        Postgres(postgres.folder).start()
    assert ask(postgres, "SELECT 1") == 1


@pytest.mark.skipif(not IS_ROOT, reason="only root has to become somebody else")
def test_root_runs_it_as_nobody(postgres: Postgres) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    family = {postgres.server.pid} | descendants(postgres.server.pid)
    assert {owner(pid) for pid in family} == {nobody}


@pytest.mark.skipif(not IS_ROOT, reason="only root has folders that nobody may not enter")
def test_root_keeps_its_data_elsewhere_where_nobody_cannot_reach_the_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "postgres")
    server.start()
    elsewhere = server.home
    server.execute("CREATE TABLE kept ()")
    assert closed not in elsewhere.parents
    assert closed.stat().st_mode & 0o777 == 0o700

    server.stop("kill")
    successor = Postgres(closed / "postgres")
    successor.start()
    assert successor.home == elsewhere
    assert ask(successor, "SELECT to_regclass('kept')::text") == "kept"
    successor.close()
    assert not elsewhere.exists()


@pytest.mark.integration
def test_the_systems_own_postgres_can_be_used_instead(server_folder: Path) -> None:
    binaries = postgres_binaries.find_system_programs()
    if binaries is None:
        pytest.skip("there is no PostgreSQL in /usr/lib/postgresql")
    with Postgres(server_folder / "system", binaries=binaries) as server:
        assert str(ask(server, "SHOW server_version")).startswith(binaries.parent.name)


def test_a_copy_of_the_binaries_is_readable_for_everybody(tmp_path: Path) -> None:
    programs = postgres_binaries.copy_wheel(postgres_binaries.find_wheel(), tmp_path / "binaries")
    assert {program.name for program in programs.iterdir()} == set(postgres_binaries.PROGRAMS)
    assert all(path.stat().st_mode & 0o005 == 0o005 for path in (tmp_path / "binaries").rglob("*"))
    assert not (tmp_path / "binaries.part").exists()
