"""The documents tell the truth: the tutorial runs, and all that they name exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from slstream.cli.program import program
from slstream.codecs import defaults
from slstream.codecs.registry import built_in_ids, codec_class
from slstream.frames.link import MAX_FRAME_BYTES
from slstream.party.alignment import DIGEST_BYTES
from slstream.party.codec_choice import check_codecs
from slstream.topology import Topology, json_schema
from tests.source_tree import PACKAGE, ROOT

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

_MARKER = re.compile(r"(files of|run in terminal|file|run|output) ?(.*)")


def text_of(document: str) -> str:
    return (ROOT / document).read_text()


def section(title: str) -> str:
    """The text of a section of the README."""
    _, _, rest = text_of("README.md").partition(f"\n## {title}\n")
    assert rest, f"README.md has no section {title!r}"
    return rest.partition("\n## ")[0]


# The tutorial -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A fenced block, and what the comment in front of it says to do with it."""

    action: str
    name: str
    body: str


def tutorial() -> list[Step]:
    text = text_of("README.md")
    marked = re.findall(r"^<!-- tutorial: (.+?) -->\n```\w+\n(.*?)^```$", text, re.M | re.S)
    assert len(marked) == text.count("<!-- tutorial:"), "a marker without a block behind it"
    steps = []
    for marker, body in marked:
        match = _MARKER.fullmatch(marker)
        assert match, f"unknown marker: {marker}"
        steps.append(Step(action=match[1], name=match[2], body=body))
    return steps


@dataclass(slots=True, kw_only=True)
class Reader:
    """Does what the tutorial says, in an empty folder."""

    folder: Path
    said: str = ""
    """What the commands of the last step printed."""
    terminals: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, step: Step) -> None:
        if step.action != "run in terminal":
            self.close_terminals()
        match step.action:
            case "file":
                (self.folder / step.name).write_text(step.body)
            case "run" | "run in terminal":
                self.terminals.append(self.start(step.body))
            case "output":
                self.compare(step.body)
            case _:
                self.look_for(step)

    def start(self, script: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(
            ["bash", "-euc", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PATH": path},
        )

    def close_terminals(self) -> None:
        """Wait for the commands that run."""
        if self.terminals:
            self.said = ""
        for terminal in self.terminals:
            out, err = terminal.communicate()
            assert terminal.returncode == 0, err
            self.said += out
        self.terminals.clear()

    def compare(self, shown: str) -> None:
        """Every line that is shown was printed; ``...`` stands for anything."""
        printed = [" ".join(line.split()) for line in self.said.splitlines()]
        for line in shown.splitlines():
            pattern = " ".join(line.split()).replace("[", "[[]").replace("...", "*")
            assert any(fnmatchcase(each, pattern) for each in printed), f"{line}\n---\n{self.said}"

    def look_for(self, step: Step) -> None:
        """The files that are listed are exactly those that are there."""
        root = self.folder / step.name
        listed = {line.split()[0] for line in step.body.splitlines()}
        assert all((root / name).exists() for name in listed), listed
        found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        folders = tuple(name for name in listed if name.endswith("/"))
        assert not {name for name in found - listed if not name.startswith(folders)}


@pytest.mark.timeout(300)  # starts a dozen processes that import torch, on machines that are busy
def test_the_tutorial_runs(tmp_path: Path) -> None:
    reader = Reader(folder=tmp_path)
    try:
        for step in tutorial():
            reader.follow(step)
        reader.close_terminals()
    finally:
        for terminal in reader.terminals:
            terminal.kill()
    first, by_hand = tmp_path / "runs/first", tmp_path / "runs/by-hand"
    for party in ("bank", "shop"):
        weights = f"{party}/model.safetensors"
        assert (first / weights).read_bytes() == (by_hand / weights).read_bytes()


# Commands ---------------------------------------------------------------------------------------


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def check_line(line: str, known: Mapping[str, click.Command]) -> None:
    groups = {path.rsplit(" ", 1)[0] for path in known}
    path = max((each for each in known if f"{line} ".startswith(f"{each} ")), key=len, default="")
    if not path and (line in groups or line.split()[1].startswith("-")):
        return
    assert path, f"no such command: {line}"
    options = {o for p in known[path].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    unknown = set(re.findall(r"(?<!\S)--[a-z-]+", line)) - options
    assert not unknown, f"{line}: {path} has no {unknown}"


def test_every_command_is_named_in_the_readme() -> None:
    text = section("Command line")
    missing = [path for path, _ in commands(program(), "slstream") if f"`{path}" not in text]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_documents_exist(document: str) -> None:
    known = dict(commands(program(), "slstream"))
    used = re.findall(
        r"^\$? ?(?:\.venv/bin/)?(slstream .*)$|`(slstream [^`]+)`", text_of(document), re.M
    )
    for fenced, inline in used:
        check_line(fenced or inline, known)


@pytest.mark.parametrize("line", ["slstream rum F", "slstream run F --no-such", "slstream bench x"])
def test_a_line_that_is_wrong_is_found(line: str) -> None:
    with pytest.raises(AssertionError, match=r"no such command|has no"):
        check_line(line, dict(commands(program(), "slstream")))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_in_documents_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))
    used = set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(document), re.M))
    assert used <= targets


