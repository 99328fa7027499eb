"""`manage.py migrate`: make or complete the tables, the coming days' partitions and the dead-letter topic. Safe to run again."""

import argparse

from config.settings import Settings
from db import migrate
from operations import kafka_topics
from operations.store import open_database


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("migrate", help="make or complete the tables, partitions and the dead-letter topic")
    command.add_argument("--no-topics", action="store_true", help="leave Kafka alone")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "migrate")
    names = migrate.migrate(database)
    database.close()
    print("\n".join(f"applied {name}" for name in names) or "the tables are complete")
    if arguments.no_topics:
        return 0
    problem = kafka_topics.ensure_dead_letter_topic(settings)
    print(problem or f"topic {settings.email_dead_letter_queue} is there, with room for every dead letter")
    return 1 if problem else 0
