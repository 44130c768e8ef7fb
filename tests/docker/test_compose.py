"""The container files, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slstream.cli.program import program
from slstream.errors import ConfigError
from slstream.topology import Topology
from slstream.transport.kafka.settings import KafkaSettings
from tests.docker.compose_file import (
    FOLDER,
    Service,
    dockerfile,
    last_stage,
    properties,
    services,
    top_level,
    words_of,
)
from tests.kafka.jars import VERSION
from tests.source_tree import ROOT

SERVICES = services()
OURS = [service for service in SERVICES.values() if service.is_ours]
PARTIES = [service for service in SERVICES.values() if service.is_party]
COMPOSE = top_level()
BROKER = SERVICES["broker"]
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc")


def check_command(words: list[str]) -> click.Context:
    """Let the program itself read a command line, without running it.

    Raises:
        click.ClickException: there is no such command or option, or a value does not fit.
    """
    command: click.Command = program()
    ctx = click.Context(command, info_name="slstream")
    while isinstance(command, click.Group):
        found = command.get_command(ctx, words[0])
        if found is None:
            raise click.UsageError(f"no such command: {words[0]}")
        command, words = found, words[1:]
    return command.make_context("slstream", list(words))


# The parties and what they can see ---------------------------------------------------------------


def test_the_parties_are_those_of_the_topology() -> None:
    topology = Topology.load(FOLDER / "topology.yaml")
    assert {service.name for service in PARTIES} == {party.id for party in topology.parties}
    for service in PARTIES:
        command = check_command(service.settings["command"]).params
        assert command["name"] == service.name


def test_the_topology_is_the_demo_with_other_places() -> None:
    """The same session, to the bit: only where things are may differ."""
    demo = Topology.load(ROOT / "topology" / "breast-cancer.yaml")
    ours = Topology.load(FOLDER / "topology.yaml")
    for party, own in zip(demo.parties, ours.parties, strict=True):
        assert (own.id, own.role, own.base) == (party.id, party.role, party.base)
        assert own.data.label == party.data.label
    assert (ours.seed, ours.fuse, ours.loss) == (demo.seed, demo.fuse, demo.loss)
    assert (ours.optimizer, ours.training) == (demo.optimizer, demo.training)
    assert (ours.codec, ours.schedule) == (demo.codec, demo.schedule)


@pytest.mark.parametrize("party", PARTIES, ids=lambda party: party.name)
def test_nobody_but_its_maker_sees_what_is_a_partys(party: Service) -> None:
    own = {mount.source for mount in party.mounts if mount.is_volume}
    assert own == {f"{party.name}-private", f"{party.name}-data"}
    for other in SERVICES.values():
        if other.name not in (party.name, "prepare"):
            assert not own & {mount.source for mount in other.mounts}
    prepared = {mount.source for mount in SERVICES["prepare"].mounts}
    assert f"{party.name}-private" in prepared
    assert f"{party.name}-data" not in prepared
    assert party.mounted("/private").is_read_only
    assert not party.mounted("/data").is_read_only


def test_from_a_party_there_is_no_way_but_to_the_broker() -> None:
    assert all(network == {"internal": True} for network in COMPOSE["networks"].values())
    for service in SERVICES.values():
        if service.name in ("broker", "prepare"):
            continue
        (network,) = service.settings["networks"]
        members = {s.name for s in SERVICES.values() if network in s.settings.get("networks", ())}
        assert members == {service.name, "broker"}
    assert not any("ports" in service.settings for service in SERVICES.values())


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_our_containers_can_do_little(service: Service) -> None:
    settings = service.settings
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["init"] is True
    if service.name == "prepare":
        assert settings["network_mode"] == "none"  # the one that is root
    else:
        assert not settings.keys() & {"user", "cap_add"}


# Commands, files and users -----------------------------------------------------------------------


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_every_command_is_one_of_the_program(service: Service) -> None:
    if service.name == "prepare":
        return
    values = check_command(service.settings["command"]).params
    topology = values["topology_path"]
    assert service.mounted(str(topology)).source == "./topology.yaml"


@pytest.mark.parametrize(
    "words", [["partie", "bob"], ["party", "bob"], ["topology", "apply", "f.yaml", "--wate", "3"]]
)
def test_a_command_that_is_wrong_is_found(words: list[str]) -> None:
    with pytest.raises(click.ClickException):
        check_command(words)


def test_every_path_that_is_mounted_is_there_and_stays_as_it_is() -> None:
    for service in SERVICES.values():
        for mount in service.mounts:
            if not mount.is_volume:
                assert (FOLDER / mount.source).is_file(), mount
                assert mount.is_read_only


def test_every_volume_is_declared_and_used() -> None:
    used = {m.source for s in SERVICES.values() for m in s.mounts if m.is_volume}
    assert used == set(COMPOSE["volumes"])


@pytest.mark.parametrize("party", PARTIES, ids=lambda party: party.name)
def test_a_partys_files_are_where_it_looks_for_them(party: Service) -> None:
    topology = Topology.load(FOLDER / "topology.yaml")
    values = check_command(party.settings["command"]).params
    assert party.mounted(str(values["directory"])).source == f"{party.name}-data"
    key_file = topology.alignment.key_file
    assert key_file is not None
    for path in (topology.data_path(topology.party(party.name)), Path(key_file)):
        assert path is not None
        assert path.parent == Path("/private")


@pytest.mark.parametrize("service", [*PARTIES, SERVICES["provision"]], ids=lambda s: s.name)
def test_the_environment_says_who_one_is(service: Service, tmp_path: Path) -> None:
    environment = service.settings["environment"]
    password_file = Path(environment["SLSTREAM_KAFKA_PASSWORD_FILE"])
    assert service.mounted(str(password_file.parent)).is_read_only
    (tmp_path / "password").write_text("secret")
    found = KafkaSettings.of(
        Topology.load(FOLDER / "topology.yaml").transport or "",
        {**environment, "SLSTREAM_KAFKA_PASSWORD_FILE": str(tmp_path / "password")},
    )
    assert found.username == (service.name if service.is_party else "admin")
    assert found.security_protocol == "SASL_PLAINTEXT"
    assert found.addresses == ("broker:9092",)


def test_the_broker_keeps_its_log_in_a_volume() -> None:
    """Its default is a folder that goes with the container."""
    text = (FOLDER / "broker" / "server.properties").read_text()
    mount = BROKER.mounted(properties(text)["log.dirs"])
    assert mount.source == "broker-log"
    assert not mount.is_read_only


def test_the_broker_is_started_with_what_is_mounted() -> None:
    script = BROKER.mounted(BROKER.settings["command"][-1])
    assert script.source == "./broker/start.sh"
    text = (FOLDER / script.source).read_text()
    for name, source in (("properties", "./broker/server.properties"), ("keys", "broker-private")):
        (target,) = re.findall(rf"^{name}=(.+)$", text, re.M)
        assert BROKER.mounted(target).source == source
    assert "CLUSTER_ID" in BROKER.settings["environment"]


def test_the_broker_is_where_the_topology_says() -> None:
    given = properties((FOLDER / "broker" / "server.properties").read_text())
    assert "CLIENTS://broker:9092" in given["advertised.listeners"].split(",")
    assert Topology.load(FOLDER / "topology.yaml").transport == "kafka://broker:9092"
    protocols = dict(each.split(":") for each in given["listener.security.protocol.map"].split(","))
    for listener in given["listeners"].split(","):
        name, _, address = listener.partition("://")
        is_inside = address.startswith("localhost:")
        assert is_inside == (protocols[name] == "PLAINTEXT")


# How it runs -------------------------------------------------------------------------------------


def test_only_the_label_party_ends_the_whole() -> None:
    """`up --exit-code-from` ends with the first attached container that ends."""
    attached = {s.name for s in SERVICES.values() if s.settings.get("attach", True)}
    label = Topology.load(FOLDER / "topology.yaml").label_party.id
    assert attached == {label}
    text = (FOLDER / "compose.yaml").read_text()
    assert f"up --build --exit-code-from {label}" in text


def test_a_killed_party_is_started_again_but_not_for_ever() -> None:
    for service in SERVICES.values():
        policy = service.settings.get("restart", "no")
        if service.is_party:
            assert re.fullmatch(r"on-failure:\d+", policy)
        else:
            assert policy == ("unless-stopped" if service is BROKER else "no")


def test_parties_wait_for_their_files_and_their_rights() -> None:
    done = {"condition": "service_completed_successfully"}
    for party in PARTIES:
        assert party.settings["depends_on"] == {"prepare": done, "provision": done}
    for name in ("broker", "provision"):
        assert SERVICES[name].settings["depends_on"]["prepare"] == done


def test_the_healthcheck_asks_about_the_partys_own_folder() -> None:
    words = words_of(last_stage()["HEALTHCHECK"].partition("CMD ")[2])
    assert words[0] == words_of(last_stage()["ENTRYPOINT"])[0] == "slstream"
    directory = check_command(words[1:]).params["directory"]
    assert str(directory) == last_stage()["VOLUME"] == last_stage()["WORKDIR"]
    for service in OURS:
        if service.is_party:
            assert "healthcheck" not in service.settings
            assert check_command(service.settings["command"]).params["directory"] == directory
        else:
            assert service.settings["healthcheck"] == {"disable": True}


def test_the_healthcheck_fails_where_nothing_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(program(), ["health", "--dir", str(tmp_path)])
    assert "no party runs" in result.stderr


# The image ---------------------------------------------------------------------------------------


def test_the_image_is_not_roots_and_has_a_folder_to_write_to() -> None:
    stage = last_stage()
    (uid,) = re.findall(r"useradd --uid (\d+) .* slstream &&", stage["RUN"])
    prepare = (FOLDER / "prepare.py").read_text()
    assert f"\nOWNER = {uid}\n" in prepare
    assert stage["USER"] == "slstream"
    assert f"--owner slstream --group slstream --mode 0700 {stage['VOLUME']}" in stage["RUN"]
    assert re.search(rf"NUMBA_CACHE_DIR={stage['VOLUME']}/", stage["ENV"])
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {line[1:] for line in rules if line.startswith("!")}
    copied = set()
    for name, rest in dockerfile():
        if name == "COPY" and not rest.startswith("--from="):
            copied |= set(rest.split()[:-1])
    assert copied == sent
    assert all((ROOT / each).exists() for each in copied)


def test_the_image_has_what_the_services_need() -> None:
    (install,) = (rest for name, rest in dockerfile() if name == "RUN" and "[admin]" in rest)
    assert "--constraint constraints.txt" in install  # and confluent-kafka, for `provision`
    assert "TORCH_INDEX=" in [rest for name, rest in dockerfile() if name == "ARG"]
    assert SERVICES["alice"].settings["build"]["args"] == {"TORCH_INDEX": "${TORCH_INDEX:-}"}
    for service in OURS:
        build = service.settings["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()


def test_versions_are_pinned() -> None:
    assert BROKER.settings["image"] == f"apache/kafka:{VERSION}"  # what the tests run against
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service.settings["image"] for service in OURS} == {f"slstream:{version}"}
    bases = {rest.split()[0] for name, rest in dockerfile() if name == "FROM"}
    assert bases == {"python:3.11-slim"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_a_registry_or_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"https?://|index\.|pypi", text)
    for value in re.findall(r"(?i)password['\"]?\s*[=:]\s*(\S+)", text):
        # A file's name, or what is read from one.
        assert any(fnmatch(value, known) for known in ('$(<"$file")]")', "secrets.*")), value


def test_a_login_without_its_password_file_is_refused() -> None:
    """The environment alone is no way in."""
    environment = SERVICES["bob"].settings["environment"]
    with pytest.raises(ConfigError, match="expected a file, found none at /private"):
        KafkaSettings.of("kafka://broker:9092", environment)
