import torch
from torch import nn

from slstream.party.mlp import Mlp


def test_layers_follow_the_arguments() -> None:
    model = Mlp(6, hidden=[5, 4], out=3, activation="tanh", out_activation="relu", dropout=0.1)
    names = [type(layer).__name__ for layer in model]
    hidden = ["Linear", "Tanh", "Dropout"]
    assert names == ["Flatten", *hidden, *hidden, "Linear", "ReLU"]
    widths = [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)]
    assert widths == [(6, 5), (5, 4), (4, 3)]


def test_input_is_flattened() -> None:
    assert Mlp(6, out=2)(torch.zeros(4, 2, 3)).shape == (4, 2)


def test_the_last_activation_is_applied() -> None:
    assert Mlp(6, out=32, out_activation="relu")(torch.randn(8, 6)).min() == 0
    assert Mlp(6, out=32)(torch.randn(8, 6)).min() < 0
