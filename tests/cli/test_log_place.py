from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from slstream.cli.log_place import log_urls
from slstream.errors import ConfigError
from slstream.supervisor import write_topology
from slstream.topology import Topology
from slstream.transport.connect import embedded_url
from tests.topology.documents import VALID, write


@pytest.fixture
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    return Topology.load(write(tmp_path_factory.mktemp("topology")))


def runs(under: Path, *names: str) -> None:
    for age, name in enumerate(names):
        log = under / name / "log"
        log.mkdir(parents=True)
        os.utime(log, (1000 + age, 1000 + age))


def found(under: Path, own: Topology | None = None) -> list[str]:
    names = {embedded_url(run / "log"): run.name for run in under.iterdir()}
    return [names[url] for url in log_urls(None, None, own, under=under)]


def test_a_url_is_taken_as_it_is(topology: Topology) -> None:
    assert log_urls(None, "kafka://host", topology) == ["kafka://host"]


def test_a_url_beside_a_directory_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="--dir or --log"):
        log_urls(tmp_path, "kafka://host", None)


def test_a_topology_may_say_where_its_log_is(tmp_path: Path) -> None:
    path = write(tmp_path, VALID + "transport: kafka://host\n")
    assert log_urls(None, None, Topology.load(path)) == ["kafka://host"]


def test_a_directory_of_a_run(tmp_path: Path) -> None:
    runs(tmp_path, "first")
    assert log_urls(tmp_path / "first", None, None) == [embedded_url(tmp_path / "first" / "log")]


def test_a_directory_of_a_run_whose_log_is_elsewhere(tmp_path: Path) -> None:
    runs(tmp_path, "first")
    path = write(tmp_path, VALID + "transport: kafka://host\n")
    write_topology(Topology.load(path), tmp_path / "first")
    assert log_urls(tmp_path / "first", None, None) == ["kafka://host"]


def test_a_directory_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"folder 'log' in it or a .*, found .*; name"):
        log_urls(tmp_path, None, None)


def test_all_runs_oldest_first(tmp_path: Path) -> None:
    runs(tmp_path, "clinic-2", "clinic-10", "clinic", "credit-1")
    (tmp_path / "no-log").mkdir()
    assert found(tmp_path) == ["clinic-2", "clinic-10", "clinic", "credit-1"]


def test_runs_of_one_federation(tmp_path: Path, topology: Topology) -> None:
    runs(tmp_path, "clinic-2", "clinic", "clinics-1", "clinic-x-1", "clinic-", "my-clinic-1")
    assert found(tmp_path, topology) == ["clinic-2", "clinic"]


def test_no_run_is_an_error(tmp_path: Path, topology: Topology) -> None:
    for own, wanted in ((None, "a run"), (topology, "a run of clinic")):
        with pytest.raises(ConfigError, match=rf"expected {wanted} with its log in .*, found none"):
            log_urls(None, None, own, under=tmp_path / "runs")
