import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from slstream.cli.topology import command
from slstream.errors import ConfigError, DataError, TopologyError
from slstream.topology import json_schema
from tests.party.federation import write_federation


def test_the_schema_is_printed() -> None:
    result = CliRunner().invoke(command, ["schema"], catch_exceptions=False)
    assert json.loads(result.stdout) == json_schema()


def test_a_valid_file(tmp_path: Path) -> None:
    federation = write_federation(tmp_path)
    result = CliRunner().invoke(command, ["check", str(federation.path)], catch_exceptions=False)
    assert result.stdout.splitlines() == [
        "alice: label party, 67 rows, 2 feature columns, cut 3, 34 parameters",
        "bob: feature party, 65 rows, 2 feature columns, cut 3, 9 parameters",
        f"{federation.path} is valid: digest {federation.load().digest()[:16]}",
    ]


def test_one_party_with_its_own_file(tmp_path: Path) -> None:
    federation = write_federation(tmp_path)
    (tmp_path / "alice.csv").unlink()
    (tmp_path / "bob.csv").rename(tmp_path / "other.csv")
    arguments = [str(federation.path), "--party", "bob", "--set", "parties.bob.data.path=other.csv"]
    result = CliRunner().invoke(command, ["check", *arguments], catch_exceptions=False)
    assert result.stdout.splitlines()[0].startswith("bob: feature party, 65 rows")
    assert " is valid for bob: digest " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--party", "bop"], TopologyError),
        (["--set", "loss=bcee"], TopologyError),
        (["--set", "parties.bob.data.path=no.csv"], DataError),
        (["--set", "transport=kafkaa://x"], ConfigError),
        (["--set", "transport=kafka://x:y"], ConfigError),
    ],
)
def test_errors_are_left_to_the_program(
    arguments: list[str], error: type[Exception], tmp_path: Path
) -> None:
    federation = write_federation(tmp_path)
    with pytest.raises(error):
        CliRunner().invoke(
            command, ["check", str(federation.path), *arguments], catch_exceptions=False
        )