# Files and modules ------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = text_of(document)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (ROOT / link).exists()]
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert not set(re.findall(r"\]\(#([^)]+)\)", text)) - anchors


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_and_folders_in_documents_exist(document: str) -> None:
    # Names in capitals stand for others; segments/ and wake/ are in the folder of a log.
    names = set(re.findall(r"`([a-z_0-9./-]+(?:\.py|/))`", text_of(document)))
    places = [ROOT, PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    missing = {name for name in names if not any((place / name).exists() for place in places)}
    assert not missing - {"segments/", "wake/"}


def test_the_map_has_every_part_of_the_package() -> None:
    text = text_of("ARCHITECTURE.md")
    parts = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert not {part for part in parts if f"`slstream/{part}/`" not in text}


def test_the_map_has_every_module_of_a_party() -> None:
    modules = {path.name for path in (PACKAGE / "party").glob("*.py")} - {"__init__.py"}
    assert not {name for name in modules if f"`{name}`" not in text_of("ARCHITECTURE.md")}


def test_every_dependency_has_its_reason() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    text = text_of("ARCHITECTURE.md").partition("\n## Dependencies\n")[2].partition("\n## ")[0]
    table, development = text.split("For development:")
    names = [re.split(r"[<>=]", line)[0] for line in project["dependencies"]]
    assert re.findall(r"^\| ([a-z][\w.-]+) \|", table, re.M) == ["package", *names]
    for line in project["optional-dependencies"]["dev"]:
        assert re.split(r"[<>=]", line)[0] in development


# Codecs and topology files ----------------------------------------------------------------------


def test_every_codec_is_in_the_table_with_its_parameters() -> None:
    rows = [line for line in section("Which codec for what").splitlines() if line.startswith("|")]
    for name in built_in_ids():
        (row,) = (row for row in rows if f"`{name}`" in row.split("|")[1])
        for parameter in codec_class(name)().config().keys() - {"id"}:
            assert f"`{parameter}`" in row


@pytest.mark.parametrize("direction", ["forward", "backward", "evaluation"])
def test_the_default_chains_are_those_of_the_code(direction: str) -> None:
    row = re.search(rf"^\| `{direction}` \| `(.*)` \|$", section("Which codec for what"), re.M)
    assert row
    expected = getattr(defaults.DEFAULTS[max(defaults.DEFAULTS)], direction)
    assert [YAML(typ="safe").load(row[1])] == [dict(config) for config in expected]


def test_the_example_of_a_codec_section_is_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(codec:.*?)```", section("Which codec for what"), re.S)
    (file,) = (step.body for step in tutorial() if step.name.endswith(".yaml"))
    path = tmp_path / "federation.yaml"
    chosen = []
    for example in examples:
        path.write_text(file + example)
        codec = Topology.load(path).codec
        check_codecs(Topology.load(path))
        chosen.append(codec.choice)
    assert chosen == ["fixed", "adaptive", "adaptive"]


def test_the_most_rows_are_those_whose_digests_fit_a_frame() -> None:
    assert f"{MAX_FRAME_BYTES // DIGEST_BYTES:,} rows" in section("Limits and not yet")


def test_every_key_of_a_topology_file_is_explained() -> None:
    text, schema = section("Topology files"), json_schema()
    keys, definitions = schema["properties"], schema["$defs"]
    assert isinstance(keys, dict)
    assert isinstance(definitions, dict)
    for name in ("PartySection", "DataSource", "Training", "EarlyStop", "AlignmentSpec"):
        definition = definitions[name]
        assert isinstance(definition, dict)
        assert isinstance(definition["properties"], dict)
        keys = keys | definition["properties"]
    assert not {key for key in keys if not re.search(rf"\b{key}\b", text)}
