import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slstream.codecs.defaults import DEFAULTS
from slstream.errors import TopologyError
from slstream.topology import CodecSection, Role, Topology
from tests.topology.documents import VALID, edited, write

SHIPPED = sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))


def test_what_a_file_says(tmp_path: Path) -> None:
    topology = Topology.load(write(tmp_path))
    assert topology.federation == "clinic"
    assert topology.seed == 3
    assert topology.root == tmp_path.resolve()
    assert [party.id for party in topology.parties] == ["alice", "bob"]
    assert topology.label_party.id == "alice"
    assert [party.id for party in topology.feature_parties] == ["bob"]
    assert topology.label_party.feature_patterns == ("a*",)
    assert topology.party("bob").feature_patterns == ("*",)
    assert topology.data_path(topology.party("bob")) == tmp_path / "bob.csv"
    assert topology.metrics == ("auc", "accuracy", "loss")
    assert topology.optimizer.arguments() == {"lr": 0.001}
    assert topology.where("fuse", "args") == f"{tmp_path / 't.yaml'}:12: fuse.args"


def test_parties_are_sorted_whatever_the_file_says(tmp_path: Path) -> None:
    text = VALID.replace("alice:", "zoe:")
    assert [party.id for party in Topology.load(write(tmp_path, text)).parties] == ["bob", "zoe"]


def test_guest_and_host_are_other_names_of_the_roles(tmp_path: Path) -> None:
    text = VALID.replace("role: label", "role: guest").replace("role: feature", "role: host")
    topology = Topology.load(write(tmp_path, text))
    assert topology.label_party.role is Role.LABEL
    assert topology.digest() == Topology.load(write(tmp_path)).digest()


def test_an_unknown_party(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(TopologyError) as caught:
        Topology.load(path).party("bop")
    expected = f'{path}:3: parties: unknown party "bop"; did you mean "bob"? (known: alice, bob)'
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "text", ["codec: auto", "codec: {forward: auto, backward: auto, rules: []}", "codec: {}"]
)
def test_auto_is_the_default_codec(text: str, tmp_path: Path) -> None:
    assert (
        Topology.load(write(tmp_path, VALID + text)).agreed()
        == Topology.load(write(tmp_path)).agreed()
    )


def test_adaptive_is_short_for_a_choice(tmp_path: Path) -> None:
    short, long, fixed = (
        Topology.load(write(tmp_path, VALID + text))
        for text in ("codec: adaptive", "codec: {choice: adaptive}", "codec: {}")
    )
    assert short.codec.choice == "adaptive"
    assert short.digest() == long.digest() != fixed.digest()
    agreed = fixed.agreed()["codec"]
    assert isinstance(agreed, dict)
    assert not {"choice", "budget"} & set(agreed), "older releases do not know them"


@pytest.mark.parametrize(
    ("codec", "directions"),
    [
        ({}, []),
        ({"choice": "adaptive"}, ["forward", "backward"]),
        ({"choice": "adaptive", "forward": "fp16"}, ["backward"]),
        ({"choice": "adaptive", "rules": [{"party": "bob", "backward": "fp16"}]}, ["forward"]),
        (
            {"choice": "adaptive", "rules": [{"party": "carol", "backward": "fp16"}]},
            ["forward", "backward"],
        ),
        ({"choice": "adaptive", "rules": [{"first_epoch": 9, "forward": "fp16"}]}, ["backward"]),
    ],
)
def test_what_nothing_names_is_chosen_by_the_sender(
    codec: dict[str, object], directions: list[str]
) -> None:
    section = CodecSection.model_validate(codec)
    all_directions = ("forward", "backward", "evaluation")
    assert [each for each in all_directions if section.chooses(each, "bob")] == directions


def test_codecs_may_be_written_in_three_ways(tmp_path: Path) -> None:
    text = VALID + "codec: {forward: fp16, backward: {id: ecsq, step: 2}, evaluation: [a, {id: b}]}"
    codec = Topology.load(write(tmp_path, text)).codec
    assert codec.forward == ({"id": "fp16"},)
    assert codec.backward == ({"id": "ecsq", "step": 2},)
    assert codec.evaluation == ({"id": "a"}, {"id": "b"})


