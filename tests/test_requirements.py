"""Requirements are pinned, explained where they are the product's, and made usable by the Makefile."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PINNED = re.compile(r"^[a-z0-9-]+(\[[a-z]+\])?==[0-9][0-9a-z.]*( ;|  |$)")


def read_requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def test_every_requirement_is_pinned() -> None:
    names = ("requirements.txt", "requirements-dev.txt", "requirements-clients.txt")
    for line in [line for name in names for line in read_requirements(name)]:
        assert PINNED.match(line), line


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-clients.txt"])
def test_every_requirement_of_the_product_and_every_client_says_why(name: str) -> None:
    for line in read_requirements(name):
        assert "  # " in line, line


def test_boto3_goes_with_the_products_botocore() -> None:
    pins = dict(
        line.split()[0].split("==") for name in ("requirements.txt", "requirements-clients.txt") for line in read_requirements(name)
    )
    assert pins["boto3"] == pins["botocore"]


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines()} == set(phony[1].split())


def test_make_says_which_python_it_needs() -> None:
    command = ["make", "--no-print-directory", "-B", "VENV=/no/such/folder", "PYTHON=/no/such/python", "test"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "Python 3.11 to 3.14" in ended.stderr
