"""The fake ESPs: one file each, found by name. A file of this folder is a fake when it defines a class called `Fake`.

Fakes know the real wire formats from their documentation only. They must never import anything of the adapters in `esp/`:
an adapter's misunderstanding would confirm itself.
"""

import importlib
import pkgutil

from sandbox.fakes.contract import FakeEsp


def names() -> list[str]:
    """The ESPs that can be faked, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if _is_fake(module.name))


def load(name: str) -> FakeEsp:
    """A fresh fake of this ESP; raises LookupError where there is none."""
    if name not in names():
        raise LookupError(f"no fake of {name!r}; there are {', '.join(names())}")
    fake: FakeEsp = importlib.import_module(f"{__name__}.{name}").Fake()
    return fake


def _is_fake(name: str) -> bool:
    module = importlib.import_module(f"{__name__}.{name}")
    # defined there, not only imported for its type
    return getattr(getattr(module, "Fake", None), "__module__", "") == module.__name__
