"""The label party's part: fuse model, loss, labels, and its own base model where it has one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slstream.errors import SessionAborted
from slstream.party.base_part import BasePart, model_code, seed_of
from slstream.party.device import CPU, Device, Values
from slstream.party.recent_activations import Place
from slstream.seeds import derive_seed

Activations = Mapping[str, torch.Tensor]
"""By party id; float32 [batch, ...]."""


class Combine(nn.Module):
    """Joins the activations of all parties, always in the order of their ids.

    The order is part of the result: floating-point sums depend on it.
    """

    def __init__(self, how: str) -> None:
        """Choose the function.

        Args:
            how: ``concat`` (along dimension 1), ``sum``, ``mean``, or ``list`` (the next module
                gets the tensors as arguments).
        """
        super().__init__()
        self.how = how

    def forward(self, activations: Activations) -> tuple[torch.Tensor, ...]:
        """Arguments for the fuse model."""
        ordered = [activations[party] for party in sorted(activations)]
        if self.how == "concat":
            return (torch.cat(ordered, dim=1),)
        if self.how == "list":
            return tuple(ordered)
        total = ordered[0]
        for activation in ordered[1:]:
            total = total + activation
        return (total / len(ordered),) if self.how == "mean" else (total,)


class FusePart:
    """The network above the cut, and all that only the label party has. Used by one thread."""

    def __init__(
        self,
        party: str,
        combine: Combine,
        module: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        labels: npt.NDArray[np.float32] | npt.NDArray[np.int64],
        seed: int,
        base: BasePart | None,
        device: Device = CPU,
    ) -> None:
        """Take over a model.

        Args:
            party: id of the label party.
            combine: how the activations are joined.
            module: maps the joined activations to the model's output.
            loss: maps (output, labels) to a scalar.
            optimizer: over the module's parameters.
            labels: [rows] in session order, as the loss wants them.
            seed: the session's seed.
            base: the label party's own base model.
            device: where the modules are.
        """
        self.party = party
        self.base = base
        self.module = module
        self._device = device
        self.labels = device.tensor(labels)
        self._combine = combine
        self._loss = device.module(loss)
        self.optimizer = optimizer
        self._seed = seed
        self._outputs: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []

    def loss(
        self,
        activations: Activations,
        rows: npt.NDArray[np.int64],
        place: Place,
        *,
        again: int = 0,
    ) -> torch.Tensor:
        """Loss of a training batch, a scalar attached to its graph.

        Args:
            activations: of all parties that have a base model.
            rows: row numbers in session order.
            place: epoch, step and micro-batch.
            again: the how-manieth further forward pass of this batch it is.
        """
        self.module.train()
        self._device.seed(derive_seed(self._seed, "fuse", self.party, *seed_of(place, again)))
        with model_code(self.party, "fuse model"):
            output = self.module(*self._combine(activations))
        return self._loss_of(output, self.labels[self._device.tensor(rows)])

    def propagate(
        self,
        activations: Mapping[str, Values],
        rows: npt.NDArray[np.int64],
        place: Place,
        *,
        batch_rows: int,
        begins_step: bool,
        again: int = 0,
    ) -> tuple[dict[str, Values], float]:
        """Compute all gradients of a training batch or a slice of it; :meth:`update` applies them.

        Two calls, so that no peer's gradient waits for the optimisers.

        Args:
            activations: of the peers, float32 [rows, ...], by party id.
            rows: row numbers in session order.
            place: epoch, step and micro-batch.
            batch_rows: of the whole batch, over which the loss is a mean.
            begins_step: forget the gradients of the step before; else add to them.
            again: the how-manieth further forward pass of this batch it is.

        Returns:
            The gradient of each peer's activation, and this slice's part of the loss.

        Raises:
            SessionAborted: the loss is not finite.
        """
        leaves = {
            peer: self._device.tensor(activation).requires_grad_()
            for peer, activation in activations.items()
        }
        joined: dict[str, torch.Tensor] = dict(leaves)
        if self.base is not None:
            joined[self.party] = self.base.forward(rows, place, again=again)
        loss = self.loss(joined, rows, place, again=again)
        if len(rows) != batch_rows:
            loss = loss * (len(rows) / batch_rows)
        value = float(loss.detach())
        if not np.isfinite(value):
            epoch, step, _ = place
            raise SessionAborted(
                f"the training loss is {value} in epoch {epoch}, step {step}: training diverged; "
                "a lower learning rate may help"
            )
        if begins_step:
            for optimizer in self._optimizers():
                optimizer.zero_grad(set_to_none=True)
        with model_code(self.party, "model"):
            torch.autograd.backward(loss)
        gradients = {
            peer: self._device.values(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
            for peer, leaf in leaves.items()
        }
        return gradients, value

    def update(self) -> None:
        """Take one optimiser step with what was propagated."""
        with model_code(self.party, "model"):
            for optimizer in self._optimizers():
                optimizer.step()

    def repeat(
        self,
        activations: Mapping[str, Values],
        rows: npt.NDArray[np.int64],
        place: Place,
        steps: range,
    ) -> float:
        """Take further optimiser steps on a batch, with the same activations of the peers.

        Args:
            activations: float32 [batch, ...], by party id.
            rows: of the batch.
            place: of the batch.
            steps: numbers of the forward passes, each part of the key of its randomness.

        Returns:
            The loss of the first of these steps; 0 without any.

        Raises:
            SessionAborted: a loss is not finite.
        """
        first = 0.0
        for number in steps:
            _, loss = self.propagate(
                activations, rows, place, batch_rows=len(rows), begins_step=True, again=number
            )
            first = loss if number == steps[0] else first
            self.update()
        return first

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.optimizer, self.base.optimizer if self.base is not None else None]
        return [optimizer for optimizer in optimizers if optimizer is not None]

    def predict(self, activations: Activations, rows: npt.NDArray[np.int64]) -> None:
        """Compute and keep the outputs of a validation batch until :meth:`outputs`."""
        joined = dict(activations)
        if self.base is not None:
            joined[self.party] = self.base.evaluate(rows)
        self.module.eval()
        self._device.seed(derive_seed(self._seed, "evaluate", self.party))
        with torch.no_grad(), model_code(self.party, "fuse model"):
            self._outputs.append(self.module(*self._combine(joined)))
        self._targets.append(self.labels[self._device.tensor(rows)])

    def outputs(self) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        """Outputs [rows, ...], labels [rows] and loss of the validation set; starts a new one.

        The tensors are in the host's memory.
        ``None`` when there are no validation rows.
        """
        if not self._outputs:
            return None
        output, target = torch.cat(self._outputs), torch.cat(self._targets)
        self._outputs.clear()
        self._targets.clear()
        with torch.no_grad():
            return output.cpu(), target.cpu(), float(self._loss_of(output, target))

    def _loss_of(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.is_floating_point() and output.ndim == target.ndim + 1:
            output = output.squeeze(-1)
        with model_code(self.party, "loss"):
            loss: torch.Tensor = self._loss(output, target)
        return loss
