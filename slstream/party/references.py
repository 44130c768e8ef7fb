"""``module:Class`` in a topology file: the user's own code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from slstream.errors import ModelError


def load_reference(reference: str, root: Path, where: str) -> object:
    """Import what a reference names.

    The folder is put first on ``sys.path`` and stays there, as the code may import more when it
    runs.

    Args:
        reference: ``module:Class``; the module may have dots.
        root: the folder of the user's modules.
        where: place in the topology, for messages.

    Raises:
        ModelError: the module is not found, fails when imported, has no such name, or was imported
            from another folder before.
    """
    module_name, _, name = reference.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
    local = root.joinpath(*module_name.split(".")).with_suffix(".py")
    loaded = getattr(sys.modules.get(module_name), "__file__", None)
    if loaded is not None and local.exists() and Path(loaded).resolve() != local.resolve():
        raise ModelError(
            f"{where}: {reference}: a module {module_name} was imported from {loaded} already, so "
            f"{local} cannot be; rename one of them"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{where}: cannot import {module_name} of {reference}: {type(error).__name__}: {error} "
            f"(looked in {root} and the Python path)"
        ) from error
    found: object = getattr(module, name, None)
    if found is None:
        raise ModelError(f"{where}: {module.__file__} has no {name!r}, which {reference} names")
    return found
