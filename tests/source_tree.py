"""The project's own Python sources, parsed; for tests that check rules of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "slstream"

_NOT_OURS = {"build", "runs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that does not hold, and where."""

    path: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every Python file of the project: path from the root, syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if parts[0] in _NOT_OURS or any(part.startswith(".") for part in parts):
            continue
        yield "/".join(parts), ast.parse(path.read_text(), filename=str(path))


def package_sources() -> Iterator[tuple[str, ast.Module]]:
    """Those of the package alone."""
    return ((path, tree) for path, tree in sources() if path.startswith("slstream/"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import, also inside functions: line, and the dotted name it binds or reads from.

    ``from a.b import c`` gives ``a.b.c``, since ``c`` may be a module; a relative import keeps its
    leading dots.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
