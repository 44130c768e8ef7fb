"""``slstream topology apply|diff|destroy``, most of it on real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slstream.cli.exit_code import ExitCode
from slstream.cli.topology import command
from slstream.errors import ConfigError, TransportTimeout
from slstream.provisioning import provisioner
from slstream.provisioning.changes import perform
from slstream.provisioning.cluster import topic_names
from slstream.provisioning.connection import connect
from slstream.provisioning.failure import Failure
from slstream.provisioning.plan import CreateTopic, Topic
from tests.kafka.login import Login
from tests.kafka.ports import Port
from tests.kafka.shared import SecuredKafka
from tests.provisioning.federation import LASTING, LINKS, new_name, write_topology

pytest_plugins = ["tests.kafka.fixtures"]


class Operator:
    """Runs the commands on one federation's file."""

    def __init__(self, folder: Path, login: Login) -> None:
        self.name = new_name()
        self.path = write_topology(folder, federation=self.name, transport=login.url)
        self.environment: Mapping[str, str] = login.environment

    def run(self, verb: str, *arguments: str) -> Result:
        return CliRunner().invoke(
            command,
            [verb, str(self.path), *arguments],
            env=dict(self.environment),
            catch_exceptions=False,
            standalone_mode=False,
        )

    def json(self, verb: str, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(verb, "--json", *arguments).stdout)
        return found

    def topics(self, *names: str) -> set[str]:
        return {f"{self.name}.{name}" for name in names}


@pytest.fixture
def operator(secured_kafka: SecuredKafka, tmp_path: Path) -> Operator:
    return Operator(tmp_path, secured_kafka.login("admin", "SASL_PLAINTEXT"))


def test_apply_prints_its_plan_and_is_idempotent(operator: Operator) -> None:
    before = operator.run("diff")
    assert before.return_value is ExitCode.DIFFERS
    first = operator.run("apply")
    assert first.return_value is ExitCode.OK
    title, *plan, done = first.stdout.splitlines()
    assert before.stdout.splitlines() == [title, *plan]
    assert title.startswith(f"federation {operator.name} on 127.0.0.1:")
    created = {line.removeprefix("  create topic ") for line in plan if "create topic" in line}
    assert created == operator.topics(*LASTING)
    assert any("retention.ms=-1" in line and "cleanup.policy=delete" in line for line in plan)
    bobs = (
        f"  add right of User:bob to CREATE, DESCRIBE_CONFIGS, READ, WRITE topics {operator.name}"
    )
    assert f"{bobs}.bob-to-*" in plan
    assert done == "done"

    again = operator.run("apply")
    assert again.return_value is ExitCode.OK
    assert again.stdout.splitlines() == [title, "nothing differs"]
    assert operator.run("diff").return_value is ExitCode.OK

    destroyed = operator.run("destroy", "--yes")
    assert (destroyed.return_value, destroyed.output.splitlines()[-1]) == (ExitCode.OK, "done")
    assert "there is nothing to delete" in operator.run("destroy").stdout


def test_drift_and_pruning(operator: Operator) -> None:
    operator.run("apply", "--session", "s1")
    # Without the right to create, the rights to do so are too many.
    diff = operator.run("diff", "--no-create")
    assert diff.return_value is ExitCode.DIFFERS
    removed = [line for line in diff.stdout.splitlines() if " CREATE " in line]
    assert all("remove right" in line and "--prune" in line for line in removed)
    assert len(removed) == 7  # own links of three parties, and two links between two each

    kept = operator.run("apply", "--no-create")
    assert kept.return_value is ExitCode.OK
    assert "done" not in kept.stdout
    assert operator.run("diff").return_value is ExitCode.OK
    pruned = operator.run("apply", "--no-create", "--prune")
    assert pruned.return_value is ExitCode.OK
    assert pruned.stdout.splitlines()[-1] == "done"
    assert operator.run("diff", "--no-create", "--session", "s1").return_value is ExitCode.OK
    operator.run("destroy", "--yes")


def test_as_json(operator: Operator) -> None:
    plan = operator.json("diff", "--session", "s1", "--principal", "bob=User:CN=bob")
    assert plan["federation"] == operator.name
    assert plan["authorizer"] is True
    created = {c["topic"] for c in plan["changes"] if c["change"] == "create topic"}
    assert created == operator.topics(*LASTING, *LINKS)
    (own,) = [
        change
        for change in plan["changes"]
        if change.get("name") == f"{operator.name}.incarnations.bob"
        and change["operation"] == "WRITE"
    ]
    assert own == {
        "change": "add acl",
        "principal": "User:CN=bob",
        "permission": "ALLOW",
        "operation": "WRITE",
        "resource": "TOPIC",
        "pattern": "LITERAL",
        "name": f"{operator.name}.incarnations.bob",
        "host": "*",
    }
    applied = operator.json("apply")
    assert applied["failures"] == []
    remains = operator.json("destroy", "--yes")
    assert {topic["topic"] for topic in remains["topics"]} == operator.topics(*LASTING)
    assert {topic["records"] for topic in remains["topics"]} == {0}
    assert remains["deleted"] is True


