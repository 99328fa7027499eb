"""The mutations still find their places: a patch that no longer fits would prove nothing."""

import pytest

from sandbox.children import PROJECT
from tests.chaos.mutations import AIMED, MUTATIONS, patches_of


@pytest.mark.parametrize("name", [*MUTATIONS, *AIMED])
def test_every_patch_fits_exactly_once(name: str) -> None:
    for patch in patches_of(name):
        assert (PROJECT / patch.file).read_text().count(patch.before) == 1, patch
