"""What a party keeps of its model: weights and scaling, each file written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from slstream.party.atomic_file import write_atomically
from slstream.party.scaling import Scaling


def save_weights(
    path: Path, modules: Mapping[str, nn.Module], *, federation: str, party: str
) -> str:
    """Write all parameters and buffers.

    Args:
        path: ``model.safetensors``; replaced as a whole or not at all, and on disk on return.
        modules: by prefix, ``base`` and ``fuse``; a tensor is named ``<prefix>.<its name>``.
        federation: whose model it is; stored in the file's header, as is the party.
        party: whose part it is.

    Returns:
        SHA-256 of the file in hex. Equal arguments give equal files.

    Raises:
        StorageError: the disk refuses.
    """
    tensors: dict[str, torch.Tensor] = {
        f"{prefix}.{name}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in sorted(modules.items())
        for name, tensor in module.state_dict().items()
    }
    # One entry: safetensors writes several in an order that differs from run to run.
    origin = json.dumps({"federation": federation, "party": party}, sort_keys=True)
    data = save(tensors, {"slstream": origin})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def save_scaling(path: Path, scaling: Scaling) -> None:
    """Write what new rows must go through before the base model sees them.

    Args:
        path: ``scaling.json``, replaced as a whole or not at all; see :meth:`Scaling.from_json`.
        scaling: of the party's columns.

    Raises:
        StorageError: the disk refuses.
    """
    write_atomically(path, scaling.to_json().encode())
