"""A YAML file as plain values, with the place in which each of them was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from slstream.errors import TopologyError

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the root of a document to a value."""

_MAX_DEPTH = 16
_MAX_VALUES = 100_000
"""More are refused: a few lines of YAML aliases can stand for billions of values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a document."""

    path: KeyPath
    text: str
    """What was expected, what was found, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A mapping read from a file or given by a caller."""

    value: dict[str, object]
    source: str
    """File name as the user gave it, for messages."""
    places: Mapping[KeyPath, str]
    """Where each key was written: ``FILE:LINE`` or the ``--set`` that gave it."""

    def where(self, path: KeyPath) -> str:
        """``FILE:LINE: key.path``; a value that is absent is placed at the mapping around it."""
        dotted = ".".join(str(part) for part in path)
        for end in range(len(path), -1, -1):
            if place := self.places.get(path[:end]):
                break
        else:
            place = self.source
        return f"{place}: {dotted}" if dotted else place

    def error(self, problems: list[Problem]) -> TopologyError:
        """One error that lists every problem, one to a line."""
        return TopologyError("\n".join(f"{self.where(p.path)}: {p.text}" for p in problems))


def read_document(path: Path) -> Document:
    """Read a topology file.

    Args:
        path: a YAML 1.2 file in UTF-8.

    Returns:
        Plain dicts, lists and scalars, and the line of every key.

    Raises:
        TopologyError: no such file, not UTF-8, not YAML, a key written twice, a YAML tag, or
            not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TopologyError(f"{path}: cannot read the topology file: {reason}") from error
    try:
        root = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise TopologyError(_syntax(path, error)) from error
    except (ValueError, LookupError) as error:  # Of a scalar that looks like a date or number.
        raise TopologyError(f"{path}: not valid YAML: a value cannot be read: {error}") from error
    except RecursionError as error:
        raise TopologyError(f"{path}: nested more than {_MAX_DEPTH} levels deep") from error
    if not isinstance(root, CommentedMap):
        raise TopologyError(
            f"{path}: expected a mapping with the keys federation, parties, fuse, loss, ...; "
            f"found {type(root).__name__ if root is not None else 'an empty file'}"
        )
    places: dict[KeyPath, str] = {(): f"{path}:1"}
    value = _plain(root, (), places, path)
    if not isinstance(value, dict):
        raise TopologyError(f"{path}: expected a mapping")
    return Document(value=value, source=str(path), places=places)


def _syntax(path: Path, error: YAMLError) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{path}:{error.problem_mark.line + 1}: not valid YAML: {error.problem}"
    return f"{path}: not valid YAML: {error}"


def parse_value(text: str) -> object:
    """The value of ``--set key=value``, read as YAML.

    Raises:
        ValueError: not YAML, or it has tags or deep nesting.
    """
    try:
        return _plain(YAML(typ="rt").load(text), (), {}, Path("value"))
    except (YAMLError, TopologyError, RecursionError, ValueError, LookupError) as error:
        raise ValueError(f"not valid YAML: {text!r}") from error


def _plain(node: object, path: KeyPath, places: dict[KeyPath, str], source: Path) -> object:
    """Strip ruamel's types, recording the line of each key on the way."""
    where = f"{places.get(path, source)}: {'.'.join(map(str, path)) or 'top level'}"
    if len(path) > _MAX_DEPTH:
        raise TopologyError(f"{where}: nested more than {_MAX_DEPTH} levels deep")
    if len(places) > _MAX_VALUES:
        raise TopologyError(f"{where}: the file holds more than {_MAX_VALUES} values")
    if isinstance(node, CommentedMap):
        result: dict[str, object] = {}
        for key, child in node.items():
            if not isinstance(key, str):
                raise TopologyError(f"{where}: expected text as a key, found {key!r}; quote it")
            # Keys that a merge (<<) brought in have no line of their own: that of the mapping.
            known = key in (node.lc.data or {})
            line = node.lc.key(key)[0] if known else node.lc.line
            places[*path, key] = f"{source}:{line + 1}"
            result[key] = _plain(child, (*path, key), places, source)
        return result
    if isinstance(node, CommentedSeq):
        items: list[object] = []
        for index, child in enumerate(node):
            places[*path, index] = f"{source}:{node.lc.item(index)[0] + 1}"
            items.append(_plain(child, (*path, index), places, source))
        return items
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, ScalarBoolean):  # an anchored true or false; a subclass of int
        return bool(node)
    if isinstance(node, str) and not _is_text(node):
        raise TopologyError(f"{where}: expected text, found a half of a surrogate pair in {node!r}")
    for kind in (int, float, str):  # ruamel's own subclasses of these, which remember the layout
        if isinstance(node, kind):
            return kind(node)
    raise TopologyError(
        f"{where}: expected text, a number, true, false, a list or a mapping; found "
        f"{type(node).__name__}; write it in quotes and without a tag"
    )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
