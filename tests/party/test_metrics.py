import math

import pytest
import torch

from slstream.party.metrics import validation_metrics
from slstream.protocol.early_stop import LOWER_IS_BETTER
from slstream.topology.checks import LOSS_METRICS


def test_binary() -> None:
    output = torch.tensor([[2.0], [-1.0], [0.5], [-3.0]])
    metrics = validation_metrics("bce", output, torch.tensor([1.0, 1.0, 0.0, 0.0]), 0.7)
    # Three of the four (positive, negative) pairs are in order.
    assert metrics == {"loss": 0.7, "auc": 0.75, "accuracy": 0.5}
    assert metrics == validation_metrics(
        "bce", output.squeeze(1), torch.tensor([1.0, 1.0, 0.0, 0.0]), 0.7
    )


def test_classes() -> None:
    output = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    metrics = validation_metrics("cross_entropy", output, torch.tensor([0, 1, 2, 2]), 0.7)
    assert metrics["accuracy"] == 0.75
    assert metrics["auc"] == 1.0


def test_the_mean_area_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(1)
    output, labels = torch.randn(60, 3, generator=generator), torch.arange(60) % 3
    expected = roc_auc_score(
        labels.numpy(), output.double().softmax(dim=1).numpy(), multi_class="ovr"
    )
    metrics = validation_metrics("cross_entropy", output, labels, 0.7)
    assert metrics["auc"] == pytest.approx(expected)


def test_regression() -> None:
    output = torch.tensor([[1.0], [2.0], [4.0]])
    metrics = validation_metrics("mse", output, torch.tensor([1.0, 2.0, 3.0]), 0.3)
    assert metrics == {"loss": 0.3, "mae": pytest.approx(1 / 3), "r2": 0.5}


@pytest.mark.parametrize(
    ("loss", "output", "labels", "names"),
    [
        ("bce", torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]), {"loss", "accuracy"}),
        ("cross_entropy", torch.zeros(2, 3), torch.tensor([1, 1]), {"loss", "accuracy"}),
        # Class 2 does not occur; the others still have their curves.
        ("cross_entropy", torch.zeros(2, 3), torch.tensor([0, 1]), {"loss", "accuracy", "auc"}),
        ("mse", torch.zeros(2), torch.tensor([3.0, 3.0]), {"loss", "mae"}),
        ("mse", torch.zeros(1), torch.tensor([3.0]), {"loss", "mae"}),
        ("m:Loss", torch.zeros(2, 3), torch.tensor([0.0, 1.0]), {"loss"}),
        ("bce", torch.tensor([math.nan, 1.0]), torch.tensor([0.0, 1.0]), {"loss"}),
        ("bce", torch.zeros(0), torch.zeros(0), {"loss"}),
    ],
)
def test_a_metric_that_the_rows_do_not_define_is_left_out(
    loss: str, output: torch.Tensor, labels: torch.Tensor, names: set[str]
) -> None:
    # Warnings are errors in tests, so scikit-learn has none to give either.
    assert validation_metrics(loss, output, labels, 0.5).keys() == names


def test_every_metric_has_a_goal() -> None:
    names = {name for names in LOSS_METRICS.values() for name in names}
    assert names - LOWER_IS_BETTER == {"accuracy", "auc", "r2"}
