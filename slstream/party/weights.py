"""A model's final weights as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import nn


def encode_weights(modules: Mapping[str, nn.Module], *, federation: str, party: str) -> bytes:
    """The content of ``model.safetensors``: all parameters and buffers.

    Args:
        modules: by prefix, ``base`` and ``fuse``; a tensor is named ``<prefix>.<its name>``.
        federation: whose model it is; stored in the file's header, as is the party.
        party: whose part it is.

    Returns:
        Equal arguments give equal bytes.
    """
    tensors: dict[str, torch.Tensor] = {
        f"{prefix}.{name}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in sorted(modules.items())
        for name, tensor in module.state_dict().items()
    }
    # One entry: safetensors writes several in an order that differs from run to run.
    origin = json.dumps({"federation": federation, "party": party}, sort_keys=True)
    return save(tensors, {"slstream": origin})
