"""A party's base model with its optimiser, and the rows it is applied to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call

from slstream.errors import LocalProtocolError, ModelError, ModelFailed, SlstreamError
from slstream.party.cut import join_tensors
from slstream.party.device import CPU, Device, Values
from slstream.party.recent_activations import Place
from slstream.seeds import derive_seed
from slstream.topology.sections import CutTensor

Weights = dict[str, torch.Tensor]
"""Parameters and buffers by name."""


@dataclass(slots=True)
class _InFlight:
    """A batch whose gradient is awaited."""

    activation: torch.Tensor
    weights: Weights | None
    """Copies that the activation was computed with; ``None``: the module's own."""
    before: Weights | None = None
    """Parameters and buffers before that; for checkpoints."""


class BasePart:
    """The network below the cut. Used by one thread at a time."""

    def __init__(
        self,
        party: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        features: npt.NDArray[np.float32],
        seed: int,
        *,
        stashes: bool = False,
        tensors: Sequence[CutTensor] = (),
        device: Device = CPU,
    ) -> None:
        """Take over a model.

        Args:
            party: id of the party; part of the key of all randomness.
            module: maps float32 [batch, columns] to float32 [batch, ...], or to several by name.
            optimizer: over the module's parameters; ``None`` when there are none to train.
            features: float32 [rows, columns] in session order.
            seed: the session's seed.
            stashes: whether steps may be started while earlier ones are not finished; each is then
                propagated through a copy of the weights that it was started with.
            tensors: in what order several are joined.
            device: where the module is.
        """
        self.party = party
        self.module = module
        self.optimizer = optimizer
        self._device = device
        self._features = device.tensor(features)
        self._seed = seed
        self._stashes = stashes
        self._tensors = tensors
        self._in_flight: dict[Place, _InFlight] = {}
        self._restored: dict[Place, Weights] = {}

    @property
    def rows(self) -> int:
        """Rows of the session."""
        return len(self._features)

    def forward(self, rows: npt.NDArray[np.int64], place: Place, *, again: int = 0) -> torch.Tensor:
        """Activation of a training batch, float32 [batch, ...], attached to its graph.

        Args:
            rows: row numbers in session order.
            place: epoch, step and micro-batch.
            again: the how-manieth further forward pass of this batch it is.
        """
        return self._apply(rows, place, again, self.module)

    def start(self, rows: npt.NDArray[np.int64], place: Place) -> Values:
        """As :meth:`forward`, keeping the graph until :meth:`propagate`: float32 [batch, ...]."""
        if not self._stashes:
            begun = _InFlight(self.forward(rows, place), None)
        else:
            begun = self._start_stashed(rows, place)
        self._in_flight[place] = begun
        return self._device.values(begun.activation)

    def _start_stashed(self, rows: npt.NDArray[np.int64], place: Place) -> _InFlight:
        known = self._restored.pop(place, None)
        before = _copy(self.module.state_dict()) if known is None else known
        names = {name for name, _ in self.module.named_parameters()}
        used = {
            name: tensor.clone().requires_grad_(tensor.is_floating_point())
            for name, tensor in before.items()
            if name in names
        }
        # Buffers, such as running statistics, are the module's own, so that this pass counts in
        # them; unless it did before the checkpoint was written.
        buffers = {} if known is None else self._buffers_of(known)
        replaced = {**buffers, **used}

        def module(features: torch.Tensor) -> object:
            output: object = functional_call(self.module, replaced, (features,))
            return output

        return _InFlight(self._apply(rows, place, 0, module), used, before)

    def _buffers_of(self, weights: Weights) -> Weights:
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        return _copy({n: tensor for n, tensor in weights.items() if n not in parameters})

    def _apply(
        self,
        rows: npt.NDArray[np.int64],
        place: Place,
        again: int,
        module: Callable[[torch.Tensor], object],
    ) -> torch.Tensor:
        self.module.train()
        # Dropout and its like draw from torch's global generators: their state is made a function
        # of the step, so that no generator state needs to be kept.
        self._device.seed(derive_seed(self._seed, "forward", self.party, *seed_of(place, again)))
        with model_code(self.party, "base model"):
            return join_tensors(module(self._features[self._device.tensor(rows)]), self._tensors)

    def propagate(self, place: Place, gradient: Values, *, begins_step: bool) -> None:
        """Propagate the gradient of an activation.

        Args:
            place: epoch, step and micro-batch of a started batch.
            gradient: float32 [batch, ...].
            begins_step: forget the gradients of the step before; else add to them.

        Raises:
            LocalProtocolError: the batch was not started, or is finished already.
        """
        begun = self._in_flight.pop(place, None)
        if begun is None:
            epoch, step, _ = place
            raise LocalProtocolError(
                f"{self.party} holds no activation of epoch {epoch}, step {step}"
            )
        if self.optimizer is None:
            return
        if begins_step:
            self.optimizer.zero_grad(set_to_none=True)
        with model_code(self.party, "base model"):
            torch.autograd.backward(begun.activation, self._device.tensor(gradient))
        if begun.weights is not None:
            for name, parameter in self.module.named_parameters():
                parameter.grad = begun.weights[name].grad

    def update(self) -> None:
        """Take one optimiser step with what was propagated."""
        if self.optimizer is not None:
            with model_code(self.party, "base model"):
                self.optimizer.step()

    def repeat(
        self,
        rows: npt.NDArray[np.int64],
        place: Place,
        gradient: Values,
        steps: range,
    ) -> None:
        """Take further optimiser steps on a batch, with the gradient of its activation.

        Args:
            rows: of the batch.
            place: of the batch.
            gradient: float32 [batch, ...].
            steps: numbers of the forward passes, each part of the key of its randomness.
        """
        if self.optimizer is None:
            return
        for number in steps:
            activation = self.forward(rows, place, again=number)
            self.optimizer.zero_grad(set_to_none=True)
            with model_code(self.party, "base model"):
                torch.autograd.backward(activation, self._device.tensor(gradient))
            self.update()

    def kept(self) -> dict[str, torch.Tensor]:
        """What a checkpoint must hold of the batches under way, by name."""
        return {
            f"{'.'.join(str(number) for number in place)}.{name}": tensor
            for place, begun in self._in_flight.items()
            for name, tensor in (begun.before or {}).items()
        }

    def restore_kept(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Have batches started again as they were; takes what :meth:`kept` gave."""
        self._in_flight.clear()
        self._restored.clear()
        for key, tensor in tensors.items():
            epoch, step, micro_batch, name = key.split(".", 3)
            place = int(epoch), int(step), int(micro_batch)
            self._restored.setdefault(place, {})[name] = tensor.to(self._device.torch, copy=True)

    def evaluate(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Activation of a validation batch in evaluation mode, float32 [batch, ...], no graph."""
        self.module.eval()
        self._device.seed(derive_seed(self._seed, "evaluate", self.party))
        with torch.no_grad(), model_code(self.party, "base model"):
            output = self.module(self._features[self._device.tensor(rows)])
            return join_tensors(output, self._tensors)


@contextmanager
def model_code(party: str, what: str) -> Iterator[None]:
    """Say whose code failed when a model, which may be the user's, raises.

    Raises:
        ModelFailed: from whatever the block raised, unless slstream raised it on purpose.
    """
    try:
        yield
    except SlstreamError:
        raise
    except Exception as error:
        raise ModelFailed(
            f"the {what} of {party} failed: {type(error).__name__}: {error}"
        ) from error


def seed_of(place: Place, again: int) -> tuple[int, ...]:
    """The part of a seed that says which forward pass it is; zeros at its end are left out."""
    epoch, step, micro_batch = place
    numbers = [epoch, step, micro_batch, again]
    while len(numbers) > 2 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _copy(weights: Mapping[str, torch.Tensor]) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def make_optimizer(
    name: str, arguments: dict[str, Any], module: nn.Module, where: str
) -> torch.optim.Optimizer | None:
    """An optimiser over a module's parameters; ``None`` when it has none.

    Raises:
        ModelError: torch refuses an argument.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        return None
    classes: dict[str, type[torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    try:
        return classes[name](parameters, **arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{where}: optimizer {name} with {arguments}: {error}") from error
