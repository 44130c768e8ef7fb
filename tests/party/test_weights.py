from __future__ import annotations

import torch
from safetensors.torch import load
from torch import nn

from slstream.party.weights import encode_weights


def test_parameters_and_buffers_are_named_by_prefix() -> None:
    base, fuse = nn.BatchNorm1d(2), nn.Linear(2, 1)
    found = load(encode_weights({"fuse": fuse, "base": base}, federation="f", party="bob"))
    assert {"base.running_mean", "base.weight", "fuse.weight", "fuse.bias"} <= set(found)
    assert torch.equal(found["fuse.weight"], fuse.weight)


def test_equal_weights_give_equal_bytes_and_other_parties_others() -> None:
    module = nn.Linear(2, 1)
    contents = [
        encode_weights({"base": module}, federation="f", party=party)
        for party in ("bob", "bob", "carol")
    ]
    assert contents[0] == contents[1] != contents[2]
