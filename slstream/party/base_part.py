"""A party's base model with its optimiser, and the rows it is applied to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slstream.errors import LocalProtocolError, ModelError, ModelFailed, SlstreamError
from slstream.seeds import derive_seed


class BasePart:
    """The network below the cut. Used by one thread at a time."""

    def __init__(
        self,
        party: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        features: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        """Take over a model.

        Args:
            party: id of the party; part of the key of all randomness.
            module: maps float32 [batch, columns] to float32 [batch, ...].
            optimizer: over the module's parameters; ``None`` when there are none to train.
            features: float32 [rows, columns] in session order.
            seed: the session's seed.
        """
        self.party = party
        self.module = module
        self.optimizer = optimizer
        self._features = torch.from_numpy(features)
        self._seed = seed
        self._in_flight: dict[tuple[int, int], torch.Tensor] = {}

    def forward(self, rows: npt.NDArray[np.int64], epoch: int, step: int) -> torch.Tensor:
        """Activation of a training batch, float32 [batch, ...], attached to its graph."""
        self.module.train()
        # Dropout and its like draw from torch's global generator: its state is made a function of
        # the step, so that no generator state needs to be kept.
        torch.default_generator.manual_seed(
            derive_seed(self._seed, "forward", self.party, epoch, step)
        )
        with model_code(self.party, "base model"):
            activation: torch.Tensor = self.module(self._features[torch.from_numpy(rows)])
        return activation

    def start(self, rows: npt.NDArray[np.int64], epoch: int, step: int) -> npt.NDArray[np.float32]:
        """As :meth:`forward`, keeping the graph until :meth:`finish`: float32 [batch, ...]."""
        activation = self.forward(rows, epoch, step)
        self._in_flight[epoch, step] = activation
        return as_array(activation)

    def finish(self, epoch: int, step: int, gradient: npt.NDArray[np.float32]) -> None:
        """Propagate the gradient of a step's activation and take one optimiser step.

        Raises:
            LocalProtocolError: the step was not started, or is finished already.
        """
        activation = self._in_flight.pop((epoch, step), None)
        if activation is None:
            raise LocalProtocolError(
                f"{self.party} holds no activation of epoch {epoch}, step {step}"
            )
        if self.optimizer is None:
            return
        self.optimizer.zero_grad(set_to_none=True)
        with model_code(self.party, "base model"):
            torch.autograd.backward(activation, torch.from_numpy(gradient))
            self.optimizer.step()

    def evaluate(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Activation of a validation batch in evaluation mode, float32 [batch, ...], no graph."""
        self.module.eval()
        torch.default_generator.manual_seed(derive_seed(self._seed, "evaluate", self.party))
        with torch.no_grad(), model_code(self.party, "base model"):
            activation: torch.Tensor = self.module(self._features[torch.from_numpy(rows)])
        return activation


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


def as_array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """The tensor's values as a C-contiguous array that shares no graph."""
    array: npt.NDArray[np.float32] = tensor.detach().cpu().contiguous().numpy()
    return array


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
