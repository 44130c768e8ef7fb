"""``--set key.path=value``: change a document before it is checked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

from slstream.errors import TopologyError
from slstream.topology.document import Document, KeyPath, parse_value
from slstream.topology.nearest import hint
from slstream.topology.validation import known_keys


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """A copy of ``document`` with each ``key.path=value`` written into it, in order.

    The value is read as YAML, so ``training.epochs=3`` is a number and
    ``parties.bob.data.features=["a*"]`` a list. Sections that the file left out are added; parties
    are not.

    Raises:
        TopologyError: no ``=``, not YAML, an unknown key or party (with the nearest known), or a
            path into a value that is not a mapping.
    """
    value, places = copy.deepcopy(document.value), dict(document.places)
    for override in overrides:
        key, equals, text = override.partition("=")
        path = tuple(key.strip().split("."))
        place = f"--set {override}"
        if not equals or not all(path):
            raise TopologyError(f"{place}: expected key.path=value, for instance training.epochs=3")
        try:
            new = parse_value(text)
        except ValueError as error:
            raise TopologyError(f"{place}: {error}") from error
        _set(value, path, new, place)
        # What the file said below this key is gone, and so are its lines.
        places = {p: at for p, at in places.items() if p[: len(path)] != path}
        places[path] = place
    return Document(value=value, source=document.source, places=places)


def _set(root: dict[str, object], path: tuple[str, ...], new: object, place: str) -> None:
    mapping = root
    for depth, key in enumerate(path):
        here = ".".join(path[: depth + 1])
        if key not in mapping:
            _check_known(path[:depth], key, mapping, f"{place}: {here}")
        if depth == len(path) - 1:
            mapping[key] = new
            return
        if mapping.get(key) is None:
            mapping[key] = {}
        if not isinstance(mapping[key], dict):
            raise TopologyError(f"{place}: {here} is not a mapping; set {here} as a whole")
        mapping = cast("dict[str, object]", mapping[key])


def _check_known(path: KeyPath, key: str, mapping: dict[str, object], where: str) -> None:
    if path == ("parties",):
        raise TopologyError(f"{where}: unknown party{hint(key, mapping)}")
    known = known_keys(path)
    if known and key not in known:
        raise TopologyError(f"{where}: unknown key{hint(key, known)}")
