from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import DataError, LocalProtocolError, ModelError, ModelFailed
from slstream.party.base_part import BasePart, make_optimizer, model_code

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
ROWS = np.array([4, 0, 2])


def weight_of(module: nn.Module) -> torch.Tensor:
    return next(module.parameters()).detach().clone()


def part(module: nn.Module | None = None, seed: int = 1) -> BasePart:
    torch.manual_seed(0)
    module = module or nn.Linear(2, 3)
    optimizer = make_optimizer("sgd", {"lr": 0.1}, module, "optimizer")
    return BasePart("bob", module, optimizer, FEATURES, seed)


def test_start_gives_the_activation_of_the_named_rows() -> None:
    base = part()
    found = base.start(ROWS, 1, 1)
    expected = base.module(torch.from_numpy(FEATURES[ROWS])).detach().numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_finish_takes_one_step_down_the_gradient() -> None:
    base = part()
    before = weight_of(base.module)
    base.start(ROWS, 1, 1)
    gradient = np.full((3, 3), 0.5, dtype=np.float32)
    base.finish(1, 1, gradient)
    step = 0.1 * torch.from_numpy(gradient).T @ torch.from_numpy(FEATURES[ROWS])
    torch.testing.assert_close(weight_of(base.module), before - step)


@pytest.mark.parametrize("place", [(1, 2), (2, 1)])
def test_a_step_is_finished_once_and_only_after_its_start(place: tuple[int, int]) -> None:
    base = part()
    base.start(ROWS, 1, 1)
    gradient = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(LocalProtocolError, match="bob holds no activation of epoch"):
        base.finish(*place, gradient)
    base.finish(1, 1, gradient)
    with pytest.raises(LocalProtocolError, match="epoch 1, step 1"):
        base.finish(1, 1, gradient)


def test_dropout_depends_on_seed_epoch_and_step_alone() -> None:
    module = nn.Dropout(0.5)
    wide = np.ones((4, 64), dtype=np.float32)

    def draw(seed: int, epoch: int, step: int) -> bytes:
        base = BasePart("bob", module, None, wide, seed)
        return base.start(np.arange(4), epoch, step).tobytes()

    first = draw(1, 1, 1)
    torch.manual_seed(99)
    assert draw(1, 1, 1) == first
    assert len({first, draw(2, 1, 1), draw(1, 2, 1), draw(1, 1, 2)}) == 4


def test_evaluation_changes_nothing() -> None:
    base = part(nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)))
    before = {name: tensor.clone() for name, tensor in base.module.state_dict().items()}
    found = base.evaluate(ROWS)
    assert not found.requires_grad
    assert torch.equal(found, base.evaluate(ROWS))
    for name, tensor in base.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_model_without_parameters_has_nothing_to_learn() -> None:
    base = part(nn.Identity())
    assert base.optimizer is None
    base.start(ROWS, 1, 1)
    base.finish(1, 1, np.zeros((3, 2), dtype=np.float32))


def test_an_optimiser_that_torch_refuses_says_where() -> None:
    with pytest.raises(ModelError, match=r"f\.yaml:9: optimizer: optimizer adam .*bogus"):
        make_optimizer("adam", {"bogus": 1}, nn.Linear(1, 1), "f.yaml:9: optimizer")


def test_an_optimiser_of_every_name() -> None:
    for name in ("adam", "adamw", "rmsprop", "sgd"):
        assert make_optimizer(name, {"lr": 0.1}, nn.Linear(1, 1), "") is not None


def test_code_of_a_model_that_raises() -> None:
    text = "the net of bob failed: ValueError: 7 apples"
    with pytest.raises(ModelFailed, match=text) as caught, model_code("bob", "net"):
        raise ValueError("7 apples")
    assert "apples" not in caught.value.reason_for_peers
    with pytest.raises(DataError, match="ours"), model_code("bob", "net"):
        raise DataError("ours")
