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
    gradients, value = part.start({"b": cut}, ROWS, 1, 1)
    assert torch.equal(own.weight, before)
    part.finish()
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
    gradients, _ = part.start(cuts, ROWS, 1, 1)
    assert gradients["b"].any()
    assert gradients["c"].shape == (3, 5)
    assert not gradients["c"].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_anything_changes(bad: float) -> None:
    part = fuse()
    before = {name: t.clone() for name, t in part.module.state_dict().items()}
    with pytest.raises(SessionAborted, match=r"loss is (nan|inf) in epoch 2, step 3.*diverged"):
        part.start({"b": np.full((3, 5), bad, dtype=np.float32)}, ROWS, 2, 3)
    for name, tensor in part.module.state_dict().items():
        assert torch.equal(tensor, before[name])


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
