"""A whole training, each party as a user of its own, with the rights that were applied and no more.

When the protocol comes to need another right, this is the test that says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slstream.provisioning.connection import connect
from slstream.provisioning.provisioner import apply, destroy, difference, remains
from slstream.provisioning.target import Needs, desired
from tests.kafka.shared import SecuredKafka
from tests.party.federation import write_federation
from tests.provisioning.federation import new_name

pytest_plugins = ["tests.kafka.fixtures"]

LISTENER = "SASL_PLAINTEXT"


def start(
    party: str, user: str, path: Path, directory: Path, kafka: SecuredKafka
) -> subprocess.Popen[str]:
    others = {name: value for name, value in os.environ.items() if "SLSTREAM_KAFKA" not in name}
    arguments = ["party", party, "--topology", str(path), "--dir", str(directory), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "slstream", *arguments],
        env=others | dict(kafka.login(user, LISTENER).environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(120)  # three processes import all that training needs
def test_training_needs_the_rights_that_are_given(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    login, name = secured_kafka.login("admin", LISTENER), new_name()
    federation = write_federation(tmp_path)
    text = federation.path.read_text().replace("federation: tiny", f"federation: {name}")
    federation.path.write_text(f"{text}transport: {login.url}\n")
    admin = connect(login.settings(), wait_s=20, on_wait=print)
    wanted = desired(federation.load(), login.settings(), Needs(principals={}))
    assert apply(admin, wanted, difference(admin, wanted), prune=False) == ()

    users = {"alice": "alice", "bob": "bob", "impostor": "mallory"}
    running = {
        who: start(
            "bob" if who == "impostor" else who,
            user,
            federation.path,
            tmp_path / who,
            secured_kafka,
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

    gone = remains(admin, name, (), operator=None)
    assert sum("-to-" in topic.name for topic in gone.topics) == 2
    assert destroy(admin, gone) == ()
