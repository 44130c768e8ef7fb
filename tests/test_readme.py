from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from slstream.cli.program import program
from tests.source_tree import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def test_every_command_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [path for path, _ in commands(program(), "slstream") if path not in text]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_documents_exist(document: str) -> None:
    known = dict(commands(program(), "slstream"))
    groups = {path.rsplit(" ", 1)[0] for path in known}
    text = (ROOT / document).read_text()
    used = re.findall(r"^\$? ?(?:\.venv/bin/)?(slstream .*)$|`(slstream [^`]+)`", text, re.M)
    for line in (fenced or inline for fenced, inline in used):
        path = max(
            (each for each in known if f"{line} ".startswith(f"{each} ")), key=len, default=""
        )
        if not path and (line in groups or line.split()[1].startswith("-")):
            continue
        assert path, f"{document}: no such command: {line}"
        options = {o for p in known[path].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        unknown = set(re.findall(r"(?<!\S)--[a-z-]+", line)) - options
        assert not unknown, f"{document}: {line}: {path} has no {unknown}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / document).read_text())
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
