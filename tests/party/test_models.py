import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import ModelError
from slstream.party import models
from slstream.party.models import build_base, build_fuse
from slstream.topology import Topology
from tests.party.federation import write_federation

LABELS = np.array([0, 1], dtype=np.float32)
OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, out=3):
        super().__init__()
        self.layer = nn.LazyLinear(out)
    def forward(self, *cuts):
        return self.layer(torch.cat(cuts, dim=1))

class Fails(Net):
    def forward(self, x):
        raise RuntimeError("no luck\\nat all")

class Double(Net):
    def forward(self, x):
        return super().forward(x).double()

class Pair(Net):
    def forward(self, x):
        return x, x

class Scalar(Net):
    def forward(self, x):
        return x.sum()

class Flat(Net):
    def forward(self, x):
        return x[:, 0]

class Deep(Net):
    def forward(self, x):
        return x.reshape(2, 1, 1, 1, -1)

class Loud(Net):
    def __init__(self):
        raise KeyError("key")

def function():
    return 3

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_federation(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("own", None)


def load(folder: Path, *overrides: str) -> Topology:
    return Topology.load(folder / "tiny.yaml", overrides)


def state(module: nn.Module) -> list[float]:
    return [value for p in module.parameters() for value in p.detach().flatten().tolist()]


def test_base_and_fuse_fit_each_other(folder: Path) -> None:
    topology = load(folder)
    bases = {p.id: build_base(p, topology, in_features=2) for p in topology.parties}
    assert {name: base.cut_shape for name, base in bases.items()} == {"alice": (3,), "bob": (3,)}
    fuse = build_fuse(
        topology, cut_shapes={n: b.cut_shape for n, b in bases.items()}, labels=LABELS
    )
    assert fuse(torch.zeros(5, 6)).shape == (5, 1)
    assert fuse.training
    assert bases["bob"].module.training


def test_initial_weights_follow_from_seed_and_party(folder: Path) -> None:
    same = "parties.alice.base={model: mlp, args: {out: 3, out_activation: relu}}"
    topology, other = load(folder, same), load(folder, same, "seed=12")
    bob, alice = topology.party("bob"), topology.party("alice")
    torch.manual_seed(1)
    first = state(build_base(bob, topology, in_features=2).module)
    torch.manual_seed(2)
    assert state(build_base(bob, topology, in_features=2).module) == first
    assert state(build_base(alice, topology, in_features=2).module) != first
    assert state(build_base(other.party("bob"), other, in_features=2).module) != first


def test_building_leaves_the_global_generator_alone(folder: Path) -> None:
    topology = load(folder)
    before = torch.random.get_rng_state()
    build_base(topology.party("bob"), topology, in_features=2)
    build_fuse(topology, cut_shapes={"alice": (3,), "bob": (3,)}, labels=LABELS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_class_of_the_users_own_with_lazy_layers(folder: Path) -> None:
    topology = load(folder, "parties.bob.base={model: own:Net, args: {out: 7}}")
    bob = topology.party("bob")
    base = build_base(bob, topology, in_features=2)
    assert base.cut_shape == (7,)
    again = build_base(bob, topology, in_features=2)
    assert state(base.module) == state(again.module)


def test_the_cut_of_an_image_model_keeps_its_dimensions(folder: Path) -> None:
    topology = load(folder, "parties.bob.base={model: identity}", "fuse.combine=concat")
    assert build_base(topology.party("bob"), topology, in_features=4).cut_shape == (4,)
    fuse = build_fuse(topology, cut_shapes={"alice": (2, 4, 4), "bob": (1, 4, 4)}, labels=LABELS)
    assert fuse(torch.zeros(2, 3, 4, 4)).shape == (2, 1)


def test_a_list_of_cuts_goes_to_the_users_class(folder: Path) -> None:
    topology = load(folder, "fuse={combine: list, model: own:Net, args: {out: 1}}")
    fuse = build_fuse(topology, cut_shapes={"alice": (3,), "bob": (2,)}, labels=LABELS)
    assert fuse(torch.zeros(5, 3), torch.zeros(5, 2)).shape == (5, 1)


BASE = "parties.bob.base"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "{model: mpl}",
            ".model: unknown model 'mpl'; did you mean \"mlp\"? (known: cnn, identity, linear, "
            "mlp); or write module:Class",
        ),
        (
            "{model: mlp, args: {hiden: [3], out: 1}}",
            ": cannot build mlp with {'hiden': [3], 'out': 1}: TypeError: ",
        ),
        (
            "{model: mlp, args: {out: 0}}",
            ": cannot build mlp with {'out': 0}: ValueError: out: expected whole numbers above 0, "
            "found [0]",
        ),
        ("{model: own:Loud}", ": cannot build own:Loud with {}: KeyError: 'key'"),
        ("{model: own:function}", ": own:function: expected a torch.nn.Module, found int"),
        ("{model: own:number}", ": own:number: expected a class, found 3"),
        (
            "{model: own:Fails}",
            ": own:Fails fails on an input of [2, 4]: RuntimeError: no luck",
        ),
        (
            "{model: own:Double}",
            ": own:Double: for an input of [2, 4]: expected a float32 tensor, found torch.float64",
        ),
        (
            "{model: own:Pair}",
            ": own:Pair: for an input of [2, 4]: expected a float32 tensor, found tuple",
        ),
        (
            "{model: own:Scalar}",
            ": own:Scalar of bob: expected a cut [rows, ...] with 1 to 3 further dimensions; an "
            "input of [2, 4] gave []",
        ),
        (
            "{model: own:Flat}",
            ": own:Flat of bob: expected a cut [rows, ...] with 1 to 3 further dimensions; an "
            "input of [2, 4] gave [2]",
        ),
        (
            "{model: own:Deep}",
            ": own:Deep of bob: expected a cut [rows, ...] with 1 to 3 further dimensions; an "
            "input of [2, 4] gave [2, 1, 1, 1, 4]",
        ),
        ("{model: nowhere:Net}", ": cannot import nowhere of nowhere:Net: ModuleNotFoundError: "),
    ],
)
def test_base_models_that_do_not_fit(base: str, message: str, folder: Path) -> None:
    topology = load(folder, f"{BASE}={base}")
    with pytest.raises(ModelError) as caught:
        build_base(topology.party("bob"), topology, in_features=4)
    text = str(caught.value)
    assert text.startswith(f"--set {BASE}={base}: {BASE}{message}")
    assert "\n" not in text


