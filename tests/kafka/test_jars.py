"""Fetching a broker's jars, with programs in the place of Java and Maven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kafka.jars import NoKafkaError, obtain, why_not

_JAVA = """#!/bin/sh
echo 'openjdk version "{version}" 2025-04-15' >&2
"""

_MAVEN = """#!/bin/sh
PATH=/usr/bin:/bin
echo fetched >> {calls}
for argument; do case "$argument" in -DoutputDirectory=*) out="${{argument#*=}}";; esac; done
sleep 0.3
mkdir -p "$out"
touch "$out/b.jar" "$out/kafka_2.13-1.jar" "$out/a.jar"
exit {status}
"""


class Machine:
    """Programs on a PATH of their own, and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.cache = folder / "cache"
        self.calls = folder / "calls"

    def install(self, name: str, text: str) -> None:
        program = self.programs / name
        program.write_text(text)
        program.chmod(0o755)

    def install_java(self, version: str = "17.0.15") -> None:
        self.install("java", _JAVA.format(version=version))

    def install_maven(self, status: int = 0) -> None:
        self.install("mvn", _MAVEN.format(calls=self.calls, status=status))

    def fetches(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(made.programs))
    monkeypatch.setenv("SLSTREAM_KAFKA_JARS", str(made.cache))
    return made


def test_one_of_many_fetches_and_all_see_whole_folders(machine: Machine) -> None:
    machine.install_java()
    machine.install_maven()
    with ThreadPoolExecutor(4) as others:
        found = list(others.map(obtain, ["9.9"] * 4))
    assert machine.fetches() == 1
    assert {each.folder for each in found} == {machine.cache / "9.9"}
    names = ["a.jar", "b.jar", "kafka_2.13-1.jar"]
    paths = ":".join(str(machine.cache / "9.9" / name) for name in names)
    assert found[0].command("Main", ["x"], options=["-o"]) == [
        *(str(machine.programs / "java"), "-o", "-cp", paths, "Main", "x")
    ]
    assert not [path for path in machine.cache.iterdir() if path.name.startswith(".")]


def test_class_archive_is_used_once_it_is_there(machine: Machine) -> None:
    machine.install_java("21.0.2")
    machine.install_maven()
    found = obtain("9.9")
    assert "jsa" not in " ".join(found.command("Main", []))
    (machine.cache / "9.9-classes-21.0.2.jsa").touch()
    assert f"-XX:SharedArchiveFile={found.class_archive}" in found.command("Main", [])


def test_fetched_jars_need_no_maven(machine: Machine) -> None:
    machine.install_java()
    (machine.cache / "9.9").mkdir(parents=True)
    assert obtain("9.9").folder == machine.cache / "9.9"


def test_failed_download_tells_what_maven_said_and_leaves_nothing(machine: Machine) -> None:
    machine.install_java()
    machine.install("mvn", "#!/bin/sh\necho 'no route to repository'\nexit 1\n")
    with pytest.raises(NoKafkaError, match="no route to repository") as caught:
        obtain("9.9")
    assert "SLSTREAM_KAFKA_JARS" in str(caught.value)
    assert [path.name for path in machine.cache.iterdir()] == ["9.9.lock"]


def test_jars_of_a_maven_that_failed_are_not_used(machine: Machine) -> None:
    machine.install_java()
    machine.install_maven(status=1)
    with pytest.raises(NoKafkaError, match=r"could not fetch the jars of Kafka 9\.9"):
        obtain("9.9")
    assert not (machine.cache / "9.9").exists()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param(None, "java is not on PATH: install Java 17", id="no-java"),
        pytest.param("11.0.2", "expected Java 17 or newer, found 11.0.2", id="old-java"),
        pytest.param("1.8.0_412", "expected Java 17 or newer, found 1.8.0", id="older-java"),
        pytest.param("21", "mvn is not on PATH: install Maven", id="no-maven"),
    ],
)
def test_what_is_missing_is_named(machine: Machine, version: str | None, expected: str) -> None:
    if version is not None:
        machine.install_java(version)
    assert (why_not() or "").startswith(expected)
    with pytest.raises(NoKafkaError, match=expected):
        obtain()


def test_program_that_is_no_java_is_named(machine: Machine) -> None:
    machine.install("java", "#!/bin/sh\nexit 1\n")
    assert "found no version" in (why_not() or "")
