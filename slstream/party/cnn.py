"""Small convolutional network for columns that are the pixels of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from slstream.party.layers import activation_layer, positive_sizes


class Cnn(nn.Sequential):
    """3x3 convolutions with ReLU and 2x2 pooling, then a linear layer."""

    def __init__(
        self,
        in_features: int,
        *,
        shape: Sequence[int],
        out: int,
        channels: Sequence[int] = (8, 16),
        out_activation: str = "none",
    ) -> None:
        """Build the layers.

        Args:
            in_features: number of columns.
            shape: ``[channels, height, width]`` of the image that the columns make up, row by row.
            out: numbers per row of the output.
            channels: of each convolution. Pooling follows each but the last, while both sides have
                at least 4 pixels.
            out_activation: after the linear layer: relu, tanh, gelu or none.

        Raises:
            ValueError: an argument outside of these, or a shape with more or fewer pixels than
                there are columns.
        """
        sides = positive_sizes("shape", shape)
        if len(sides) != 3 or math.prod(sides) != in_features:
            raise ValueError(
                f"shape: expected [channels, height, width] with {in_features} values in all, as "
                f"there are {in_features} columns; found {list(shape)}"
            )
        (last,) = positive_sizes("out", [out])
        before, height, width = sides
        layers: list[nn.Module] = [nn.Unflatten(1, sides)]
        for index, after in enumerate(positive_sizes("channels", channels)):
            layers += [nn.Conv2d(before, after, kernel_size=3, padding=1), nn.ReLU()]
            if index < len(channels) - 1 and min(height, width) >= 4:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            before = after
        layers += [nn.Flatten(), nn.Linear(before * height * width, last)]
        layers.append(activation_layer("out_activation", out_activation))
        super().__init__(*layers)
