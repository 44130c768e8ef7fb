"""All that training changes: parameters, buffers and optimiser state, as tensors and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from slstream.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A copy that later training steps do not change."""

    tensors: Mapping[str, torch.Tensor]
    """``model.PREFIX.NAME``, ``optimizer.PREFIX.INDEX.KEY`` for the optimiser's, and
    ``other.PREFIX.NAME`` for what else is kept."""
    optimizers: Mapping[str, Any]
    """By prefix, as JSON: ``groups``, and ``numbers`` by index and key of what is no tensor."""


class Kept(Protocol):
    """State that is neither a module's nor an optimiser's."""

    def kept(self) -> Mapping[str, torch.Tensor]:
        """All of it, by name; not copied."""

    def restore_kept(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Set it to what :meth:`kept` gave; the tensors may be changed later by their owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a party trains, by prefix: ``base`` and ``fuse``.

    Randomness needs no state: every draw is a function of the session's seed and the step.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    """Prefixes without parameters to train are missing."""
    others: Mapping[str, Kept] = field(default_factory=dict)
    """What else later steps depend on."""

    def capture(self) -> ModelState:
        """Copy the state."""
        tensors = {
            f"model.{prefix}.{name}": _copy(tensor)
            for prefix, module in sorted(self.modules.items())
            for name, tensor in module.state_dict().items()
        }
        tensors |= {
            f"other.{prefix}.{name}": _copy(tensor)
            for prefix, other in sorted(self.others.items())
            for name, tensor in other.kept().items()
        }
        optimizers = {}
        for prefix, optimizer in sorted(self.optimizers.items()):
            state = optimizer.state_dict()
            numbers: dict[str, dict[str, Any]] = {}
            for index, entries in state["state"].items():
                numbers[str(index)] = {}
                for key, value in entries.items():
                    if isinstance(value, torch.Tensor):
                        tensors[f"optimizer.{prefix}.{index}.{key}"] = _copy(value)
                    else:
                        numbers[str(index)][key] = value
            optimizers[prefix] = {"groups": state["param_groups"], "numbers": numbers}
        return ModelState(tensors=tensors, optimizers=optimizers)

    def restore(self, state: ModelState) -> None:
        """Set the state.

        Raises:
            CheckpointError: it is another model's or optimiser's.
        """
        try:
            for prefix, module in self.modules.items():
                module.load_state_dict(_below(state.tensors, f"model.{prefix}."), strict=True)
            for prefix, optimizer in self.optimizers.items():
                entries = {
                    int(index): dict(numbers)
                    for index, numbers in state.optimizers[prefix]["numbers"].items()
                }
                for name, tensor in _below(state.tensors, f"optimizer.{prefix}.").items():
                    index, _, key = name.partition(".")
                    # A copy: the optimiser goes on to change it in place.
                    entries[int(index)][key] = tensor.clone()
                groups = state.optimizers[prefix]["groups"]
                optimizer.load_state_dict({"state": entries, "param_groups": groups})
            for prefix, other in self.others.items():
                other.restore_kept(_below(state.tensors, f"other.{prefix}."))
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"it does not fit this party's model: {error}") from error


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
