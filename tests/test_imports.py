"""Imports go down only, and what is pure stays pure."""

from __future__ import annotations

import ast

import pytest

from tests.source_tree import PACKAGE, Finding, imports, package_sources

BOTTOM = frozenset({"errors", "seeds"})
BELOW_PROTOCOL = BOTTOM | {"topology", "codecs", "schemas", "frames"}
BELOW_PARTY = BELOW_PROTOCOL | {"protocol", "transport", "adaptive"}
BELOW_TOP = BELOW_PARTY | {"party"}

MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "seeds": frozenset(),
    "topology": BOTTOM,
    "codecs": BOTTOM,
    "schemas": BOTTOM | {"codecs"},
    "adaptive": BOTTOM | {"codecs"},
    "frames": BOTTOM | {"schemas"},
    "transport": frozenset({"errors"}),  # bytes only: it knows nothing of what they mean
    "protocol": BELOW_PROTOCOL,
    "provisioning": BOTTOM | {"topology", "frames", "transport"},  # of frames: names of topics
    "party": BELOW_PARTY,
    "supervisor": BELOW_TOP,
    "archive": BELOW_TOP,
    "audit": BELOW_TOP | {"archive"},
    "soak": BELOW_TOP | {"supervisor"},
    "testing": BELOW_TOP | {"supervisor"},
    "bench": BELOW_TOP | {"supervisor", "testing", "soak"},
    "cli": BELOW_TOP | {"supervisor", "archive", "audit", "soak", "bench", "provisioning"},
    "__init__": BELOW_TOP | {"supervisor"},
    "__main__": frozenset({"cli"}),
}
"""Which part of the package may import which other; every part is listed."""

PURE = frozenset({"errors", "seeds", "codecs", "schemas", "frames", "protocol"})
"""No I/O, no clock, no global randomness: the same input gives the same output, for ever."""

IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "concurrent",
        "datetime",
        "logging",
        "multiprocessing",
        "os",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uuid",
    }
)


def part_of(path: str) -> str:
    """``slstream/frames/header.py`` -> ``frames``; ``slstream/errors.py`` -> ``errors``."""
    return path.split("/")[1].removesuffix(".py")


def layer_findings(path: str, tree: ast.Module) -> list[Finding]:
    part = part_of(path)
    found = []
    for line, name in imports(tree):
        if name.startswith("."):
            found.append(Finding(path=path, line=line, rule=f"relative import of {name}"))
            continue
        first, _, rest = name.partition(".")
        if first != "slstream":
            continue
        target = rest.partition(".")[0] or "__init__"
        if target not in MAY_IMPORT:  # a name of the package itself: from slstream import Topology
            target = "__init__"
        if target != part and target not in MAY_IMPORT.get(part, frozenset()):
            found.append(Finding(path=path, line=line, rule=f"{part} may not import {name}"))
    return found


def purity_findings(path: str, tree: ast.Module) -> list[Finding]:
    part = part_of(path)
    return [
        Finding(path=path, line=line, rule=f"{part} is pure and may not import {name}")
        for line, name in imports(tree)
        if part in PURE and name.partition(".")[0] in IMPURE_MODULES
    ]


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert parts <= set(MAY_IMPORT), "give the new part a row in MAY_IMPORT"


def test_table_has_no_cycle() -> None:
    left = dict(MAY_IMPORT)
    while left:
        bottom = [part for part, below in left.items() if not below & set(left)]
        assert bottom, f"a cycle among {sorted(left)}"
        for part in bottom:
            del left[part]


def test_imports_go_down_only() -> None:
    found = [each for path, tree in package_sources() for each in layer_findings(path, tree)]
    assert not found, "\n".join(map(str, found))


def test_pure_parts_import_no_clock_thread_or_io() -> None:
    found = [each for path, tree in package_sources() for each in purity_findings(path, tree)]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("slstream/codecs/x.py", "from slstream.frames.header import Header"),
        ("slstream/codecs/x.py", "from slstream import frames"),
        ("slstream/transport/x.py", "import slstream.frames"),
        ("slstream/transport/x.py", "def f():\n    from slstream.codecs import registry"),
        ("slstream/frames/x.py", "if TYPE_CHECKING:\n    import slstream.codecs.contract as c"),
        ("slstream/party/x.py", "from slstream.cli import main"),
        ("slstream/party/x.py", "from slstream import Topology"),
        ("slstream/protocol/x.py", "import slstream"),
        ("slstream/errors.py", "from . import seeds"),
    ],
)
def test_catches_an_import_that_goes_up(path: str, code: str) -> None:
    assert len(layer_findings(path, ast.parse(code))) == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("slstream/party/x.py", "from slstream.party.summary import Summary"),
        ("slstream/cli/x.py", "from slstream.supervisor import run"),
        ("slstream/protocol/x.py", "from slstream.frames import Frame"),
        ("slstream/frames/x.py", "import struct"),
    ],
)
def test_allows_an_import_that_goes_down(path: str, code: str) -> None:
    assert not layer_findings(path, ast.parse(code))


@pytest.mark.parametrize("code", ["import time", "from os import path", "import asyncio.queues"])
def test_catches_an_impure_import(code: str) -> None:
    assert len(purity_findings("slstream/codecs/x.py", ast.parse(code))) == 1
    assert not purity_findings("slstream/party/x.py", ast.parse(code))
