"""The fakes, served to client libraries that know only the real ESPs."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import refuse
from tests.sandbox.clients.place import Place
from tests.sandbox.fakes.serving import serving_from_a_thread

OPTIONS = {
    "postmark": {"bad_recipients": ["bad@x.test"], "inactive": ["gone@x.test"], "sender_domains": ["brand.test", "example.com"]},
    "sendgrid": {"bad_recipients": ["bad@x.test"], "sender_domains": ["brand.test"], "key": "SG.right"},
    "ses": {"bad_recipients": ["bad@x.test"], "sender_domains": ["brand.test"], "key": "AKIARIGHT:secret"},
    "smtp": {"bad_recipients": ["bad@x.test"], "key": "user:right"},
    "socketlabs": {"bad_recipients": ["bad@x.test"], "sender_domains": ["brand.test"], "key": "x" * 20 + "." + "y" * 40},
    "sparkpost": {"bad_recipients": ["bad@x.test"], "inactive": ["gone@x.test"], "sender_domains": ["brand.test"], "key": "right"},
}


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Any:
    """The library that a module names as LIBRARY; it comes from requirements-clients.txt."""
    try:
        return importlib.import_module(request.module.LIBRARY)
    except ModuleNotFoundError as error:
        refuse(f"{error.name} is not installed (requirements-clients.txt)")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The fakes' addresses, ledgers and inbox."""
    with serving_from_a_thread(tmp_path, OPTIONS) as urls:
        yield Place(urls, tmp_path)
