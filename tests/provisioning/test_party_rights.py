"""A whole training, each party as a user of its own, with the rights that were applied and no more.

When the protocol comes to need another right, this is the test that says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from slstream.party.summary import Summary
from slstream.provisioning.connection import connect
from slstream.provisioning.provisioner import apply, destroy, difference, remains
from slstream.provisioning.target import Needs, desired
from slstream.topology import Topology
from tests.kafka.login import Login
from tests.kafka.shared import SecuredKafka
from tests.party.federation import write_federation
from tests.provisioning.federation import new_name

pytest_plugins = ["tests.kafka.fixtures"]


def start(party: str, login: Login, path: Path, directory: Path) -> subprocess.Popen[str]:
    others = {name: value for name, value in os.environ.items() if "SLSTREAM_KAFKA" not in name}
    arguments = ["party", party, "--topology", str(path), "--dir", str(directory), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "slstream", *arguments],
        env=others | dict(login.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """Two parties and their broker, where an operator provides what is asked for."""

    name: str
    path: Path
    load: Callable[[], Topology]
    login: Login
    admin: AdminClient

    def apply(self, needs: Needs) -> None:
        wanted = desired(self.load(), self.login.settings(), needs)
        assert apply(self.admin, wanted, difference(self.admin, wanted), prune=False) == ()


@pytest.fixture
def listener() -> str:
    """How all log in."""
    return "SASL_PLAINTEXT"


@pytest.fixture
def provisioned(secured_kafka: SecuredKafka, tmp_path: Path, listener: str) -> Provisioned:
    login, name = secured_kafka.login("admin", listener), new_name()
    federation = write_federation(tmp_path)
    text = federation.path.read_text().replace("federation: tiny", f"federation: {name}")
    federation.path.write_text(f"{text}transport: {login.url}\n")
    return Provisioned(
        name=name,
        path=federation.path,
        load=federation.load,
        login=login,
        admin=connect(login.settings(), wait_s=20, on_wait=print),
    )


@pytest.mark.long
@pytest.mark.timeout(120)
def test_where_parties_may_not_create_topics_they_name_what_an_operator_runs(
    provisioned: Provisioned, secured_kafka: SecuredKafka, tmp_path: Path, listener: str
) -> None:
    provisioned.apply(Needs(principals={}, may_create=False))

    def run(parties: Sequence[str]) -> dict[str, tuple[int, str]]:
        running = {
            party: start(
                party,
                secured_kafka.login(party, listener),
                provisioned.path,
                tmp_path / party,
            )
            for party in parties
        }
        try:
            said = {party: each.communicate(timeout=60)[1] for party, each in running.items()}
        finally:
            for process in running.values():
                process.kill()
                process.wait()
        return {party: (running[party].returncode, said[party]) for party in parties}

    status, said = run(["alice"])["alice"]
    assert status == 1
    link = re.search(rf"{provisioned.name}\.alice-to-bob\.(\S+): the broker does not allow", said)
    assert link is not None, said
    command = f"slstream topology apply {provisioned.path} --session {link[1]}"
    assert said.rstrip().endswith(f"to provide it: {command}")

    provisioned.apply(Needs(principals={}, may_create=False, sessions=(link[1],)))
    ends = run(["alice", "bob"])
    assert {party: end[0] for party, end in ends.items()} == {"alice": 0, "bob": 0}, ends
    summary = Summary.from_json((tmp_path / "bob" / "bob" / "summary.json").read_text())
    assert summary.session == link[1]


@pytest.mark.parametrize(
    "listener",
    [
        "SASL_PLAINTEXT",
        pytest.param("SASL_SSL", marks=pytest.mark.long),
        pytest.param("SSL", marks=pytest.mark.long, id="mutual-TLS"),
    ],
)
@pytest.mark.timeout(120)  # three processes import all that training needs
def test_training_needs_the_rights_that_are_given(
    provisioned: Provisioned, secured_kafka: SecuredKafka, tmp_path: Path, listener: str
) -> None:
    name = provisioned.name
    provisioned.apply(Needs(principals={}))

    users = {"alice": "alice", "bob": "bob", "impostor": "mallory"}
    running = {
        who: start(
            "bob" if who == "impostor" else who,
            secured_kafka.login(user, listener),
            provisioned.path,
            tmp_path / who,
        )
        for who, user in users.items()
    }
    said = {}
    try:
        said = {who: process.communicate(timeout=100)[1] for who, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    ends = {who: process.returncode for who, process in running.items()}
    assert ends == {"alice": 0, "bob": 0, "impostor": 1}, said
    assert f"{name}.incarnations.bob" in said["impostor"]
    assert "slstream topology apply" in said["impostor"]
    assert secured_kafka.passwords["mallory"] not in said["impostor"]

    gone = remains(provisioned.admin, name, (), operator=None)
    assert sum("-to-" in topic.name for topic in gone.topics) == 2
    assert destroy(provisioned.admin, gone) == ()
