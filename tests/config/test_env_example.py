"""The documents that follow from the declarations are those in the project."""

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from config.env_example import env_example, settings_page
from config.settings import all_settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_file_is_the_one_that_the_declarations_make() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(all_settings()), "run python -m config.env_example"


def test_the_manual_page_is_the_one_that_the_declarations_make() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(all_settings()), "run python -m config.env_example"


def test_every_setting_has_one_line_in_the_example_and_one_row_in_the_manual() -> None:
    example, page = env_example(all_settings()), settings_page(all_settings())
    for setting in all_settings():
        assert example.count(f"\n#{setting.name}=") == 1
        assert page.count(f"| `{setting.name}` |") == 1


def test_the_example_with_every_line_in_force_loads_and_means_the_defaults(tmp_path: Path) -> None:
    text = "\n".join(line[1:] if line.startswith("#") and line[1:2].isupper() else line for line in env_example(all_settings()).split("\n"))
    assert len(dotenv_values(stream=StringIO(text))) == len(all_settings())
    (tmp_path / ".env").write_text(text)
    assert repr(load_settings({}, tmp_path / ".env")) == repr(load_settings({}, None))
