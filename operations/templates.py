"""`manage.py templates list|preview`: what is stored, and what it becomes with data."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from config.settings import Settings
from db import default_templates, templates
from mail.errors import RenderError
from mail.job import Job
from mail.message import Address, Message
from operations import screen
from operations.store import open_database
from render.renderer import Renderer


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("templates", help="list the stored templates, or preview one").add_subparsers(required=True)
    listing = group.add_parser("list", help="every stored template")
    listing.set_defaults(run=show_list)
    preview = group.add_parser("preview", help="render one with sample data, or with data of your own")
    preview.add_argument("name")
    preview.add_argument("--data", help="a JSON object, or @FILE with one; default: the sample data of a default template")
    preview.add_argument("--part", choices=("text", "html", "subject"), default="text")
    preview.set_defaults(run=show_preview)


def show_list(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "templates")
    rows = [
        (t.name, t.type, "yes" if t.is_active else "NO", t.version[:16], ", ".join(t.variables))
        for t in database.run(templates.all_of_them)
    ]
    print(
        screen.table(("name", "type", "active", "changed", "needs"), rows)
        if rows
        else "no template is stored; `supervisor.py --seed` stores 15"
    )
    return 0


def show_preview(settings: Settings, arguments: argparse.Namespace) -> int:
    database = open_database(settings, "templates")
    template = database.run(lambda cursor: templates.find(cursor, [arguments.name])).get(arguments.name)
    samples = {known.name: data for known, data in default_templates.load()}
    try:
        data = _data(arguments.data) if arguments.data else samples.get(arguments.name, {})
        message = _render(arguments.name, template, data)
    except (RenderError, ValueError) as error:
        print(f"{arguments.name}: {error.error if isinstance(error, RenderError) else error}", file=sys.stderr)
        return 1
    print({"text": message.text, "html": message.html, "subject": message.subject}[arguments.part])
    return 0


def _data(text: str) -> dict[str, Any]:
    data = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    if not isinstance(data, dict):
        raise ValueError('--data: give a JSON object such as {"name": "Ada"}')
    return data


def _render(name: str, template: Any, data: dict[str, Any]) -> Message:
    job = Job(0, "preview", "email", name, (Address("ada@example.com", "Ada Lovelace"),), b"", data=data)
    return Renderer().render(job, template, "preview", Address("sender@example.com"))
