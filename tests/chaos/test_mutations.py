"""The mutations still find their places: a patch that no longer fits would prove nothing."""

import pytest

from sandbox.children import PROJECT
from tests.chaos.mutations import MUTATIONS


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_patch_fits_exactly_once(name: str) -> None:
    for patch in MUTATIONS[name]:
        assert (PROJECT / patch.file).read_text().count(patch.before) == 1, patch
