"""The mutations of the adapters still find their places, and no adapter among them gets off lightly."""

import pytest

from sandbox.children import PROJECT
from tests.esp.adapter_mutations import MUTATIONS


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_patch_fits_exactly_once(name: str) -> None:
    patch, test = MUTATIONS[name]
    assert (PROJECT / patch.file).read_text().count(patch.before) == 1, patch
    assert (PROJECT / test).is_file()


def test_every_adapter_loses_a_status_a_result_and_a_limit() -> None:
    kinds: dict[str, set[str]] = {}
    for name in MUTATIONS:
        adapter, _, rest = name.partition(", ")
        kinds.setdefault(adapter, set()).add(rest.partition(":")[0])
    kinds.pop("all")
    assert len(kinds) == 6
    assert all({"a status", "a result", "a limit"} <= found for found in kinds.values())
