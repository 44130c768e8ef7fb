"""What was learned over Kafka, and its archive, are what they are over the embedded log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slstream.cli.archive import command as archive
from slstream.cli.replay import command as replay
from slstream.errors import ArchiveError, SlstreamError
from tests.kafka.broker import Broker
from tests.kafka.login import Login
from tests.kafka_training.training import PARTIES, Learned, training

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)


COMMANDS = {"archive": archive, "replay": replay}


def slstream(name: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(COMMANDS[name], [*map(str, arguments)], catch_exceptions=False)


def shown(name: str, *arguments: str | Path) -> Any:
    """The one JSON object that a command prints."""
    found = slstream(name, *arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def archived(session: str, place: tuple[str, ...], file: Path) -> Any:
    """What `archive export` and `archive verify` say, alike, of the frames of a session's links."""
    report = shown("archive", "export", session, file, *place)
    assert shown("archive", "verify", file) == report
    links = {
        each["topic"].removesuffix(session): (each["records"], each["frames"])
        for each in report["partitions"]
        if "-to-" in each["topic"]
    }
    return (report["outcome"], report["links"], report["frames"]), links


def replayed(name: str, *arguments: str | Path) -> Any:
    """What a replay says that had to give equal bits, without what is a session's own."""
    report = shown(name, *arguments)
    assert (report["exact"], report["complete"]) == (True, True)
    return {key: report[key] for key in ("party", "frames", "equal_frames", "weights", "stopped")}


@pytest.mark.long
def test_both_logs_lead_to_the_same(
    own_kafka: Broker, tmp_path: Path, undisturbed: Path, expected: Learned
) -> None:
    login = Login.to(own_kafka.address)
    with training(tmp_path, login) as made:
        made.start()
        assert made.finish() == expected
        session = made.watcher.session()
    summary = json.loads((undisturbed / "run" / "alice" / "summary.json").read_text())
    file, other = tmp_path / "kafka.mcap", tmp_path / "embedded.mcap"
    found = archived(session, ("--log", login.url), file)
    assert found == archived(summary["session"], ("--dir", str(undisturbed / "run")), other)
    assert found[0] == ("finished", 2, sum(expected.frames.values()))
    for name in PARTIES:
        its, there = ("--topology", made.topology), ("--topology", undisturbed / "small.yaml")
        who = ("--party", name)
        first = replayed("replay", session, "--log", login.url, *its, *who)
        assert first == replayed("archive", "replay", file, *its, *who)
        assert first == replayed("archive", "replay", other, *there, *who)
        assert first["weights"] == expected.weights[name]
        # Negative control: from another seed come other bits.
        with pytest.raises(SlstreamError):
            slstream("archive", "replay", file, *its, *who, "--set", "seed=4")
    # Negative control: a byte that is another.
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArchiveError):
        slstream("archive", "verify", file)
