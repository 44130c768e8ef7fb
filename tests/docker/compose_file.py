"""The container files, parsed; no engine is needed for that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from tests.source_tree import ROOT

__all__ = [
    "FOLDER",
    "Mount",
    "Service",
    "dockerfile",
    "last_stage",
    "properties",
    "services",
    "top_level",
    "words_of",
]

FOLDER = ROOT / "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of a service's volumes."""

    source: str
    """A volume's name, or a path relative to the file when it begins with a dot."""
    target: str
    is_read_only: bool

    @property
    def is_volume(self) -> bool:
        """Not a file of this repository."""
        return not self.source.startswith((".", "/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service; its settings with all that is merged into them."""

    name: str
    settings: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it runs this project's image."""
        return "build" in self.settings

    @property
    def is_party(self) -> bool:
        """Whether it is one of the federation's."""
        return self.is_ours and self.settings.get("command", [""])[0] == "party"

    @property
    def mounts(self) -> list[Mount]:
        """In order."""
        found = []
        for line in self.settings["volumes"]:
            source, target, *options = line.split(":")
            found.append(Mount(source=source, target=target, is_read_only=options == ["ro"]))
        return found

    def mounted(self, target: str) -> Mount:
        """What is mounted there."""
        (found,) = (mount for mount in self.mounts if mount.target == target)
        return found


def top_level() -> dict[str, Any]:
    """All of compose.yaml."""
    parsed: dict[str, Any] = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text())
    return parsed


def services() -> dict[str, Service]:
    """Those of compose.yaml, by name."""
    return {
        name: Service(name=name, settings=settings)
        for name, settings in top_level()["services"].items()
    }


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions: name and the rest, without comments and line breaks."""
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            found.append((name, re.sub(r"\s+", " ", rest.strip())))
    return found


def last_stage() -> dict[str, str]:
    """Instructions of what is shipped that stand there once."""
    found: dict[str, str] = {}
    for name, rest in dockerfile():
        if name == "FROM":
            found = {}
        found[name] = rest
    return found


def words_of(rest: str) -> list[str]:
    """An instruction's command, which must be in the form without a shell."""
    words = json.loads(rest)
    if not isinstance(words, list):
        raise TypeError(f"expected a list, found {rest}")
    return words


def properties(text: str) -> dict[str, str]:
    """Of a Java properties file."""
    return dict(_lines(text))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value
