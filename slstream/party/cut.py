"""What a base model returns, as the one tensor that crosses the cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from slstream.errors import ModelError
from slstream.topology.sections import CutTensor


def join_tensors(output: object, tensors: Sequence[CutTensor]) -> torch.Tensor:
    """The tensors of a base model side by side along dimension 1, in the order of the topology.

    Args:
        output: what the model returned: float32 [batch, size, ...] by name, or one tensor.
        tensors: as the topology lists them; none: the output is the cut.

    Returns:
        float32 [batch, sum of the sizes, ...], attached to the graph of the output.

    Raises:
        ModelError: another output than the topology says; names what was expected and found.
    """
    if not tensors:
        if isinstance(output, Mapping):
            raise ModelError(
                f"expected one tensor, found a mapping with the keys {_shown(output)}: list them "
                "in base.tensors, each with name and size"
            )
        return float32_tensor(output)
    sizes = {each.name: each.size for each in tensors}
    if not isinstance(output, Mapping):
        joined = float32_tensor(output)
        if joined.ndim < 2 or joined.shape[1] != sum(sizes.values()):
            raise ModelError(
                f"expected a mapping with the tensors {', '.join(sizes)}, or one of "
                f"[rows, {sum(sizes.values())}, ...], found {list(joined.shape)}"
            )
        return joined
    if set(output) != set(sizes):
        raise ModelError(
            f"expected a mapping with the tensors {', '.join(sizes)}, as base.tensors lists them, "
            f"found {_shown(output)}"
        )
    ordered = [float32_tensor(output[name], name) for name in sizes]
    for tensor, (name, size) in zip(ordered, sizes.items(), strict=True):
        if tensor.ndim < 2 or tensor.shape[1] != size:
            raise ModelError(
                f"{name}: expected [rows, {size}, ...], as base.tensors says, found "
                f"{list(tensor.shape)}"
            )
        if tensor.shape[:1] + tensor.shape[2:] != ordered[0].shape[:1] + ordered[0].shape[2:]:
            raise ModelError(
                f"{name}: expected tensors that differ in dimension 1 only, found "
                f"{list(tensor.shape)} beside {list(ordered[0].shape)}"
            )
    return torch.cat(ordered, dim=1)


def float32_tensor(value: object, name: str = "") -> torch.Tensor:
    """What a model returned, when it is a float32 tensor.

    Raises:
        ModelError: it is something else; begins with the name, where there is one.
    """
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        found = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ModelError(f"{name and f'{name}: '}expected a float32 tensor, found {found}")
    return value


def _shown(output: Mapping[object, object]) -> str:
    return ", ".join(sorted(map(str, output))) or "nothing"
