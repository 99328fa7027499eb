"""An operator's console at a database of its own."""

import pytest

from tests.operations.console import Console


@pytest.fixture
def console(database, tmp_path):
    return Console(database, tmp_path)