def test_what_could_not_be_deleted_is_not_called_deleted(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.run("apply")
    refused = Failure(what="delete topic x", cause="refused", remedy="ask")
    with monkeypatch.context() as patch:
        patch.setattr(provisioner, "destroy", lambda *_: (refused,))
        found = operator.run("destroy", "--yes", "--json")
    remains = json.loads(found.stdout)
    assert (remains["deleted"], remains["failures"][0]["cause"]) == (False, "refused")
    assert found.return_value is ExitCode.FAILED
    assert operator.json("destroy", "--yes")["deleted"] is True


def test_a_log_is_not_deleted_without_a_clear_word(operator: Operator) -> None:
    operator.run("apply", "--session", "s1")
    for arguments in ((), ("--session", "s1"), ("--json",)):
        with pytest.raises(ConfigError, match=r"nothing was deleted.*--yes"):
            operator.run("destroy", *arguments)
    assert operator.run("diff", "--session", "s1").return_value is ExitCode.OK

    one = operator.run("destroy", "--session", "s1", "--yes")
    assert one.return_value is ExitCode.OK
    assert one.stdout.splitlines()[1:] == [
        *(f"  delete topic {name}: 0 records" for name in sorted(operator.topics(*LINKS))),
        "done",
    ]
    assert operator.run("diff").return_value is ExitCode.OK
    operator.run("destroy", "--yes")


def test_a_setting_that_changed(operator: Operator) -> None:
    operator.run("apply")
    step = ("--set", "durability=step")
    diff = operator.run("diff", *step)
    change = "flush.messages from 9223372036854775807 to 1"
    assert diff.stdout.splitlines()[1:] == [
        f"  change topic {operator.name}.{topic}: {change}" for topic in LASTING
    ]
    assert operator.run("apply", *step).return_value is ExitCode.OK
    assert operator.run("diff", *step).return_value is ExitCode.OK
    # What was asked for once is not taken back: it does no harm.
    assert operator.run("diff").return_value is ExitCode.OK
    operator.run("destroy", "--yes")


def test_what_could_not_be_done_is_told_and_the_rest_is_done(
    operator: Operator, secured_kafka: SecuredKafka
) -> None:
    lobby = f"{operator.name}.lobby"
    admin = connect(secured_kafka.login("admin").settings(), wait_s=20, on_wait=print)
    assert perform(admin, [CreateTopic(topic=Topic(name=lobby, partitions=2))]) == ()
    while lobby not in topic_names(admin, lobby):
        sleep(0.05)
    applied = operator.run("apply")
    assert applied.return_value is ExitCode.FAILED
    assert f"  cannot change topic {lobby}: expected partitions 1, found 2;" in applied.stdout
    assert applied.stdout.splitlines()[-1] != "done"
    assert applied.stderr == (
        f"failed to repair topic {lobby}: it has partitions 2, expected 1; delete the topic, with "
        "all that is in it, and apply again\n"
    )
    left = operator.json("diff")["changes"]
    assert [(change["change"], change["topic"]) for change in left] == [("cannot change", lobby)]
    (failure,) = operator.json("apply")["failures"]
    assert failure["what"] == f"repair topic {lobby}"
    operator.run("destroy", "--yes")


def test_whoever_is_no_operator_is_told_what_it_takes(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    operator = Operator(tmp_path, secured_kafka.login("bob", "SASL_PLAINTEXT"))
    environment = {**operator.environment, "SLSTREAM_DEBUG": "1"}
    password = environment["SLSTREAM_KAFKA_PASSWORD"]
    for verb in (["apply"], ["diff"], ["destroy"], ["destroy", "--session", "s1", "--yes"]):
        done = subprocess.run(
            [sys.executable, "-m", "slstream", "topology", *verb, str(operator.path)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == ExitCode.FAILED, verb
        assert "run it as an operator" in done.stderr
        assert password not in done.stdout + done.stderr


def test_without_a_broker(tmp_path: Path) -> None:
    with Port() as port:
        operator = Operator(tmp_path, Login.to(port.address))
        with pytest.raises(TransportTimeout, match=r"within 0\.5 s"):
            operator.run("apply", "--wait", "0.5")


def test_without_an_authorizer_that_is_said_once(kafka: str, tmp_path: Path) -> None:
    operator = Operator(tmp_path, Login.to(kafka))
    applied = operator.run("apply")
    assert applied.return_value is ExitCode.OK
    assert applied.stdout.count("the broker has no authorizer") == 1
    assert "right of" not in applied.stdout
    assert operator.run("diff").return_value is ExitCode.OK
    assert operator.run("destroy", "--yes").return_value is ExitCode.OK


@pytest.mark.parametrize("verb", ["apply", "diff", "destroy"])
def test_the_embedded_log_needs_nothing(verb: str, tmp_path: Path) -> None:
    operator = Operator(tmp_path, Login.to("h"))
    with pytest.raises(ConfigError, match="only on Kafka are there topics and rights to provide"):
        operator.run(verb, "--set", "transport=embedded:///somewhere")


@pytest.mark.parametrize("verb", ["apply", "diff", "destroy"])
def test_without_the_client_library(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slstream.cli.provision.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'slstream\[admin\]'"):
        Operator(tmp_path, Login.to("h")).run(verb)


@pytest.mark.parametrize("given", [["bob"], ["bob=User:x", "bob=User:y"]])
def test_principals_that_say_nothing(given: list[str], tmp_path: Path) -> None:
    arguments = [word for text in given for word in ("--principal", text)]
    with pytest.raises(Exception, match="--principal: expected PARTY=PRINCIPAL"):
        Operator(tmp_path, Login.to("h")).run("diff", *arguments)