def test_an_unknown_argument_lists_the_known(folder: Path) -> None:
    topology = load(folder, "fuse.args.biass=true")
    with pytest.raises(ModelError, match=r"\(its arguments: out, bias\)$"):
        build_fuse(topology, cut_shapes={"alice": (3,)}, labels=LABELS)


@pytest.mark.parametrize(
    ("fuse", "shapes", "message"),
    [
        (
            "{combine: sum, model: linear, args: {out: 1}}",
            {"bob": (1,), "alice": (3,)},
            ".combine: sum expects cuts of one shape, found alice [rows, 3], bob [rows, 1]",
        ),
        (
            "{model: linear, args: {out: 1}}",
            {"alice": (3,), "bob": (1, 4, 4)},
            ".combine: concat expects cuts that differ in their first dimension only, found alice "
            "[rows, 3], bob [rows, 1, 4, 4]",
        ),
        (
            "{combine: list, model: linear, args: {out: 1}}",
            {"alice": (3,), "bob": (3,)},
            ": combine: list passes 2 tensors, which linear does not take; use concat, sum, mean, "
            "or a module:Class of your own",
        ),
        (
            "{model: linear, args: {out: 2}}",
            {"alice": (3,), "bob": (3,)},
            ": the loss bce expects an output of [2] or [2, 1]; for 2 rows the fuse model gives "
            "[2, 2]",
        ),
    ],
)
def test_fuse_models_that_do_not_fit(
    fuse: str, shapes: dict[str, tuple[int, ...]], message: str, folder: Path
) -> None:
    topology = load(folder, f"fuse={fuse}")
    with pytest.raises(ModelError) as caught:
        build_fuse(topology, cut_shapes=shapes, labels=LABELS)
    assert str(caught.value) == f"--set fuse={fuse}: fuse{message}"


def test_packages_add_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> EntryPoints:
        assert group == "slstream.models"
        return EntryPoints(
            [
                EntryPoint("wide", "slstream.party.mlp:Mlp", group),
                EntryPoint("broken", "slstream.nowhere:Net", group),
            ]
        )

    monkeypatch.setattr(models, "entry_points", installed)
    topology = load(folder, f"{BASE}={{model: wide, args: {{out: 9}}}}")
    assert build_base(topology.party("bob"), topology, in_features=2).cut_shape == (9,)
    topology = load(folder, f"{BASE}={{model: broken}}")
    with pytest.raises(ModelError, match=r"cannot load 'broken' from slstream.nowhere:Net: Module"):
        build_base(topology.party("bob"), topology, in_features=2)


def test_a_party_without_base_model(folder: Path) -> None:
    topology = load(folder, "parties.alice.base=null", "parties.alice.data.features=[]")
    with pytest.raises(ModelError, match=r"alice has no base model$"):
        build_base(topology.party("alice"), topology, in_features=2)
