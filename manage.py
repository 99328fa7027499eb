#!/usr/bin/env python3
"""The operator's commands. Each group is a file of operations/; `manage.py GROUP --help` tells the rest."""

import argparse
import os
import sys
from pathlib import Path

from config.settings import load_settings
from mail.errors import BadSettings, StoreUnavailable
from operations import cancel, check, dlq, explain, forget, lanes, migrate, providers, suppress, templates, uncertain

GROUPS = (check, migrate, providers, templates, explain, dlq, uncertain, cancel, lanes, suppress, forget)
EXIT_NO_STORE, EXIT_BAD_SETTINGS = 3, 4


def parser() -> argparse.ArgumentParser:
    """All commands; settings come from where it finds them, as for supervisor.py."""
    made = argparse.ArgumentParser(
        prog="manage.py", description=__doc__, epilog="Settings come from the environment, then from the file that --env-file names."
    )
    made.add_argument("--env-file", type=Path, default=Path(".env"), metavar="FILE", help="more settings, NAME=value lines (default: .env)")
    commands = made.add_subparsers(required=True, metavar="GROUP")
    for group in GROUPS:
        group.add_to(commands)
    return made


def main() -> int:
    arguments = parser().parse_args()
    try:
        settings = load_settings(os.environ, arguments.env_file)
        code: int = arguments.run(settings, arguments)
        return code
    except BadSettings as error:
        for problem in error.problems:
            print(f"{problem.name}: {problem.fix}", file=sys.stderr)
        return EXIT_BAD_SETTINGS
    except StoreUnavailable as error:
        print(f"{error}; check the DB_ settings and that the server runs", file=sys.stderr)
        return EXIT_NO_STORE
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
