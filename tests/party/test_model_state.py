from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from slstream.errors import CheckpointError
from slstream.party.checkpoint import decode_checkpoint, encode_checkpoint
from slstream.party.model_state import ModelState, Trained
from tests.party.states import OPTIMIZERS, Part, assert_same, checkpoint


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small only get slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def through_a_file(state: ModelState) -> ModelState:
    return decode_checkpoint(encode_checkpoint(checkpoint(state))).model


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, None])
@pytest.mark.parametrize("before", [0, 7])
def test_what_goes_on_from_a_state_never_differs_from_what_never_stopped(
    optimizer: str | None, before: int
) -> None:
    undisturbed = Part(optimizer)
    for step in range(before):
        undisturbed.step(step)
    state = undisturbed.trained().capture()
    again = Part(optimizer, seed=99)
    for step in range(3):
        again.step(1000 + step)  # whatever it held is gone
    again.trained().restore(through_a_file(state))
    for step in range(before, before + 5):
        undisturbed.step(step)
        again.step(step)
    assert_same(again.trained().capture(), undisturbed.trained().capture())


@pytest.mark.parametrize("optimizer", ["adam", "sgd momentum"])
def test_a_state_is_a_copy(optimizer: str) -> None:
    part = Part(optimizer)
    part.step(0)
    state = part.trained().capture()
    kept = through_a_file(state)
    part.step(1)
    assert_same(state, kept, "training goes on")
    part.trained().restore(state)
    part.step(1)
    assert_same(state, kept, "and so it does from a restored state")


def test_modules_and_optimizers_are_told_apart_by_prefix() -> None:
    base, fuse = Part("adam", seed=1), Part("rmsprop", seed=2)
    assert base.optimizer is not None
    assert fuse.optimizer is not None
    both = Trained(
        modules={"base": base.module, "fuse": fuse.module},
        optimizers={"base": base.optimizer, "fuse": fuse.optimizer},
    )
    base.step(0)
    fuse.step(0)
    state = both.capture()
    assert {name.split(".")[1] for name in state.tensors} == {"base", "fuse"}
    assert "optimizer.base.0.exp_avg" in state.tensors
    assert "optimizer.fuse.0.square_avg" in state.tensors
    assert "model.base.1.running_mean" in state.tensors
    base.step(1)
    fuse.step(1)
    both.restore(state)
    assert_same(both.capture(), state)


def without(state: ModelState, name: str) -> ModelState:
    return replace(state, tensors={n: t for n, t in state.tensors.items() if n != name})


def trained_state(optimizer: str | None = "adam") -> ModelState:
    part = Part(optimizer)
    part.step(0)
    return part.trained().capture()


@pytest.mark.parametrize(
    "state",
    [
        without(trained_state(), "model.base.0.weight"),
        without(trained_state(), "model.base.1.running_mean"),
        replace(
            trained_state(),
            tensors={**trained_state().tensors, "model.base.0.weight": torch.zeros(5, 3)},
        ),
        replace(
            trained_state(), tensors={**trained_state().tensors, "model.base.x": torch.zeros(1)}
        ),
        replace(
            trained_state(),
            tensors={**trained_state().tensors, "optimizer.base.9.exp_avg": torch.zeros(1)},
        ),
        trained_state(None),
        replace(trained_state(), optimizers={}),
        replace(trained_state(), optimizers={"base": {"groups": [], "numbers": {}}}),
        replace(trained_state(), optimizers={"base": {"groups": [{"params": []}], "numbers": {}}}),
    ],
)
def test_the_state_of_another_model_is_refused(state: ModelState) -> None:
    with pytest.raises(CheckpointError, match="does not fit this party's model"):
        Part().trained().restore(state)


def test_tensors_of_every_kind_come_back() -> None:
    module = nn.Module()
    for name, tensor in {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(1.5),
        "mask": torch.tensor([True, False]),
        "short": torch.tensor([1.5, -0.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "long": torch.tensor([1 / 3], dtype=torch.float64),
        "count": torch.tensor(2**40),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }.items():
        module.register_buffer(name, tensor)
    state = Trained(modules={"base": module}, optimizers={}).capture()
    found = through_a_file(state)
    assert_same(found, state)
