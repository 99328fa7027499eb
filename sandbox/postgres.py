"""One PostgreSQL server in one folder, on 127.0.0.1 only, without Unix sockets, dying with the process that started it.

PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy of the binaries that `nobody` can read. It must
never change anything outside its folder; where `nobody` cannot reach that folder (say, below a closed /root), a folder of its
own in the temporary directory is used, named in `<folder>/elsewhere`, and removed by `close`. The one thing that a kill -9
leaves outside is the kernel's 56 bytes of System V shared memory, until the next start over the same folder.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg2

from sandbox import postgres_binaries
from sandbox.children import Child, NotReady, free_port, is_zombie, spawn

StopMode = Literal["smart", "fast", "immediate", "kill"]
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
USER = "email_worker_user"
READY_LIMIT_S = 30.0
RELEASE_LIMIT_S = 5.0
RETRY_S = 0.1
NOBODYS_PID = 1 << 22  # just above the largest that Linux gives out
STILL_IN_USE = "pre-existing shared memory block"
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # shared memory in the data folder, not in /dev/shm, where a kill -9 would leave it behind
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    "log_destination": "stderr",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# What was committed survives any death of the server, kill -9 included, only not that of the machine.
UNSAFE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """A server over `folder`, which is made where it is missing and whose data is used again where it is there.

    `binaries` is a folder with `initdb` and `postgres` (default: the wheel's). `settings` are any of postgresql.conf.
    """

    def __init__(self, folder: Path, *, binaries: Path | None = None, fsync: bool = False, settings: Mapping[str, str] | None = None):
        self.folder = folder.resolve()
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.port = free_port()
        self._binaries = binaries
        self._settings = SETTINGS | ({} if fsync else UNSAFE_SETTINGS) | dict(settings or {})
        self._home: Path | None = None
        self._server: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def home(self) -> Path:
        """Where its data and, for root, its binaries really are."""
        if self._home is None:
            self._home = self._choose_home()
        return self._home

    @property
    def server(self) -> Child:
        """The running postmaster; raises NotReady before `start`."""
        if self._server is None:
            raise NotReady("postgres was never started")
        return self._server

    @property
    def password(self) -> str:
        return (self.home / "password").read_text()

    def parameters(self, database: str = "postgres") -> dict[str, Any]:
        """What psycopg2.connect takes: host, port, dbname, user, password, sslmode."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": database,
            "user": USER,
            "password": self.password,
            "sslmode": "disable",
        }

    def dsn(self, database: str = "postgres") -> str:
        """The same as a URL."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def start(self) -> None:
        """Make the data folder where there is none, start the server and wait until it answers; raises NotReady."""
        self.prepare()
        self._clear_lock_of_the_dead()
        deadline = time.monotonic() + RELEASE_LIMIT_S
        while True:
            self._launch()
            try:
                self.server.wait_until(self.is_answering, READY_LIMIT_S, "answer")
                return
            except NotReady as error:
                # after a kill -9, its old children may hold the shared memory for a moment yet
                if STILL_IN_USE not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    def stop(self, mode: StopMode = "fast") -> None:
        """End the server: smart waits for clients, fast ends them, immediate and kill make the next start recover. Keeps the data."""
        if mode == "kill":
            self.server.kill()
        else:
            self.server.stop(SIGNALS[mode], limit_s=30.0)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port with the same data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop for good; a home in the temporary directory is removed, the folder itself stays."""
        if self._server is not None:
            self.stop("fast")
        if self.home != self.folder:
            shutil.rmtree(self.home, ignore_errors=True)
            (self.folder / "elsewhere").unlink(missing_ok=True)
            self._home = None

    def is_answering(self) -> bool:
        """Can one log in?"""
        return self.has_database("postgres")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement in autocommit on a connection of its own."""
        with closing(psycopg2.connect(**self.parameters(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def has_database(self, name: str) -> bool:
        """Can one log in to a database of that name?"""
        try:
            psycopg2.connect(**self.parameters(name), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def create_database(self, name: str, template: str = "template0") -> None:
        """A new database; `template` is copied whole and must have no open connections."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name: str) -> None:
        """Away with it, whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def prepare(self) -> None:
        """Make home and data folder where they are missing; raises NotReady with initdb's words."""
        if (self.home / "data" / "PG_VERSION").exists():
            return
        shutil.rmtree(self.home / "data", ignore_errors=True)
        self._make_owned_folder(self.home / "data")
        self._write_password()
        command = [str(self._programs() / "initdb"), "--pgdata", str(self.home / "data"), "--username", USER]
        command += ["--pwfile", str(self.home / "password"), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = spawn("initdb", command, self.home, environ=CLEAN_ENVIRONMENT, user=self.user)
        try:
            status = made.process.wait(READY_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = made.kill()
        if status != 0:
            shutil.rmtree(self.home / "data", ignore_errors=True)
            raise NotReady(f"initdb ended with {status}\n{made.tail()}")

    def _clear_lock_of_the_dead(self) -> None:
        """Make the lock file of a killed postmaster that nobody has reaped tell so: postgres would take the zombie for alive.

        Containers whose first process does not reap orphans keep such zombies for ever. The file stays, since it also names the
        dead one's shared memory, which the next postmaster takes away.
        """
        lock = self.home / "data" / "postmaster.pid"
        if lock.exists():
            pid, _, rest = lock.read_text().partition("\n")
            if is_zombie(int(pid)):
                lock.write_text(f"{NOBODYS_PID}\n{rest}")

    def _launch(self) -> None:
        command = [str(self._programs() / "postgres"), "-D", str(self.home / "data"), "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        self._server = spawn("postgres", command, self.home, environ=CLEAN_ENVIRONMENT, user=self.user)

    def _programs(self) -> Path:
        if self._binaries is not None:
            return self._binaries
        packages = postgres_binaries.find_wheel()
        if self.user is None:
            return postgres_binaries.wheel_programs(packages)
        return postgres_binaries.copy_wheel(packages, self.home / "binaries")

    def _choose_home(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.user is None:
            return self.folder
        self.folder.chmod(0o711)
        if postgres_binaries.is_reachable(self.folder, self.user):
            return self.folder
        return self._home_elsewhere()

    def _home_elsewhere(self) -> Path:
        pointer = self.folder / "elsewhere"
        if pointer.exists():
            # left by a kill -9; the temporary directory is everybody's, so what stands there now has to be ours
            earlier = Path(pointer.read_text())
            if earlier.is_dir() and earlier.stat().st_uid == os.geteuid():
                return earlier
        home = Path(tempfile.mkdtemp(prefix="email-worker-postgres-", dir=_open_temporary_directory()))
        home.chmod(0o711)
        pointer.write_text(str(home))
        return home

    def _write_password(self) -> None:
        path = self.home / "password"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
        self._give_away(path)

    def _make_owned_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        self._give_away(path)

    def _give_away(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)


def _open_temporary_directory() -> Path:
    """The temporary directory, or /tmp where $TMPDIR is somebody's own."""
    nobody = pwd.getpwnam("nobody")
    chosen = Path(tempfile.gettempdir()).resolve()
    return chosen if postgres_binaries.is_reachable(chosen, nobody) else Path("/tmp")
