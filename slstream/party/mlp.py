"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from slstream.party.layers import activation_layer, positive_sizes


class Mlp(nn.Sequential):
    """Linear layers with an activation between them; input of any shape is flattened first.

    As a base model it can end in an activation: ``out_activation: relu`` makes about half of the
    cut zero, which the codecs send for next to nothing.
    """

    def __init__(
        self,
        in_features: int,
        *,
        out: int,
        hidden: Sequence[int] = (),
        activation: str = "relu",
        out_activation: str = "none",
        dropout: float = 0.0,
    ) -> None:
        """Build the layers.

        Args:
            in_features: numbers per row of the input.
            out: numbers per row of the output.
            hidden: width of each hidden layer.
            activation: after each hidden layer: relu, tanh, gelu or none.
            out_activation: after the last layer.
            dropout: probability after each hidden layer; 0 leaves the layer out.

        Raises:
            ValueError: an argument outside of these.
        """
        (last,) = positive_sizes("out", [out])
        widths = (in_features, *positive_sizes("hidden", hidden))
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), activation_layer("activation", activation)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], last))
        layers.append(activation_layer("out_activation", out_activation))
        super().__init__(*layers)
