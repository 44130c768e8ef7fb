from __future__ import annotations

import pytest
import torch

from slstream.errors import ModelError
from slstream.party.cut import join_tensors
from slstream.topology.sections import CutTensor

TENSORS = (CutTensor(name="wide", size=2), CutTensor(name="embedding", size=3))


def test_tensors_are_joined_in_the_order_of_the_topology() -> None:
    wide, embedding = torch.ones(4, 2, requires_grad=True), torch.zeros(4, 3)
    joined = join_tensors({"embedding": embedding, "wide": wide}, TENSORS)
    assert joined.tolist() == [[1, 1, 0, 0, 0]] * 4
    torch.autograd.backward(joined.sum())
    assert wide.grad is not None


def test_one_tensor_is_the_cut() -> None:
    output = torch.zeros(4, 5)
    assert join_tensors(output, ()) is output
    assert join_tensors(output, TENSORS) is output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (3, "expected a float32 tensor, found int"),
        (torch.zeros(4, 5).double(), "expected a float32 tensor, found torch.float64"),
        (torch.zeros(4, 6), r"wide, embedding, or one of \[rows, 5, ...\], found \[4, 6\]"),
        (torch.zeros(4), r"found \[4\]"),
        (
            {"wide": torch.zeros(4, 2)},
            "lists them, found wide",
        ),
        ({"wide": torch.zeros(4, 2), "embedding": None}, "embedding: expected a float32 tensor"),
        (
            {"wide": torch.zeros(4, 2), "embedding": torch.zeros(4, 4)},
            r"embedding: expected \[rows, 3, ...\], as base.tensors says, found \[4, 4\]",
        ),
        (
            {"wide": torch.zeros(4, 2), "embedding": torch.zeros(4, 3, 1)},
            r"embedding: expected tensors that differ in dimension 1 only, found \[4, 3, 1\]",
        ),
    ],
)
def test_what_the_topology_does_not_say_is_refused(output: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        join_tensors(output, TENSORS)


def test_a_mapping_that_the_topology_does_not_list_is_refused() -> None:
    with pytest.raises(ModelError, match=r"keys a, b: list them in base\.tensors"):
        join_tensors({"b": torch.zeros(4, 2), "a": torch.zeros(4, 2)}, ())