@pytest.mark.parametrize(
    "local",
    [
        "parties.bob.data.path=elsewhere.parquet",
        "parties.bob.data={bundled: wine, id: customer}",
        "transport=kafka://broker:9092",
        "durability=step",
        "timeouts.peer_s=5",
        "alignment.key_file=secret",
        "optimizer.lr=0.001",  # the default
        "threads=2",
        "parties.bob.device=cuda:1",
        "checkpoints={every_steps: 7, keep_every_epochs: 0}",
    ],
)
def test_local_facts_need_not_agree(local: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    mine, theirs = Topology.load(path), Topology.load(path, [local])
    assert mine.digest() == theirs.digest()
    assert mine.differences(theirs.agreed()) == ()
    assert "secret" not in json.dumps(theirs.agreed())


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ("seed=4", ("seed", "3", "4")),
        ("parties.bob.data.id=key", ("parties.bob.data.id", '"customer"', '"key"')),
        ("fuse.args.bias=true", ("fuse.args.bias", "(nothing)", "true")),
        ("codec.forward=fp16", ("codec.forward", "null", '[{"id": "fp16"}]')),
        ("optimizer.lr=0.01", ("optimizer.lr", "0.001", "0.01")),
    ],
)
def test_what_is_agreed_must_be_alike(
    other: str, difference: tuple[str, str, str], tmp_path: Path
) -> None:
    path = write(tmp_path)
    mine, theirs = Topology.load(path), Topology.load(path, [other])
    assert mine.digest() != theirs.digest()
    # As it arrives from a peer: through JSON.
    assert mine.differences(json.loads(json.dumps(theirs.agreed()))) == (difference,)


def test_differences_stand_any_json() -> None:
    topology = Topology.from_dict(from_python())
    found = {path for path, _, _ in topology.differences({"threads": True, "parties": 3, "x": []})}
    assert {"threads", "parties", "x", "loss"} <= found  # True == 1 in Python, not in JSON


def test_the_digest_is_fixed(tmp_path: Path) -> None:
    # A change means that parties with the old release refuse those with the new one.
    path = write(tmp_path)
    digests = [Topology.load(path, [f"codec.defaults={n}"]).digest() for n in DEFAULTS]
    assert digests == [
        "91418fe1031af4cb3871607a27b83c0bc5030f7d73ac4ac7bff95a37e9d004f3",
        "8ca02a1799bc79b2752e1e35d54abba76c6e2b8ab70be965d1b29f73ba3aebb4",
        "1e07d8afd36d1654ec5b2abbf562dde240e27ce1d3bcff8d8f2a2d9a8ae1944d",
    ]
    assert Topology.load(path).digest() == digests[-1]


def test_a_recorded_session_keeps_its_default_codecs(tmp_path: Path) -> None:
    path = write(tmp_path)
    newest, older = Topology.load(path), Topology.load(path, ["codec.defaults=1"])
    assert older.agreed() != newest.agreed()
    assert newest.as_recorded(older.agreed()).agreed() == older.agreed()
    assert newest.as_recorded(newest.agreed()).agreed() == newest.agreed()
    # What a file says counts; and what is no number of defaults is left to the comparison.
    assert older.as_recorded(newest.agreed()).agreed() == older.agreed()
    codecs: list[object] = [{"defaults": 4}, {"defaults": "1"}, 7]
    for codec in codecs:
        agreed = {**newest.agreed(), "codec": codec}
        assert newest.as_recorded(agreed).agreed() == newest.agreed()


def from_python() -> dict[str, object]:
    base = {"model": "mlp", "args": {"out": 4}}
    return {
        "federation": "clinic",
        "seed": 3,
        "parties": {
            "bob": {"role": "feature", "data": {"path": "bob.csv", "id": "customer"}, "base": base},
            "alice": {
                "role": "label",
                "data": {"path": "alice.csv", "label": "sick", "features": ("a*",)},
                "base": base,
            },
        },
        "fuse": {"model": "linear", "args": {"out": 1}},
        "loss": "bce",
        "training": {"batch_size": 16, "epochs": 2, "validation": 0.25},
    }


def test_a_topology_written_in_python_is_the_same(tmp_path: Path) -> None:
    topology = Topology.from_dict(from_python(), root=tmp_path)
    assert topology.digest() == Topology.load(write(tmp_path)).digest()
    assert topology.path is None
    with pytest.raises(TopologyError, match=r"^topology: loss: this key is missing; add it$"):
        Topology.from_dict({k: v for k, v in from_python().items() if k != "loss"})


def test_a_topology_is_immutable(tmp_path: Path) -> None:
    topology = Topology.load(write(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.parties = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        topology.training.epochs = 3


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_load(path: Path) -> None:
    assert Topology.load(path).federation == path.stem


def test_there_are_shipped_files() -> None:
    assert [path.stem for path in SHIPPED] == ["breast-cancer", "credit", "digits"]


def test_loading_imports_nothing_heavy() -> None:
    heavy = ["torch", "polars", "sklearn", "numba", "numpy", "asyncio"]
    script = (
        "import sys; from slstream.topology import Topology; Topology.load(sys.argv[1]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(SHIPPED[0])], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_edited_documents_differ() -> None:
    with pytest.raises(ValueError, match="is not in the valid document"):
        edited("not there", "")
