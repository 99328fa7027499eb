"""manage.py as an operator types it, against one database."""

import os
import subprocess
import sys

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
