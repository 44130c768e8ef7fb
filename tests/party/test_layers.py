import pytest
from torch import nn

from slstream.party.layers import activation_layer, positive_sizes


def test_activations_by_name() -> None:
    assert isinstance(activation_layer("activation", "relu"), nn.ReLU)
    assert isinstance(activation_layer("activation", "none"), nn.Identity)
    with pytest.raises(ValueError, match=r"^activation: unknown activation 'rely'; did you mean "):
        activation_layer("activation", "rely")


@pytest.mark.parametrize("sizes", [[0], [1.5], [True], ["8"], "8", 8, [-1]])
def test_sizes_are_whole_numbers_above_zero(sizes: object) -> None:
    assert positive_sizes("hidden", [8, 4]) == (8, 4)
    with pytest.raises(ValueError, match=r"^hidden: expected whole numbers above 0, found "):
        positive_sizes("hidden", sizes)  # type: ignore[arg-type]
