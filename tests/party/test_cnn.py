import pytest
import torch

from slstream.party.cnn import Cnn


@pytest.mark.parametrize(
    ("shape", "channels"),
    [([1, 8, 4], [8, 16]), ([3, 5, 7], [4]), ([1, 2, 2], [2, 2, 2]), ([1, 9, 9], [2, 2, 2])],
)
def test_images_of_any_size_fit(shape: list[int], channels: list[int]) -> None:
    pixels = shape[0] * shape[1] * shape[2]
    model = Cnn(pixels, shape=shape, out=5, channels=channels, out_activation="relu")
    output = model(torch.randn(3, pixels))
    assert output.shape == (3, 5)
    assert output.min() >= 0


def test_columns_are_read_row_by_row() -> None:
    model = Cnn(6, shape=[1, 2, 3], out=1)
    image = model[0](torch.arange(6.0).reshape(1, 6))
    assert image.tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


@pytest.mark.parametrize("shape", [[8, 4], [1, 8, 8], [1, 1, 8, 4]])
def test_a_shape_that_is_not_that_of_the_columns(shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^shape: expected \[channels, height, width\] with 32 v"):
        Cnn(32, shape=shape, out=5)
