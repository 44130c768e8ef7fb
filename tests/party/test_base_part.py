from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import DataError, LocalProtocolError, ModelError, ModelFailed
from slstream.party.base_part import BasePart, make_optimizer, model_code
from slstream.party.device import as_array
from slstream.party.recent_activations import Place

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
ROWS = np.array([4, 0, 2])
FIRST = (1, 1, 0)


def weight_of(module: nn.Module) -> torch.Tensor:
    return next(module.parameters()).detach().clone()


def part(module: nn.Module | None = None, seed: int = 1) -> BasePart:
    torch.manual_seed(0)
    module = module or nn.Linear(2, 3)
    optimizer = make_optimizer("sgd", {"lr": 0.1}, module, "optimizer")
    return BasePart("bob", module, optimizer, FEATURES, seed)


def test_start_gives_the_activation_of_the_named_rows() -> None:
    base = part()
    found = base.start(ROWS, FIRST)
    expected = base.module(torch.from_numpy(FEATURES[ROWS])).detach().numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_an_update_takes_one_step_down_the_gradient() -> None:
    base = part()
    before = weight_of(base.module)
    base.start(ROWS, FIRST)
    gradient = np.full((3, 3), 0.5, dtype=np.float32)
    base.propagate(FIRST, gradient, begins_step=True)
    assert torch.equal(weight_of(base.module), before)
    base.update()
    step = 0.1 * torch.from_numpy(gradient).T @ torch.from_numpy(FEATURES[ROWS])
    torch.testing.assert_close(weight_of(base.module), before - step)


@pytest.mark.parametrize("place", [(1, 2, 0), (2, 1, 0), (1, 1, 1)])
def test_a_gradient_is_propagated_once_and_only_after_its_start(place: Place) -> None:
    base = part()
    base.start(ROWS, FIRST)
    gradient = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(LocalProtocolError, match="bob holds no activation of epoch"):
        base.propagate(place, gradient, begins_step=True)
    base.propagate(FIRST, gradient, begins_step=True)
    with pytest.raises(LocalProtocolError, match="epoch 1, step 1"):
        base.propagate(FIRST, gradient, begins_step=True)


def test_dropout_depends_on_seed_and_place_alone() -> None:
    module = nn.Dropout(0.5)
    wide = np.ones((4, 64), dtype=np.float32)

    def draw(seed: int, *place: int, again: int = 0) -> bytes:
        base = BasePart("bob", module, None, wide, seed)
        epoch, step, micro_batch = place
        drawn = base.forward(np.arange(4), (epoch, step, micro_batch), again=again)
        return as_array(drawn).tobytes()

    first = draw(1, 1, 1, 0)
    torch.manual_seed(99)
    assert draw(1, 1, 1, 0) == first
    others = [draw(2, 1, 1, 0), draw(1, 2, 1, 0), draw(1, 1, 2, 0), draw(1, 1, 1, 1)]
    assert len({first, *others, draw(1, 1, 1, 0, again=1)}) == 6


def test_slices_add_their_gradients_up() -> None:
    whole, sliced = part(), part()
    gradient = np.arange(9, dtype=np.float32).reshape(3, 3)
    whole.start(ROWS, FIRST)
    whole.propagate(FIRST, gradient, begins_step=True)
    sliced.start(ROWS[:2], (1, 1, 0))
    sliced.start(ROWS[2:], (1, 1, 1))
    sliced.propagate((1, 1, 0), gradient[:2], begins_step=True)
    sliced.propagate((1, 1, 1), gradient[2:], begins_step=False)
    for base in (whole, sliced):
        base.update()
    torch.testing.assert_close(weight_of(whole.module), weight_of(sliced.module))
    assert not torch.equal(weight_of(whole.module), weight_of(part().module))


def test_a_step_is_propagated_through_the_weights_that_it_was_started_with() -> None:
    def stashing() -> BasePart:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        optimizer = make_optimizer("sgd", {"lr": 0.1}, module, "")
        return BasePart("bob", module, optimizer, FEATURES, 1, stashes=True)

    gradient = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3)
    base, second = stashing(), (1, 2, 0)
    base.start(ROWS, FIRST)
    sent = base.start(ROWS[::-1].copy(), second)
    base.propagate(FIRST, gradient, begins_step=True)
    base.update()
    # What a gradient of the second step is, computed where nothing was updated between.
    alone = stashing()
    alone.start(ROWS, FIRST)
    np.testing.assert_array_equal(alone.start(ROWS[::-1].copy(), second), sent)
    alone.propagate(second, gradient, begins_step=True)
    expected = [p.grad for p in alone.module.parameters()]

    # A process that begins at a checkpoint between the two has the same bits.
    resumed = stashing()
    resumed.module.load_state_dict(base.module.state_dict())
    resumed.restore_kept({name: tensor.clone() for name, tensor in base.kept().items()})
    np.testing.assert_array_equal(resumed.start(ROWS[::-1].copy(), second), sent)
    for each in (base, resumed):
        each.propagate(second, gradient, begins_step=True)
        for parameter, other in zip(each.module.parameters(), expected, strict=True):
            assert parameter.grad is not None
            assert other is not None
            assert torch.equal(parameter.grad, other)
        each.update()
    for name, tensor in base.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name]), name
    assert not base.kept()


def test_further_steps_use_the_same_gradient() -> None:
    base, again = part(), part()
    gradient = np.full((3, 3), 0.5, dtype=np.float32)
    before = weight_of(base.module)
    base.start(ROWS, FIRST)
    base.propagate(FIRST, gradient, begins_step=True)
    base.update()
    base.repeat(ROWS, FIRST, gradient, range(1, 3))
    again.repeat(ROWS, FIRST, gradient, range(3))
    # A linear model has the same gradient at all weights.
    step = 0.1 * torch.from_numpy(gradient).T @ torch.from_numpy(FEATURES[ROWS])
    for each in (base, again):
        torch.testing.assert_close(weight_of(each.module), before - 3 * step)


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
    base.start(ROWS, FIRST)
    base.propagate(FIRST, np.zeros((3, 2), dtype=np.float32), begins_step=True)
    base.update()
    base.repeat(ROWS, FIRST, np.zeros((3, 2), dtype=np.float32), range(2))


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
