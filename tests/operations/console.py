"""manage.py as an operator types it, against one database."""

import contextlib
import io
import os
import subprocess
import sys
import types

import manage
from config.settings import load_settings
from sandbox.children import PROJECT


class Console:
    def __init__(self, parameters, tmp_path):
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DB_", "KAFKA_"))},
            "DB_HOST": parameters["host"],
            "DB_PORT": str(parameters["port"]),
            "DB_NAME": parameters["dbname"],
            "DB_USER": parameters["user"],
            "DB_PASSWORD": parameters.get("password", ""),
            "DB_SSL_MODE": "disable",
            "ENVIRONMENT": "development",
            "STATE_DIR": str(tmp_path / "state"),
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        }

    def type(self, *words, **settings):
        command = [sys.executable, "manage.py", "--env-file", os.devnull, *words]
        done = subprocess.run(command, cwd=PROJECT, env=self.environment | settings, capture_output=True, check=False)
        done.text = done.stdout.decode(errors="replace")
        return done

    def call(self, *words):
        """The same without a process of its own, which would take a second."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                arguments = manage.parser().parse_args(words)
                code = arguments.run(load_settings(self.environment, None), arguments)
            except SystemExit as refusal:
                code = refusal.code
        return types.SimpleNamespace(returncode=code, text=out.getvalue(), stderr=err.getvalue().encode())
