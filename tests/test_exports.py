from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import slstream

PUBLIC = ["Progress", "Scaling", "SlstreamError", "Summary", "Topology", "run"]
"""What compatibility promises cover; a change here is a change of the interface."""


def test_all_is_exact() -> None:
    assert slstream.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_can_be_had(name: str) -> None:
    value = getattr(slstream, name)
    assert not isinstance(value, ModuleType)
    assert value.__doc__
    assert value.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'slstream' has no attribute 'Topologie'"):
        slstream.Topologie  # noqa: B018


def test_no_module_takes_a_public_name() -> None:
    """Importing a module sets it on its package, which would hide the name that is meant."""
    modules = {module.name for module in pkgutil.iter_modules(slstream.__path__)}
    assert not modules & set(PUBLIC)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = """
import sys
import slstream
print([name for name in ("torch", "numba", "polars", "sklearn", "pydantic", "numpy", "asyncio")
       if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_module_can_be_imported_and_says_what_it_is() -> None:
    for module in pkgutil.walk_packages(slstream.__path__, "slstream."):
        if module.name != "slstream.__main__":
            assert importlib.import_module(module.name).__doc__, f"{module.name} has no docstring"
