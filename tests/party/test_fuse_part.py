from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import SessionAborted
from slstream.party.base_part import BasePart, make_optimizer
from slstream.party.fuse_part import Combine, FusePart

ROWS = np.array([3, 1, 0])


def activations(parties: str = "abc") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {party: torch.randn(64, 5, generator=generator) for party in parties}


@pytest.mark.parametrize("how", ["concat", "sum", "mean", "list"])
def test_parties_are_combined_in_the_order_of_their_ids(how: str) -> None:
    by_party = activations()
    expected = Combine(how)(by_party)
    for order in itertools.permutations(by_party):
        found = Combine(how)({party: by_party[party] for party in order})
        assert all(map(torch.equal, found, expected))
    a, b, c = by_party.values()
    meaning = {
        "concat": (torch.cat([a, b, c], dim=1),),
        "sum": ((a + b) + c,),
        "mean": (((a + b) + c) / 3,),
        "list": (a, b, c),
    }
    assert all(map(torch.equal, expected, meaning[how]))
    # The order counts: another one gives other bits, so the test above can fail.
    assert not torch.equal((a + b) + c, a + (b + c))


def fuse(
    combine: str = "concat", features: int = 5, base: BasePart | None = None, lr: float = 0.1
) -> FusePart:
    torch.manual_seed(0)
    module = nn.Linear(features, 1)
    return FusePart(
        "alice",
        Combine(combine),
        module,
        nn.BCEWithLogitsLoss(),
        make_optimizer("sgd", {"lr": lr}, module, ""),
        np.array([0, 1, 1, 0], dtype=np.float32),
        seed=1,
        base=base,
    )


def test_a_step_gives_the_gradients_of_the_joined_model() -> None:
    torch.manual_seed(4)
    own = nn.Linear(2, 2)
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    base = BasePart("alice", own, make_optimizer("sgd", {"lr": 0.1}, own, ""), features, 1)
    part = fuse(features=7, base=base)
    cut = activations("b")["b"][:3].numpy().copy()

    leaf = torch.from_numpy(cut.copy()).requires_grad_()
    output = part.module(torch.cat([own(torch.from_numpy(features[ROWS])), leaf], dim=1))
    loss = nn.functional.binary_cross_entropy_with_logits(
        output.squeeze(-1), torch.tensor([0.0, 1.0, 0.0])
    )
    torch.autograd.backward(loss)
    assert own.weight.grad is not None
    weight = own.weight.detach() - 0.1 * own.weight.grad

    before = own.weight.detach().clone()
    gradients, value = part.propagate({"b": cut}, ROWS, (1, 1, 0), batch_rows=3, begins_step=True)
    assert torch.equal(own.weight, before)
    part.update()
    assert value == loss.item()
    assert leaf.grad is not None
    np.testing.assert_array_equal(gradients["b"], leaf.grad.numpy())
    torch.testing.assert_close(own.weight.detach(), weight)


def test_a_party_that_the_model_ignores_gets_zeros() -> None:
    part = fuse()

    class First(nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return first[:, :1]

    part.module = First()
    part._combine = Combine("list")
    cuts = {party: tensor[:3].numpy() for party, tensor in activations("bc").items()}
    gradients, _ = part.propagate(cuts, ROWS, (1, 1, 0), batch_rows=3, begins_step=True)
    assert gradients["b"].any()
    assert gradients["c"].shape == (3, 5)
    assert not gradients["c"].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_anything_changes(bad: float) -> None:
    part = fuse()
    before = {name: t.clone() for name, t in part.module.state_dict().items()}
    cut = np.full((3, 5), bad, dtype=np.float32)
    with pytest.raises(SessionAborted, match=r"loss is (nan|inf) in epoch 2, step 3.*diverged"):
        part.propagate({"b": cut}, ROWS, (2, 3, 0), batch_rows=3, begins_step=True)
    for name, tensor in part.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_slices_weigh_by_their_rows() -> None:
    cut = activations("b")["b"][:3].numpy()
    whole, sliced = fuse(), fuse()
    gradients, loss = whole.propagate(
        {"b": cut.copy()}, ROWS, (1, 1, 0), batch_rows=3, begins_step=True
    )
    found, losses = [], []
    for number, rows in enumerate((slice(0, 2), slice(2, 3))):
        part, value = sliced.propagate(
            {"b": cut[rows].copy()},
            ROWS[rows],
            (1, 1, number),
            batch_rows=3,
            begins_step=number == 0,
        )
        found.append(part["b"])
        losses.append(value)
    assert sum(losses) == pytest.approx(loss)
    np.testing.assert_allclose(np.concatenate(found), gradients["b"], rtol=1e-5)
    for one, other in zip(whole.module.parameters(), sliced.module.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_further_steps_have_the_same_activations() -> None:
    cut = activations("b")["b"][:3].numpy()
    parts = [fuse(), fuse()]
    state = {name: t.clone() for name, t in parts[0].module.state_dict().items()}
    first = parts[0].repeat({"b": cut.copy()}, ROWS, (1, 1, 0), range(3))
    for number in range(3):
        place = (1, 1, 0)
        _, loss = parts[1].propagate(
            {"b": cut.copy()}, ROWS, place, batch_rows=3, begins_step=True, again=number
        )
        assert number or loss == first
        parts[1].update()
    for one, other in zip(*(part.module.parameters() for part in parts), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, state["weight" if one.ndim == 2 else "bias"])


def test_outputs_of_all_validation_batches_come_once() -> None:
    part = fuse()
    cut = activations("b")["b"]
    assert part.outputs() is None
    part.predict({"b": cut[:3]}, ROWS)
    part.predict({"b": cut[3:4]}, np.array([2]))
    found = part.outputs()
    assert found is not None
    output, target, loss = found
    torch.testing.assert_close(output, part.module(cut[:4]).detach())
    assert target.tolist() == [0, 1, 0, 1]
    assert loss == pytest.approx(
        nn.functional.binary_cross_entropy_with_logits(output.squeeze(-1), target).item()
    )
    assert part.outputs() is None
