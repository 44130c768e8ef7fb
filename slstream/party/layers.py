"""Arguments that the built-in models share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from slstream.topology.nearest import hint

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "none": nn.Identity,
}


def activation_layer(argument: str, name: str) -> nn.Module:
    """The layer of a name; ``none`` passes everything through.

    Raises:
        ValueError: unknown name; says which argument has it.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"{argument}: unknown activation {name!r}{hint(str(name), _ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def positive_sizes(argument: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Sizes of layers.

    Raises:
        ValueError: not a list of whole numbers above 0.
    """
    if not isinstance(sizes, list | tuple) or not all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes
    ):
        raise ValueError(f"{argument}: expected whole numbers above 0, found {sizes!r}")
    return tuple(sizes)
