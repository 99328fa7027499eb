"""The product in a world: migrated, its templates stored, its supervisor started, watched and stopped like an operator would."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from config.settings import Settings, load_settings
from db import default_templates, migrate, templates
from db.connection import Database
from mail.event import STATUS_RANK
from sandbox.children import PROJECT, Child, NotReady, spawn
from sandbox.world import World
from workers.connections import open_database

READY_LIMIT_S = 30.0
STOP_LIMIT_S = 45.0
WAITING = ("pending", "scheduled", "sending", "retrying")
SUPERVISOR = (str(PROJECT / "supervisor.py"),)


class Product:
    """One supervisor over a world. `extra` are settings laid over the world's, `program` what Python runs as the supervisor."""

    def __init__(self, world: World, workers: int = 4, extra: Mapping[str, str] | None = None, program: Sequence[str] = SUPERVISOR):
        self.world = world
        self.environment = {**os.environ, **world.environment(), "PYTHONDONTWRITEBYTECODE": "1", **(extra or {})}
        self.settings: Settings = load_settings(self.environment, None)
        self.state_dir = self.settings.state_dir
        self._workers = workers
        self._program = program
        self._supervisor: Child | None = None

    def prepare(self) -> None:
        """Make the tables and store the default templates."""
        database = open_database(self.settings, "sandbox")
        migrate.migrate(database)
        database.run(lambda cursor: templates.insert_missing(cursor, [template for template, _ in default_templates.load()]))
        database.close()

    def start(self, log_name: str = "supervisor") -> None:
        """Start the supervisor and wait until every process has beaten once; its log is <world>/<log_name>.log."""
        command = [sys.executable, *self._program, "--workers", str(self._workers), "--env-file", os.devnull]
        self._supervisor = spawn(log_name, command, self.world.folder, environ=self.environment)
        self._supervisor.wait_until(self.is_ready, READY_LIMIT_S, "have every process beat once")

    def is_ready(self) -> bool:
        """Have all processes beaten once?"""
        return self.state().get("doing") == "running"

    def state(self) -> dict[str, Any]:
        """What supervisor.json says; empty before there is one."""
        try:
            state: dict[str, Any] = json.loads((self.state_dir / "supervisor.json").read_text())
            return state
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def stop(self) -> int:
        """Ask it to finish what is in hand, as systemd does; returns the exit code."""
        return self.supervisor.stop(limit_s=STOP_LIMIT_S)

    @property
    def supervisor(self) -> Child:
        """Its process; raises NotReady before `start`."""
        if self._supervisor is None:
            raise NotReady("the supervisor was never started")
        return self._supervisor

    def database(self) -> Database:
        return open_database(self.settings, "sandbox")

    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        with closing(self.database()) as database:
            return dict(database.read("SELECT status, count(*) FROM email_jobs GROUP BY status"))

    def summary(self) -> dict[str, Any]:
        """What the database says at the end: who was sent, what is uncertain, what waits, dead letters by reason, events by kind."""
        with closing(self.database()) as database:
            rows = database.read("SELECT recipient_email, status FROM email_jobs")
            dead = dict(database.read("SELECT reason, count(*) FROM dead_letters GROUP BY reason"))
            reported = dict(database.read("SELECT event_type, count(*) FROM email_tracking GROUP BY event_type"))
        return {
            "sent": [email for email, status in rows if status in STATUS_RANK],
            "uncertain": [email for email, status in rows if status == "uncertain"],
            "waiting": sum(status in WAITING for _, status in rows),
            "dead_letters": dead,
            "reported": reported,
        }
