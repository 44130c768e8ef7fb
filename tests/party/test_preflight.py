from pathlib import Path

import pytest

from slstream.errors import DataError, ModelError, TopologyError
from slstream.party.preflight import check_parties
from slstream.topology import Topology
from tests.party.federation import write_federation


def test_what_is_found_out(tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load()
    alice, bob = check_parties(topology, topology.parties)
    assert (alice.party, alice.role, alice.rows, alice.columns) == ("alice", "label", 67, 2)
    assert alice.cut == bob.cut == (3,)
    # 2 -> 4 -> 3 below the cut and 6 -> 1 above it; 2 -> 3 at bob.
    assert (alice.parameters, bob.parameters) == (12 + 15 + 7, 9)


def test_one_party_is_checked_without_the_data_of_others(tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load()
    (tmp_path / "alice.csv").unlink()
    assert [facts.party for facts in check_parties(topology, [topology.party("bob")])] == ["bob"]
    with pytest.raises(DataError, match="no such file"):
        check_parties(topology, topology.parties)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("codec.forward=nothing", TopologyError, "codec.forward: no codec is registered under id"),
        ("alignment.min_rows=68", DataError, "found 67 in the table of alice"),
        ("alignment.key_file=no.key", DataError, "alignment.key_file: cannot read the key file"),
        ("fuse.args.out=2", ModelError, "fuse: the loss bce expects an output of"),
        ("loss=nowhere:Loss", ModelError, "loss: cannot import nowhere of nowhere:Loss"),
    ],
)
def test_every_part_is_checked(
    override: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    topology = write_federation(tmp_path).load(override)
    with pytest.raises(error) as caught:
        check_parties(topology, topology.parties)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["breast-cancer", "digits"])
def test_shipped_files_fit(name: str) -> None:
    topology = Topology.load(Path(__file__).parents[2] / "topology" / f"{name}.yaml")
    facts = check_parties(topology, topology.parties)
    assert all(party.cut == (64,) for party in facts)
