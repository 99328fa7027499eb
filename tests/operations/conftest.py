"""An operator's console, and a world to look at, in a database of their own."""

import pytest

from tests.operations.console import Console


@pytest.fixture
def console(database, tmp_path):
    return Console(database, tmp_path)


@pytest.fixture
def world(fresh_world):
    return fresh_world
