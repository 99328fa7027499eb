"""The two documents that follow from the declarations: .env.example and docs/settings.md.

`python -m config.env_example` writes both; a test compares the files with what is made here, so that neither grows old.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from config.setting import Setting
from config.settings import all_settings

_ENV_HEAD = """\
# Copy this file to .env and set what differs; the environment wins over .env. Made by `python -m config.env_example`.
# Any KAFKA_CLIENT_* is passed to librdkafka (KAFKA_CLIENT_SECURITY_PROTOCOL=SASL_SSL is security.protocol).
"""
_PAGE_HEAD = """\
# Settings

Read from the environment and, behind it, from a file `.env`; all of them are checked at once when a process starts, and every
problem is told together (exit code 4). `kill -HUP` to the supervisor reads them again. An empty value counts as unset.
Made by `python -m config.env_example` from the declarations in `config/`.

Beside these, every `KAFKA_CLIENT_*` is passed to librdkafka with underscores as dots: `KAFKA_CLIENT_SECURITY_PROTOCOL` is
`security.protocol`.
"""


def env_example(settings: Iterable[Setting]) -> str:
    """The text of .env.example: each setting with its sentence, commented out at its default."""
    parts = [_ENV_HEAD]
    for section, members in groupby(settings, key=lambda setting: setting.section):
        parts.append(f"\n# --- {section} ---\n")
        parts += map(_env_entry, members)
    return "\n".join(parts)


def settings_page(settings: Iterable[Setting]) -> str:
    """The text of docs/settings.md: one table a section."""
    parts = [_PAGE_HEAD]
    for section, members in groupby(settings, key=lambda setting: setting.section):
        rows = "\n".join(map(_page_row, members))
        parts.append(f"## {section}\n\n| setting | default | must be | what it does | also read as |\n|---|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def write_documents(root: Path) -> Iterator[Path]:
    """Write both below the project's root; yields what was written."""
    settings = all_settings()
    for name, text in ((".env.example", env_example(settings)), ("docs/settings.md", settings_page(settings))):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        yield path


def _env_entry(setting: Setting) -> str:
    is_literal = not setting.default_text
    default = "" if is_literal else f" Default: {setting.default_text}."
    return f"# {setting.about}{default}\n#{setting.name}={setting.shown_default if is_literal else ''}\n"


def _page_row(setting: Setting) -> str:
    default = setting.shown_default
    shown = default if setting.default_text else f"`{default}`" if default else "–"
    others = [*setting.aliases, *([setting.url] if setting.url else [])]
    must_be = setting.kind.about if setting.unit in setting.kind.about else f"{setting.kind.about} ({setting.unit})"
    cells = (f"`{setting.name}`", shown, must_be, setting.about, ", ".join(f"`{name}`" for name in others))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    list(write_documents(Path(__file__).resolve().parent.parent))
